"""Collects the text of a response. Only conversations, and questions with `expect`, need it.

Decoding each piece when it arrives would take longer than everything else that is done with it, and delay the other
streams. So pieces are kept, and decoded many at a time.
"""

from __future__ import annotations

from contextlib import suppress

import msgspec

from llmendpoint_common.wire.decoding import UNREADABLE, decode_together, decode_tolerantly
from llmendpoint_common.wire.ndjson import LineSplitter


class _Part(msgspec.Struct, gc=False):
    content: str | None = None


class _Choice(msgspec.Struct, gc=False):
    delta: _Part | None = None
    message: _Part | None = None
    text: str | None = None


class _Item(msgspec.Struct, gc=False):
    """A line, an event or an object of Ollama's or OpenAI's API."""

    response: str | None = None
    message: _Part | None = None
    choices: list[_Choice] | None = None


_decode = msgspec.json.Decoder(_Item).decode
_decode_list = msgspec.json.Decoder(list[_Item]).decode
#: What frames the events of a stream, and its lines.
_FRAMES = ((b"data:", b"\n\n"), (b"", b"\n"))
#: Size of the pieces that are kept before they are decoded: about a hundred chunks of a stream.
_MAX_WAITING_BYTES = 16 * 1024


class TextReader:
    """Reads the content of a stream of lines or events, or of one object, without thinking and tool calls."""

    __slots__ = ("_lines", "_parts", "_size", "_waiting")

    def __init__(self) -> None:
        self._lines = LineSplitter()
        self._parts: list[str] = []
        #: Pieces that have not been decoded, and their size.
        self._waiting: list[bytes] = []
        self._size = 0

    def feed(self, pieces: list[bytes]) -> None:
        """Read the next bytes of the body."""
        self._waiting += pieces
        self._size += sum(map(len, pieces))
        if self._size > _MAX_WAITING_BYTES:
            self._decode_waiting()

    def text(self) -> str:
        """Return the whole text, after the end of the body."""
        self._decode_waiting()
        self._read(self._lines.flush())
        text = "".join(self._parts)
        self._parts = [text]
        return text

    def _decode_waiting(self) -> None:
        pieces, self._waiting, self._size = self._waiting, [], 0
        # The last piece of a stream has more than one event.
        most = self._read_together(pieces[:-1])
        for line in self._lines.feed(b"".join(pieces[most:])):
            self._read(line)

    def _read_together(self, pieces: list[bytes]) -> int:
        """Read pieces if each of them is one event or one line, as usual. Returns how many were read: all or none."""
        begin, end = _FRAMES[not (pieces and pieces[0].startswith(b"data:"))]
        items = decode_together(_decode_list, pieces, begin, end) if self._lines.is_between else None
        for item in items or ():
            self._take(item)
        return len(items or ())

    def _read(self, line: bytes) -> None:
        text = line.removeprefix(b"data:").strip()
        if not text.startswith(b"{"):
            return
        with suppress(*UNREADABLE):
            try:
                item = _decode(text)
            except UNREADABLE:
                item = decode_tolerantly(_decode, text)
            self._take(item)

    def _take(self, item: _Item) -> None:
        if item.response:
            self._parts.append(item.response)
        if item.message is not None and item.message.content:
            self._parts.append(item.message.content)
        # Only the first of several choices is part of a conversation.
        for choice in (item.choices or ())[:1]:
            part = choice.delta or choice.message
            self._parts.append((part.content if part is not None else choice.text) or "")
