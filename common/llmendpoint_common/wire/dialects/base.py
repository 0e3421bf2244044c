"""Base classes of the dialects: readers for a stream of events and for one object."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import suppress

from llmendpoint_common.wire.bounded_body import BoundedBody
from llmendpoint_common.wire.decoding import UNREADABLE
from llmendpoint_common.wire.dialects.reading import OnContent, Reading
from llmendpoint_common.wire.sse import EventSplitter, ServerSentEvent


class Reader(ABC):
    """Base of all dialects. It has the reading of one response, and calls `on_content` for each piece with content."""

    __slots__ = ("_now", "_on_content", "reading")

    def __init__(self, on_content: OnContent) -> None:
        self.reading = Reading()
        self._on_content = on_content
        self._now = 0.0

    def keep_text(self) -> None:
        """Keep the text of the content."""
        self.reading.texts = []

    @abstractmethod
    def feed(self, data: bytes, now: float) -> None:
        """Read the next bytes of the body. `now` is the time at which they arrived."""

    def feed_all(self, pieces: list[bytes], times: list[float]) -> None:
        """Read several pieces of the body, each with the time at which it arrived."""
        for piece, now in zip(pieces, times, strict=True):
            self.feed(piece, now)

    def _content(self) -> None:
        self.reading.chunks += 1
        self._on_content(self._now)


class EventReader(Reader):
    """Reads a stream of server-sent events."""

    __slots__ = ("_events",)

    def __init__(self, on_content: OnContent) -> None:
        super().__init__(on_content)
        self._events = EventSplitter()

    def feed(self, data: bytes, now: float) -> None:
        """Read the next bytes of the body. An event that cannot be decoded is counted as unreadable."""
        self._now = now
        for event in self._events.feed(data):
            try:
                self._read_event(event)
            except UNREADABLE as error:
                self.reading.note_unreadable(error)

    def close(self, now: float) -> None:
        """Read a last event that has no empty line after it, and count lines that were too long.

        WHATWG HTML, 9.2.6, discards such an event. The clients of model servers read it, for example a `[DONE]` without
        a line end. It is discarded only if it cannot be decoded, because then it is incomplete.
        """
        self._now = now
        for event in self._events.flush():
            with suppress(*UNREADABLE):
                self._read_event(event)
        self.reading.unreadable += self._events.overlong

    @abstractmethod
    def _read_event(self, event: ServerSentEvent) -> None:
        """Add one event to the reading. Raises one of UNREADABLE if it cannot be decoded."""


class ObjectReader(Reader):
    """Reads one JSON object."""

    __slots__ = ("_body",)

    def __init__(self, on_content: OnContent) -> None:
        super().__init__(on_content)
        self._body = BoundedBody()

    def feed(self, data: bytes, now: float) -> None:
        """Collect the next bytes of the body."""
        self._body.feed(data)

    def close(self, now: float) -> None:
        """Read the object. An object that was too large counts as finished and as unreadable."""
        self._now = now
        body = self._body.finish()
        if body is None:
            self.reading.unreadable += 1
            self.reading.finished = True
            return
        try:
            self._read_object(body)
        except UNREADABLE as error:
            self.reading.note_unreadable(error)
        else:
            self.reading.is_whole = self.reading.chunks > 0
            self.reading.finished = True

    @abstractmethod
    def _read_object(self, body: bytes) -> None:
        """Add the object to the reading. Raises one of UNREADABLE if it cannot be decoded."""
