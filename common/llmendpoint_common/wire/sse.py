"""Splitter for server-sent events (WHATWG HTML, 9.2.6), limited to the fields that model servers use."""

from __future__ import annotations

from typing import NamedTuple

from llmendpoint_common.wire.ndjson import LineSplitter

_MARK = b"\xef\xbb\xbf"


class ServerSentEvent(NamedTuple):
    """A dispatched event. `name` is empty if the event has no name."""

    name: bytes
    data: bytes


class EventSplitter:
    """Turns pieces of bytes into dispatched events. Comments, `id` and `retry` are skipped."""

    __slots__ = ("_data", "_lines", "_name")

    def __init__(self) -> None:
        self._lines = LineSplitter()
        self._name = b""
        self._data: list[bytes] = []

    @property
    def overlong(self) -> int:
        """Number of lines that were dropped because they were too long."""
        return self._lines.overlong

    @property
    def is_between(self) -> bool:
        """Whether all bytes so far belong to events that have been returned."""
        return not self._data and not self._name and self._lines.is_between

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """Return the events that `data` completes."""
        events: list[ServerSentEvent] = []
        for line in self._lines.feed(data):
            text = line.removesuffix(b"\r")
            if text.startswith(b"data:"):
                self._data.append(text[5:].removeprefix(b" "))
            elif text.startswith(b"event:"):
                self._name = text[6:].removeprefix(b" ")
            elif not text:
                self._dispatch(events)
            elif text.startswith(_MARK):
                self._read_marked(text.removeprefix(_MARK))
        return events

    def flush(self) -> list[ServerSentEvent]:
        """Return the event that the end of the stream cuts off, if there is one, with its last line."""
        return self.feed(b"\n\n")

    def _read_marked(self, text: bytes) -> None:
        """Read the first line, without its byte-order mark (WHATWG HTML, 9.2.6)."""
        if text.startswith(b"data:"):
            self._data.append(text[5:].removeprefix(b" "))
        elif text.startswith(b"event:"):
            self._name = text[6:].removeprefix(b" ")

    def _dispatch(self, events: list[ServerSentEvent]) -> None:
        if self._data:
            events.append(ServerSentEvent(self._name, b"\n".join(self._data)))
            self._data = []
        self._name = b""
