"""What dialects have in common: an account, and how bytes become events or one object."""

from __future__ import annotations

from abc import ABC, abstractmethod

from llmendpoint_common.wire.bounded_body import BoundedBody
from llmendpoint_common.wire.decoding import UNREADABLE
from llmendpoint_common.wire.dialects.reading import OnContent, Reading
from llmendpoint_common.wire.sse import EventSplitter, ServerSentEvent


class Reader:
    """Keeps the account of one response, and tells of each piece of content."""

    __slots__ = ("_now", "_on_content", "reading")

    def __init__(self, on_content: OnContent) -> None:
        self.reading = Reading()
        self._on_content = on_content
        self._now = 0.0

    def _content(self) -> None:
        self.reading.chunks += 1
        self._on_content(self._now)


class EventReader(Reader, ABC):
    """Reads a stream of server-sent events."""

    __slots__ = ("_events",)

    def __init__(self, on_content: OnContent) -> None:
        super().__init__(on_content)
        self._events = EventSplitter()

    def feed(self, data: bytes, now: float) -> None:
        """Take the next bytes of the body; an event that is not what it should be is counted."""
        self._now = now
        for event in self._events.feed(data):
            try:
                self._read_event(event)
            except UNREADABLE:
                self.reading.unreadable += 1

    def close(self, now: float) -> None:
        """An event that was not dispatched does not count (WHATWG HTML, 9.2.6)."""
        self.reading.unreadable += self._events.overlong

    @abstractmethod
    def _read_event(self, event: ServerSentEvent) -> None:
        """Account for one event; one of UNREADABLE where it cannot be read."""


class ObjectReader(Reader, ABC):
    """Reads one JSON object."""

    __slots__ = ("_body",)

    def __init__(self, on_content: OnContent) -> None:
        super().__init__(on_content)
        self._body = BoundedBody()

    def feed(self, data: bytes, now: float) -> None:
        """Take the next bytes of the body."""
        self._body.feed(data)

    def close(self, now: float) -> None:
        """The object is whole: read it. One that is too large to keep is whole, and not read."""
        self._now = now
        body = self._body.finish()
        if body is None:
            self.reading.unreadable += 1
            self.reading.finished = True
            return
        try:
            self._read_object(body)
        except UNREADABLE:
            self.reading.unreadable += 1
        else:
            self.reading.finished = True

    @abstractmethod
    def _read_object(self, body: bytes) -> None:
        """Account for the object; one of UNREADABLE where it cannot be read."""
