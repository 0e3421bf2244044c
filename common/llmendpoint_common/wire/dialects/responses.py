"""Dialect of OpenAI's responses: named events, of which the last one contains the whole response and its usage."""

from __future__ import annotations

import msgspec

from llmendpoint_common.wire.decoding import UNREADABLE, decode_tolerantly
from llmendpoint_common.wire.dialects.base import EventReader, ObjectReader, Reader
from llmendpoint_common.wire.dialects.reading import Usage
from llmendpoint_common.wire.sse import ServerSentEvent

_COMPLETED, _INCOMPLETE = b"response.completed", b"response.incomplete"
_FAILED = (b"response.failed", b"error")
_CREATED = b"response.created"


class _InputDetails(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    input_tokens: int | None = 0
    output_tokens: int | None = 0
    input_tokens_details: _InputDetails | None = None


class _Response(msgspec.Struct):
    model: str | None = None
    status: str | None = None
    usage: _Usage | None = None


class _Event(msgspec.Struct):
    """Data of an event. `delta` is text of the output, of the reasoning, or of the arguments of a function call."""

    type: str | None = None
    delta: str | None = None
    response: _Response | None = None


_decode_event = msgspec.json.Decoder(_Event).decode
_decode_response = msgspec.json.Decoder(_Response).decode


def _read_event(data: bytes) -> _Event:
    try:
        return _decode_event(data)
    except UNREADABLE:
        return decode_tolerantly(_decode_event, data)


class _ResponseReader(Reader):
    """Reads the response object, which is also part of the last event of a stream."""

    __slots__ = ()

    def _read_response(self, response: _Response) -> None:
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


class ResponsesStreamDialect(_ResponseReader, EventReader):
    """Reads the event stream. It ends with `response.completed`, without `[DONE]`."""

    __slots__ = ()

    def _read_event(self, event: ServerSentEvent) -> None:
        name = event.name
        if name in _FAILED:
            self.reading.fail(event.data)
        elif name.endswith(b".delta"):
            if _read_event(event.data).delta:
                self._content()
        elif name in (_CREATED, _COMPLETED, _INCOMPLETE):
            self.reading.finished = name != _CREATED
            response = _read_event(event.data).response
            if response is not None:
                self._read_response(response)


class ResponsesObjectDialect(_ResponseReader, ObjectReader):
    """Reads one `response` object."""

    __slots__ = ()

    def _read_object(self, body: bytes) -> None:
        try:
            response = _decode_response(body)
        except UNREADABLE:
            response = decode_tolerantly(_decode_response, body)
        self._read_response(response)
