"""Dialect of OpenAI's completions: events of which the last one is `[DONE]`, or one object."""

from __future__ import annotations

import msgspec

from llmendpoint_common.wire.decoding import UNREADABLE, decode_together, decode_tolerantly
from llmendpoint_common.wire.dialects.base import EventReader, ObjectReader, Reader
from llmendpoint_common.wire.dialects.reading import Usage
from llmendpoint_common.wire.sse import ServerSentEvent

_DONE = b"[DONE]"
#: msgspec accepts nothing but null for `Raw | None`.
_NO_ERROR = msgspec.Raw()
#: Values of `error` that are not an error. Some servers send the field in every chunk.
_NOT_ERRORS = frozenset({b"null", b'""', b"{}", b"[]", b"false"})


class _Delta(msgspec.Struct, gc=False):
    content: str | list[msgspec.Raw] | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[msgspec.Raw] | None = None
    #: The form of tool calls before `tool_calls`.
    function_call: dict[str, msgspec.Raw] | None = None
    refusal: str | None = None

    def has_output(self) -> bool:
        return bool(self.content or self.tool_calls or self.function_call or self.refusal)

    def is_thinking(self) -> bool:
        return bool(self.reasoning or self.reasoning_content)


class _Choice(msgspec.Struct, gc=False):
    delta: _Delta | None = None
    message: _Delta | None = None
    #: The content in `/v1/completions`.
    text: str | None = None
    finish_reason: str | None = None


class _PromptDetails(msgspec.Struct, gc=False):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: int | None = 0
    completion_tokens: int | None = 0
    prompt_tokens_details: _PromptDetails | None = None


class _Object(msgspec.Struct, gc=False):
    model: str | None = None
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: msgspec.Raw = _NO_ERROR


_decode = msgspec.json.Decoder(_Object).decode
_decode_list = msgspec.json.Decoder(list[_Object]).decode
#: What frames the data of an event without a name. A space after the colon is part of the JSON text.
_BEGIN, _END = b"data:", b"\n\n"


class _CompletionReader(Reader):
    """Reads the fields that stream chunks and complete responses have in common."""

    __slots__ = ()

    def _read_completion(self, text: bytes) -> None:
        try:
            item = _decode(text)
        except UNREADABLE:
            item = decode_tolerantly(_decode, text)
        self._read_item(item)

    def _read_item(self, item: _Object) -> None:
        reading = self.reading
        for choice in item.choices or ():
            part = choice.delta or choice.message
            if choice.text or (part is not None and part.has_output()):
                self._content()
            elif part is not None and part.is_thinking():
                reading.thoughts += 1
                self._content()
            if choice.finish_reason:
                reading.reason = choice.finish_reason
        if item.choices and reading.texts is not None:
            part = item.choices[0].delta or item.choices[0].message
            text = item.choices[0].text if part is None else part.content
            if isinstance(text, str):
                reading.texts.append(text)
        if item.model:
            reading.model = item.model
        if item.error is not _NO_ERROR and bytes(item.error) not in _NOT_ERRORS:
            reading.fail(bytes(item.error))
        if item.usage is not None:
            self._read_usage(item.usage)

    def _read_usage(self, usage: _Usage) -> None:
        if usage.prompt_tokens is None and usage.completion_tokens is None:
            return
        details = usage.prompt_tokens_details
        self.reading.usage = Usage(
            prompt_tokens=usage.prompt_tokens,
            generation_tokens=usage.completion_tokens,
            cached_tokens=details.cached_tokens if details else None,
        )


class OpenAIStreamDialect(_CompletionReader, EventReader):
    """Reads the event stream. It has usage only with `stream_options.include_usage`. The last usage counts."""

    __slots__ = ()

    def feed_all(self, pieces: list[bytes], times: list[float]) -> None:
        """Read several pieces of the body. If each of them is one event, as usual, they are decoded together."""
        items = decode_together(_decode_list, pieces, _BEGIN, _END) if self._events.is_between else None
        if items is None:
            super().feed_all(pieces, times)
            return
        for item, now in zip(items, times, strict=True):
            self._now = now
            self._read_item(item)

    def close(self, now: float) -> None:
        """Read the end. A stream whose framing is complete is finished after a `finish_reason`, also without [DONE]."""
        super().close(now)
        if self.reading.reason:
            self.reading.finished = True

    def _read_event(self, event: ServerSentEvent) -> None:
        data = event.data
        if data == _DONE:
            self.reading.finished = True
            return
        if event.name == b"error":
            self.reading.fail(data)
            return
        try:
            self._read_completion(data)
        except UNREADABLE:
            # Only here, because almost all events can be decoded. An event without data keeps a connection open.
            text = data.strip()
            if text.startswith(_DONE):
                self.reading.finished = True
            elif text:
                raise


class OpenAIObjectDialect(_CompletionReader, ObjectReader):
    """Reads one object: a chat completion, a completion or a list of embeddings."""

    __slots__ = ()

    def _read_object(self, body: bytes) -> None:
        self._read_completion(body)
