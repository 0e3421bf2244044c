"""Decoding of JSON that comes from a server: the exceptions for what cannot be decoded, and a second, tolerant attempt.

msgspec is strict: an integer written as `7.0`, half of a surrogate pair, a line end in a string or a byte that is not
UTF-8 make it refuse the whole text. The JSON parsers of Python, JavaScript and Go accept most of these, so clients of a
server do not notice them. The second attempt costs about 20 times as much, and only texts that msgspec refuses pay it.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from typing import TypeVar

import msgspec

T = TypeVar("T")

#: msgspec raises UnicodeDecodeError if a string is not valid UTF-8, and RecursionError if the nesting is too deep.
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

#: A longer text is not decoded a second time. Events and lines of a stream have some hundred bytes.
_MAX_REPAIRED_BYTES = 1024 * 1024
_SURROGATE = re.compile("[\ud800-\udfff]")
_MAX_PROBLEM = 200


def decode_tolerantly(decode: Callable[[bytes], T], text: bytes) -> T:
    """Decode a text that `decode` has refused, after its oddities were removed. Raises one of UNREADABLE.

    A float without a fraction becomes an integer. Lone surrogates and bytes that are not UTF-8 become U+FFFD.
    """
    return decode(_repaired(text))


def decode_together(decode: Callable[[bytes], list[T]], texts: list[bytes], begin: bytes, end: bytes) -> list[T] | None:
    """Decode JSON texts, each framed by `begin` and `end`, as one array, which takes half the time.

    Returns None if a text is not framed like this, or if the array has not as many values as there are texts, so that a
    text cannot be matched with its value. They have to be decoded one by one then.
    """
    if not all(map(bytes.endswith, texts, itertools.repeat(end))):
        return None
    body = b"".join(texts)
    if not body.startswith(begin):
        return None
    # Strings of JSON have no bare line ends, so what separates two texts is in no value.
    inner = body[len(begin) : -len(end)].replace(end + begin, b",")
    try:
        values = decode(b"[%b]" % inner)
    except UNREADABLE:
        return None
    return values if len(values) == len(texts) else None


def _repaired(text: bytes) -> bytes:
    if len(text) > _MAX_REPAIRED_BYTES:
        return text
    try:
        value = _loads(text.decode("utf-8-sig", "replace"))
        return _SURROGATE.sub("\ufffd", json.dumps(value, ensure_ascii=False)).encode()
    except ValueError:
        return text


def _number(text: str) -> float | int:
    value = float(text)
    return int(value) if value.is_integer() and abs(value) < 2**63 else value


_loads = json.JSONDecoder(strict=False, parse_float=_number, parse_constant=lambda name: None).decode


def problem_of(error: BaseException) -> str:
    """Return one line that names the field which could not be decoded, and what is wrong. It quotes no value."""
    if not isinstance(error, msgspec.MsgspecError):
        return "a string is not valid UTF-8" if isinstance(error, UnicodeDecodeError) else "it is nested too deeply"
    if not isinstance(error, msgspec.ValidationError):
        return f"not valid JSON: {_lower(str(error).removeprefix('JSON is malformed: '))}"[:_MAX_PROBLEM]
    reason, _, path = str(error).partition(" - at `$")
    field = path.strip(".`")
    sentence = _lower(reason).replace(", got ", ", not ").replace("`", "")
    return (f"{field}: {sentence}" if field else sentence)[:_MAX_PROBLEM]


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
