"""Dialect of Anthropic's messages: `message_delta` has the final usage, and `message_stop` is the last event."""

from __future__ import annotations

import msgspec

from llmendpoint_common.wire.decoding import UNREADABLE, decode_tolerantly
from llmendpoint_common.wire.dialects.base import EventReader, ObjectReader, Reader
from llmendpoint_common.wire.dialects.reading import Usage
from llmendpoint_common.wire.sse import ServerSentEvent


class _Usage(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None


class _Message(msgspec.Struct):
    model: str | None = None
    stop_reason: str | None = None
    usage: _Usage | None = None


class _Delta(msgspec.Struct):
    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None
    stop_reason: str | None = None


class _Event(msgspec.Struct):
    message: _Message | None = None
    delta: _Delta | None = None
    usage: _Usage | None = None


_decode_event = msgspec.json.Decoder(_Event).decode
_decode_message = msgspec.json.Decoder(_Message).decode


class _MessageReader(Reader):
    """Reads the fields that streamed and other responses have in common."""

    __slots__ = ()

    def _read_usage(self, usage: _Usage | None) -> None:
        if usage is None:
            return
        mine = self.reading.usage = self.reading.usage or Usage()
        if usage.input_tokens is not None:
            mine.prompt_tokens = usage.input_tokens
        if usage.output_tokens is not None:
            mine.generation_tokens = usage.output_tokens
        if usage.cache_read_input_tokens is not None:
            mine.cached_tokens = usage.cache_read_input_tokens

    def _read_stop_reason(self, reason: str | None) -> None:
        if reason:
            self.reading.reason = "length" if reason == "max_tokens" else reason


class MessagesStreamDialect(_MessageReader, EventReader):
    """Reads the event stream."""

    __slots__ = ()

    def _read_event(self, event: ServerSentEvent) -> None:
        reading = self.reading
        if event.name == b"message_stop":
            reading.finished = True
            return
        if event.name == b"error":
            reading.fail(event.data)
            return
        try:
            item = _decode_event(event.data)
        except UNREADABLE:
            item = decode_tolerantly(_decode_event, event.data)
        if item.message is not None:
            # The usage in message_start is an estimate, so it is not read. A stream that is cut off here has no usage.
            reading.model = item.message.model or reading.model
        self._read_usage(item.usage)
        if item.delta is not None:
            self._read_stop_reason(item.delta.stop_reason)
            if item.delta.text or item.delta.thinking or item.delta.partial_json:
                self._content()


class MessagesObjectDialect(_MessageReader, ObjectReader):
    """Reads one `message` object."""

    __slots__ = ()

    def _read_object(self, body: bytes) -> None:
        try:
            message = _decode_message(body)
        except UNREADABLE:
            message = decode_tolerantly(_decode_message, body)
        self.reading.model = message.model or ""
        self._read_usage(message.usage)
        self._read_stop_reason(message.stop_reason)
