"""What axe-core finds on a page that violates rules, so that an empty list on other pages is a result."""

from __future__ import annotations

from typing import Any

import pytest

from support.dashboard.accessibility import violations

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore")]

PAGE = """<!doctype html><html lang="en"><title>A page</title><main><h1>A page</h1>
<img src="data:,"><p style="color: #999; background: #aaa">Text</p>
<button style="position: fixed; left: 0; width: 9px; height: 9px; padding: 0" aria-label="One"></button>
<button style="position: fixed; left: 9px; width: 9px; height: 9px; padding: 0" aria-label="Two"></button></main></html>"""


def test_each_violated_rule_is_named_with_its_element(browser: Any, axe: str) -> None:
    tab = browser.new_page()
    tab.set_content(PAGE)
    found = dict(line.split(": ", 1) for line in violations(tab, axe))
    assert found.keys() == {"image-alt", "color-contrast"}
    assert found["image-alt"] == '<img src="data:,">'
    # axe runs the rule about sizes only if it is asked for the rules of its tag.
    assert [line.partition(":")[0] for line in violations(tab, axe, ["wcag22aa"])] == ["target-size"]
    tab.close()
