"""Text in JSON as Go's encoding/json reads it: field names without regard to case, and strings with any damage.

Ollama decodes requests with that package. It accepts more than the JSON standard (RFC 8259) and most decoders.
"""

from __future__ import annotations

import re
from json import JSONDecodeError, JSONDecoder

_SURROGATE = re.compile("[\ud800-\udfff]")
#: Letters beyond ASCII that equal an ASCII letter in Go's comparison of field names (encoding/json, foldRune).
_ALSO = {"s": "\u017f", "k": "\u212a"}


_decode = JSONDecoder(strict=False).decode


def text_of(raw: bytes) -> str:
    """Return the text of bytes. Each byte that is not UTF-8 becomes U+FFFD.

    Python's error handler `replace` replaces the beginning of a truncated character as a whole, and Go each byte.
    """
    return _SURROGATE.sub("\ufffd", raw.decode("utf-8", "surrogateescape"))


def unquote(raw: bytes) -> str | None:
    """Return the value of a JSON string, given without its quotes. None if Go refuses it.

    Bytes that are not UTF-8 and lone surrogates become U+FFFD.
    """
    if raw.isascii() and b"\\" not in raw:
        return raw.decode()
    try:
        text = _decode(f'"{raw.decode("utf-8", "surrogateescape")}"')
    except JSONDecodeError:
        return None
    return _SURROGATE.sub("\ufffd", text) if isinstance(text, str) else None


def spellings(name: str) -> str:
    """Return a regular expression for all ways to write a lower-case ASCII field name in the bytes of JSON text."""
    return "".join(map(_spellings_of_letter, name))


def _spellings_of_letter(letter: str) -> str:
    same = {letter, letter.upper(), *_ALSO.get(letter, "")}
    raw = [re.escape(one.encode()).decode("latin-1") for one in sorted(same)]
    escaped = ["".join(map(_hex_digit, f"{ord(one):04x}")) for one in sorted(same)]
    return f"(?:{'|'.join(raw)}|\\\\u(?:{'|'.join(escaped)}))"


def _hex_digit(digit: str) -> str:
    return f"[{digit}{digit.upper()}]" if digit.isalpha() else digit
