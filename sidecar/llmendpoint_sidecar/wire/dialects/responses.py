"""OpenAI's responses: named events, the last one of which carries the whole response and its usage."""

from __future__ import annotations

import msgspec

from llmendpoint_sidecar.wire.body import BoundedBody
from llmendpoint_sidecar.wire.events import OnContent, Reading, Usage
from llmendpoint_sidecar.wire.sse import EventSplitter, ServerSentEvent

_COMPLETED, _INCOMPLETE = b"response.completed", b"response.incomplete"
_FAILED = (b"response.failed", b"error")
_CREATED = b"response.created"


class _InputDetails(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    input_tokens: int = 0
    output_tokens: int = 0
    input_tokens_details: _InputDetails | None = None


class _Response(msgspec.Struct):
    model: str = ""
    status: str = ""
    usage: _Usage | None = None


class _Event(msgspec.Struct):
    """An event's data: `delta` is text of the answer, of reasoning or of a function call's arguments."""

    type: str = ""
    delta: str = ""
    response: _Response | None = None


_decode_event = msgspec.json.Decoder(_Event).decode
_decode_response = msgspec.json.Decoder(_Response).decode


class _Reader:
    __slots__ = ("_on_content", "reading")

    def __init__(self, on_content: OnContent) -> None:
        self.reading = Reading()
        self._on_content = on_content

    def _take_response(self, response: _Response) -> None:
        reading = self.reading
        reading.model = response.model or reading.model
        if response.status == "incomplete":
            reading.reason = "length"
        if response.status == "failed":
            reading.failed = True
        if response.usage is not None:
            details = response.usage.input_tokens_details
            reading.usage = Usage(
                prompt_tokens=response.usage.input_tokens,
                generation_tokens=response.usage.output_tokens,
                cached_tokens=details.cached_tokens if details else None,
            )


class ResponsesStreamDialect(_Reader):
    """Reads the event stream; there is no `[DONE]`, its end is `response.completed`."""

    __slots__ = ("_events",)

    def __init__(self, on_content: OnContent) -> None:
        super().__init__(on_content)
        self._events = EventSplitter()

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the body."""
        for event in self._events.feed(data):
            self._read(event)

    def close(self) -> None:
        """An event that was not dispatched does not count."""
        self.reading.unreadable += self._events.overlong

    def _read(self, event: ServerSentEvent) -> None:
        name = event.name
        if not (name.endswith(b".delta") or name in (_CREATED, _COMPLETED, _INCOMPLETE, *_FAILED)):
            return
        if name in _FAILED:
            self.reading.failed = True
            return
        try:
            item = _decode_event(event.data)
        except msgspec.MsgspecError:
            self.reading.unreadable += 1
            return
        if name.endswith(b".delta"):
            if item.delta:
                self.reading.chunks += 1
                self._on_content()
            return
        if name != _CREATED:
            self.reading.finished = True
        if item.response is not None:
            self._take_response(item.response)


class ResponsesObjectDialect(_Reader):
    """Reads one `response` object."""

    __slots__ = ("_body",)

    def __init__(self, on_content: OnContent) -> None:
        super().__init__(on_content)
        self._body = BoundedBody()

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the body."""
        self._body.feed(data)

    def close(self) -> None:
        """The object is whole: read it."""
        try:
            self._take_response(_decode_response(self._body.take() or b""))
        except msgspec.MsgspecError:
            self.reading.unreadable += 1
        else:
            self.reading.finished = True
