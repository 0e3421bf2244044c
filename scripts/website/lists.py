"""Lists as GitHub reads them, written as Python-Markdown reads them."""

from __future__ import annotations

import re
from collections.abc import Iterator

#: Spaces by which Python-Markdown expects the content of an item to be indented, on each level.
INDENT = 4
_ITEM = re.compile(r"(?P<marker>[-*+]|\d{1,9}[.)]) +(?=\S)")
_FENCE = re.compile(r"(`{3,}|~{3,})")


def with_deep_indents(markdown: str) -> str:
    """Return Markdown whose lists Python-Markdown nests as CommonMark does.

    In CommonMark, the content of an item is indented as far as its first word, and a list may follow a paragraph
    without an empty line. Python-Markdown expects four spaces on each level, and an empty line.
    """
    return "\n".join(_lines(markdown.split("\n")))


def _lines(lines: list[str]) -> Iterator[str]:
    levels: list[int] = []  # the column at which the content of each open item begins
    fence, before = "", ""
    of_item = False  # whether the present block of lines begins with an item
    for line in lines:
        text = line.lstrip(" ")
        if fence:
            yield _shifted(line, levels)
            fence = "" if text.startswith(fence) and not text.strip(fence[0]) else fence
        elif item := _item(text, within=bool(levels), after_text=bool(before)):
            if before and not of_item:
                yield ""
            of_item = True
            column = len(line) - len(text)
            _leave(levels, column)
            yield " " * (INDENT * len(levels)) + text
            levels.append(column + item.end())
        else:
            if text and not before:
                of_item = False
                _leave(levels, len(line) - len(text))
            yield _shifted(line, levels) if text else ""
            fence = opened[0] if (opened := _FENCE.match(text)) else ""
        before = text


def _item(text: str, *, within: bool, after_text: bool) -> re.Match[str] | None:
    """Return the marker of an item. A line of a paragraph that begins with a number is none, unless the number is 1."""
    item = _ITEM.match(text)
    if item and after_text and not within and item["marker"][0].isdigit() and int(item["marker"][:-1]) != 1:
        return None
    return item


def _leave(levels: list[int], column: int) -> None:
    """Close the items that content at a column does not belong to."""
    while levels and column < levels[-1]:
        levels.pop()


def _shifted(line: str, levels: list[int]) -> str:
    """Return a line of the content of the innermost open item, at the indentation of its level."""
    if not levels:
        return line
    text = line.lstrip(" ")
    return " " * (INDENT * len(levels) + max(0, len(line) - len(text) - levels[-1])) + text
