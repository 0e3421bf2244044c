"""Anthropic's messages: `message_start` estimates the usage, `message_delta` has the true one, `message_stop` ends."""

from __future__ import annotations

import msgspec

from llmendpoint_sidecar.wire.body import BoundedBody
from llmendpoint_sidecar.wire.events import OnContent, Reading, Usage
from llmendpoint_sidecar.wire.sse import EventSplitter, ServerSentEvent


class _Usage(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None


class _Message(msgspec.Struct):
    model: str = ""
    stop_reason: str | None = None
    usage: _Usage | None = None


class _Delta(msgspec.Struct):
    text: str = ""
    thinking: str = ""
    partial_json: str = ""
    stop_reason: str | None = None


class _Block(msgspec.Struct):
    type: str = ""


class _Event(msgspec.Struct):
    message: _Message | None = None
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: _Usage | None = None


_decode_event = msgspec.json.Decoder(_Event).decode
_decode_message = msgspec.json.Decoder(_Message).decode


class _Reader:
    __slots__ = ("_on_content", "reading")

    def __init__(self, on_content: OnContent) -> None:
        self.reading = Reading()
        self._on_content = on_content

    def _take_usage(self, usage: _Usage | None) -> None:
        if usage is None:
            return
        mine = self.reading.usage = self.reading.usage or Usage()
        if usage.input_tokens is not None:
            mine.prompt_tokens = usage.input_tokens
        if usage.output_tokens is not None:
            mine.generation_tokens = usage.output_tokens
        if usage.cache_read_input_tokens is not None:
            mine.cached_tokens = usage.cache_read_input_tokens

    def _take_stop(self, reason: str | None) -> None:
        if reason:
            self.reading.reason = "length" if reason == "max_tokens" else reason


class MessagesStreamDialect(_Reader):
    """Reads the event stream."""

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
        reading = self.reading
        if event.name == b"message_stop":
            reading.finished = True
            return
        if event.name == b"error":
            reading.failed = True
            return
        try:
            item = _decode_event(event.data)
        except msgspec.MsgspecError:
            reading.unreadable += 1
            return
        if item.message is not None:
            # Its usage is an estimate: a stream that is cut here has no usage at all.
            reading.model = item.message.model or reading.model
        self._take_usage(item.usage)
        if item.delta is not None:
            self._take_stop(item.delta.stop_reason)
            if item.delta.text or item.delta.thinking or item.delta.partial_json:
                reading.chunks += 1
                self._on_content()


class MessagesObjectDialect(_Reader):
    """Reads one `message` object."""

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
            message = _decode_message(self._body.take() or b"")
        except msgspec.MsgspecError:
            self.reading.unreadable += 1
            return
        self.reading.model = message.model
        self._take_usage(message.usage)
        self._take_stop(message.stop_reason)
        self.reading.finished = True
