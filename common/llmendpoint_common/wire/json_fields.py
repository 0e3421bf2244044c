"""Scanner that finds fields at the top level of a JSON object while its bytes arrive, without decoding the object.

It reads a superset of JSON: it follows strings, escapes and the depth of brackets, and checks nothing else. For every
text that Ollama accepts, it finds the values that Ollama finds (`go_json`). What it finds in a damaged text does not
matter, because Ollama refuses that text.

The text is handled in bulk. A regular expression searches for the wanted names. Between two of them, the scanner needs
only the depth and whether a string is open: it removes escapes, splits the text at its quotes, and counts the brackets
outside strings. Functions written in C do all of this, in steps of STEP_BYTES. Nothing is recursive, and no work is
done twice, so the cost is linear for every input.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum, auto
from typing import NamedTuple, TypeAlias

from llmendpoint_common.wire.go_json import spellings

#: Maximum size of a piece. It bounds the memory for intermediate results, which is at most 40 times as large.
STEP_BYTES = 16 * 1024
#: Cost of a place that matches a name: 0.5 to 3 µs, where other bytes take 1 to 50 ns each.
STOP_COST_BYTES = 128
#: Maximum size of a value that is read, in bytes of JSON.
MAX_VALUE_BYTES = 1024

_SPACE = re.compile(rb"[ \t\r\n]*+")
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_REST_OF_STRING = re.compile(rb'(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)
_PLAIN = re.compile(rb'[^"\\\[\]{}]*+')
#: A shorter part is first tested for characters that have a meaning.
_SHORT_BYTES = 64
_NOT_BRACKETS = bytes(sorted(set(range(256)) - set(b"[]{}")))
_ONE_KIND = bytes.maketrans(b"{}", b"[]")
_CLOSING = b"]}"


class Kind(Enum):
    """Kinds of values. TOO_LONG is a string that is longer than MAX_VALUE_BYTES."""

    STRING = auto()
    TOO_LONG = auto()
    OBJECT = auto()
    TRUE = auto()
    FALSE = auto()
    NULL = auto()
    OTHER = auto()


class Member(NamedTuple):
    """A wanted field. `spelling` is the name in the bytes of the text.

    `text` is a string with its quotes, or the first MAX_VALUE_BYTES of an object; otherwise it is empty.
    """

    name: str
    spelling: bytes
    kind: Kind
    text: bytes = b""


OnMember: TypeAlias = Callable[[Member], None]

_KINDS = {ord("t"): Kind.TRUE, ord("f"): Kind.FALSE, ord("n"): Kind.NULL, ord("{"): Kind.OBJECT}


class Names:
    """Names of wanted fields, in lower case, with the pattern that finds all of their spellings."""

    def __init__(self, *names: str) -> None:
        groups = "|".join(f"(?P<{name}>{spellings(name)})" for name in names)
        self.pattern = re.compile(f'"(?:{groups})"'.encode("latin-1"))
        #: A longer text without a quote cannot be the beginning of a name.
        self.longest_bytes = 1 + 6 * max(map(len, names))


class _State(Enum):
    """What the scanner expects next."""

    START = auto()
    TEXT = auto()
    COLON = auto()
    VALUE = auto()
    ENDED = auto()


class FieldScanner:
    """Scans one text. `on_member` is called for each occurrence of a wanted field, in the order of the text."""

    __slots__ = (
        "_base",
        "_depth",
        "_escaped",
        "_final",
        "_in_string",
        "_key",
        "_names",
        "_on_member",
        "_rest",
        "_state",
        "end",
        "stops",
    )

    def __init__(self, names: Names, on_member: OnMember) -> None:
        self._names = names
        self._on_member = on_member
        self._state = _State.START
        self._depth = 0
        #: Whether a string is open, and whether the last character was its backslash.
        self._in_string = self._escaped = False
        #: The name and the spelling of the field whose value comes next.
        self._key = ("", b"")
        #: Bytes that wait for more, at most MAX_VALUE_BYTES, and the offset of their beginning in the text.
        self._rest = b""
        self._base = 0
        self._final = False
        #: Number of places that matched one of the names. Each costs as much as STOP_COST_BYTES other bytes.
        self.stops = 0
        #: Offset of the bracket that closes the object, or -1. Bytes after it are ignored, as in Ollama.
        self.end = -1

    @property
    def ended(self) -> bool:
        """Whether the rest of the text cannot change anything."""
        return self._state is _State.ENDED

    def feed(self, piece: bytes) -> None:
        """Read the next bytes, split anywhere; at most STEP_BYTES."""
        data = self._rest + piece if self._rest else piece
        self._rest = b""
        position = 0
        while position < len(data) and self._state is not _State.ENDED:
            position = _STEPS[self._state](self, data, position)
        self._base += len(data) - len(self._rest)

    def finish(self) -> None:
        """Read the bytes that waited for more, after the end of the text."""
        self._final = True
        self.feed(b"")

    # ---- steps: each reads from `position` and returns the position after it

    def _start(self, data: bytes, position: int) -> int:
        position = _end_of_space(data, position)
        if position < len(data):
            is_object = data[position] == ord("{")
            self._state = _State.TEXT if is_object else _State.ENDED
            self._depth = 1
        return position + 1

    def _text(self, data: bytes, position: int) -> int:
        search = self._names.pattern.search
        found = search(data, position)
        while found is not None:
            self.stops += 1
            if not self._skip(data, position, found.start()):
                return len(data)
            if not self._in_string and self._depth == 1:
                self._key = (found.lastgroup or "", found[0])
                self._state = _State.COLON
                return found.end()
            # This is a string elsewhere, or an escaped quote with the rest of its string.
            position = found.end()
            self._in_string = self._escaped = False
            found = search(data, position)
        stop = len(data)
        if not self._final:
            quote = data.rfind(b'"', max(position, stop - self._names.longest_bytes))
            stop = stop if quote < 0 else quote
        if self._skip(data, position, stop):
            self._rest = data[stop:]
        return len(data)

    def _colon(self, data: bytes, position: int) -> int:
        position = _end_of_space(data, position)
        if position == len(data):
            return position
        if data[position] != ord(":"):
            self._state = _State.TEXT
            return position
        self._state = _State.VALUE
        return position + 1

    def _value(self, data: bytes, position: int) -> int:
        position = _end_of_space(data, position)
        if position == len(data):
            return position
        kind, text = self._read_value(data, position)
        if kind is None:
            self._rest = data[position:]
            return len(data)
        self._state = _State.TEXT
        self._on_member(Member(*self._key, kind, text))
        return position + len(text) if kind is Kind.STRING else position

    # ---- inside

    def _read_value(self, data: bytes, position: int) -> tuple[Kind | None, bytes]:
        """Return the value at a position. Its kind is None if more bytes are needed."""
        is_long = len(data) - position >= MAX_VALUE_BYTES
        kind = _KINDS.get(data[position], Kind.OTHER)
        if kind is Kind.OBJECT:
            return (kind if is_long or self._final else None), data[position : position + MAX_VALUE_BYTES]
        if data[position] != ord('"'):
            return kind, b""
        string = _STRING.match(data, position, position + MAX_VALUE_BYTES)
        if string is not None:
            return Kind.STRING, string[0]
        if is_long:
            return Kind.TOO_LONG, b""
        return (Kind.OTHER if self._final else None), b""

    def _skip(self, data: bytes, start: int, stop: int) -> bool:
        """Follow strings and brackets in a part of the text. Returns False if the object ends in it."""
        if stop - start < _SHORT_BYTES and not self._escaped and _is_plain(data, start, stop):
            return True
        was_in_string, was_escaped = self._in_string, self._escaped
        text = data[start + was_escaped : stop] if stop > start else b""
        if stop > start:
            self._escaped = False
        if b"\\" in text:
            text = text.replace(b"\\\\", b"")
            self._escaped = text.endswith(b"\\")
            text = text.replace(b'\\"', b"")
        parts = text.split(b'"')
        outside = b"".join(parts[was_in_string::2])
        self._in_string = was_in_string ^ (len(parts) % 2 == 0)
        brackets = outside.translate(_ONE_KIND, _NOT_BRACKETS)
        closing = brackets.count(b"]")
        if closing < self._depth:
            self._depth += len(brackets) - 2 * closing
            return True
        if self._follow(brackets):
            return True
        self._state = _State.ENDED
        position = self._find_end(data, start + was_escaped, stop, was_in_string)
        self.end = -1 if position < 0 else self._base + position
        return False

    def _follow(self, brackets: bytes) -> bool:
        """Follow brackets one by one. Returns False if they close the object."""
        depth = self._depth
        for bracket in brackets:
            depth += -1 if bracket == ord("]") else 1
            if not depth:
                return False
        self._depth = depth
        return True

    def _find_end(self, data: bytes, start: int, stop: int, in_string: bool) -> int:
        """Return the position of the bracket that closes the object, or -1 if the text is damaged."""
        if in_string:
            match = _REST_OF_STRING.match(data, start, stop)
            start = match.end() if match else stop
        depth = self._depth
        for token in _TOKEN.finditer(data, start, stop):
            first = token[0][:1]
            if first != b'"':
                depth += -1 if first in _CLOSING else 1
                if not depth:
                    return token.start()
        return -1


def _is_plain(data: bytes, start: int, stop: int) -> bool:
    plain = _PLAIN.match(data, start, stop)
    return plain is not None and plain.end() == stop


def _end_of_space(data: bytes, position: int) -> int:
    space = _SPACE.match(data, position)
    return space.end() if space else position


_STEPS: dict[_State, Callable[[FieldScanner, bytes, int], int]] = {
    _State.START: FieldScanner._start,  # noqa: SLF001
    _State.TEXT: FieldScanner._text,  # noqa: SLF001
    _State.COLON: FieldScanner._colon,  # noqa: SLF001
    _State.VALUE: FieldScanner._value,  # noqa: SLF001
}
