"""Specs in which one text at a time is replaced, to see where the texts of a spec end up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def planted(value: Any, canary: str, path: str = "spec") -> Iterator[tuple[str, Any]]:
    """Yield a copy of `value` for each text in it, with its path.

    The text is a string, a number that may also be written as a string, or the key of an entry. In one copy it is
    replaced by the canary, in another one the canary is appended to it.
    """
    if isinstance(value, dict):
        for key, item in value.items():
            yield f"{path}.{key} (key)", {**{name: kept for name, kept in value.items() if name != key}, canary: item}
            for place, changed in planted(item, canary, f"{path}.{key}"):
                yield place, {**value, key: changed}
    elif isinstance(value, list):
        for index, item in enumerate(value):
            for place, changed in planted(item, canary, f"{path}[{index}]"):
                yield place, [*value[:index], changed, *value[index + 1 :]]
    elif not isinstance(value, bool):
        yield path, canary
        yield path, f"{value}{canary}"
