"""Writes HTML and SVG. All text is escaped, unless it is markup that this module wrote."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape

#: Elements without content and end tag.
_VOID = frozenset({"meta", "link", "br", "path", "line", "rect", "circle", "polyline"})
#: Characters that XML and HTML do not allow in text.
_NOT_ALLOWED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
#: Characters that change the direction of the text around them.
_DIRECTIONS = re.compile("[\u202a-\u202e\u2066-\u2069]")


class Markup(str):
    """HTML or SVG that needs no escaping."""

    __slots__ = ()


def text(value: object) -> Markup:
    """Return a text in which markup has no effect."""
    if isinstance(value, Markup):
        return value
    plain = _DIRECTIONS.sub("\ufffd", _NOT_ALLOWED.sub("\ufffd", str(value)))
    return Markup(escape(plain, quote=True))


def tag(name: str, /, *children: object, **attributes: object) -> Markup:
    """Return an element. Underscores in names of attributes are dashes; an attribute with None or False is omitted."""
    written = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{text(value)}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in _VOID:
        return Markup(f"<{name}{written}{' /' if name not in ('meta', 'link', 'br') else ''}>")
    return Markup(f"<{name}{written}>{''.join(map(text, children))}</{name}>")


def join(parts: Iterable[object]) -> Markup:
    """Return the parts one after the other."""
    return Markup("".join(map(text, parts)))
