"""Rules for the headers and for the additional fields of a run's requests."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
#: A value is printable text, with tabs (RFC 9110, 5.5). A line end would begin another header.
_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]*")
#: The load generator sets these itself: they belong to the framing, to the connection, or to the records.
_OWN = frozenset(
    [
        "connection",
        "content-encoding",
        "content-length",
        "expect",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-request-id",
    ]
)
_OWN_FIELDS = ("model", "messages", "prompt", "stream")


def header_problem(name: str, value: str) -> str:
    """Return why a header cannot be sent, or an empty text. It does not quote the value, which can be a secret."""
    if not _TOKEN.fullmatch(name):
        return "a name of a header must consist of letters, digits and !#$%&'*+.^_`|~-"
    if name.lower() in _OWN:
        return f"the header {name} is set by the load generator"
    if not _VALUE.fullmatch(value):
        return f"the value of the header {name} contains a control character, for example a line end"
    return ""


def check_headers(headers: Mapping[str, str]) -> None:
    """Raise ValueError if one of the headers cannot be sent, or is given twice."""
    for name, value in headers.items():
        problem = header_problem(name, value)
        if problem:
            raise ValueError(problem)
    if len({name.lower() for name in headers}) < len(headers):
        raise ValueError("a header is given twice; names of headers are compared without regard to case")


def check_body(fields: Mapping[str, Any]) -> None:
    """Raise ValueError if one of the additional fields of the body is set by the load generator."""
    for name in _OWN_FIELDS:
        if name in fields:
            raise ValueError(f"the field {name} of the body is set by the load generator")
