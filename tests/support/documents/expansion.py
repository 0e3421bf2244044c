"""How Kubernetes replaces `$(NAME)` in command lines and environments, as a model for tests.

A translation of `k8s.io/kubernetes/third_party/forked/golang/expansion/expand.go`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any


def expand(text: str, value_of: Callable[[str], str]) -> str:
    """Return a text with its references replaced. `value_of` gets the name of each reference."""
    parts: list[str] = []
    position = 0
    while position < len(text):
        rest = text[position + 1 :]
        if text[position] != "$" or not rest:
            parts.append(text[position])
            position += 1
        elif rest[0] == "(" and ")" in rest:
            name = rest[1 : rest.index(")")]
            parts.append(value_of(name))
            position += len(name) + 3
        else:
            # `$$` stands for `$`; before any other character, `$` stands for itself.
            parts.append("$" if rest[0] == "$" else f"${rest[0]}")
            position += 2
    return "".join(parts)


def references(text: str) -> list[str]:
    """Return the names that Kubernetes would replace in a text."""
    found: list[str] = []

    def note(name: str) -> str:
        found.append(name)
        return ""

    expand(text, note)
    return found


def expanded_texts(pod: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield every text of a pod spec in which Kubernetes replaces references, with its place in the pod."""
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        name = container["name"]
        for field in ("command", "args"):
            yield from ((f"{name}.{field}", text) for text in container.get(field, []))
        for variable in container.get("env", []):
            yield f"{name}.env.{variable['name']}", variable.get("value", "")
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            command = container.get(probe, {}).get("exec", {}).get("command", [])
            yield from ((f"{name}.{probe}", text) for text in command)
