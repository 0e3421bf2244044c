"""The rules of accessibility that a page in a browser violates, as axe-core finds them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# axe lists each element for each rule that it passes, too. It is asked for violations alone, and only these leave the
# browser, because the whole result of a page has up to 1.5 MB.
_VIOLATIONS = """async runOnly => {
  const found = await axe.run({ ...(runOnly.length ? { runOnly } : {}), resultTypes: ["violations"] });
  return found.violations.map(({ id, nodes }) => `${id}: ${nodes[0].html.slice(0, 300)}`);
}"""


def violations(tab: Any, axe: str, tags: Sequence[str] = ()) -> list[str]:
    """Return each violated rule with its first element. Without tags, the rules are those that axe runs by default.

    `axe` is the source of axe-core. It is put into the page as a script, which the policy of a page may not allow.
    """
    if tab.evaluate("typeof axe === 'undefined'"):
        tab.evaluate(axe)
    return list(tab.evaluate(_VIOLATIONS, list(tags)))
