"""Dialect of OpenAI's completions: events of which the last one is `[DONE]`, or one object."""

from __future__ import annotations

import msgspec

from llmendpoint_common.wire.dialects.base import EventReader, ObjectReader, Reader
from llmendpoint_common.wire.dialects.reading import Usage
from llmendpoint_common.wire.sse import ServerSentEvent

_DONE = b"[DONE]"
_NO_ERROR = msgspec.Raw()


class _Delta(msgspec.Struct):
    content: str | list[msgspec.Raw] | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[msgspec.Raw] | None = None

    def has_content(self) -> bool:
        return bool(self.content or self.reasoning or self.reasoning_content or self.tool_calls)


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    message: _Delta | None = None
    text: str = ""
    finish_reason: str | None = None

    def has_content(self) -> bool:
        """Return whether this choice contains content. In `/v1/completions`, the content is in `text`."""
        part = self.delta or self.message
        return bool(self.text) or (part is not None and part.has_content())


class _PromptDetails(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _PromptDetails | None = None


class _Object(msgspec.Struct):
    model: str = ""
    choices: list[_Choice] = []
    usage: _Usage | None = None
    #: msgspec accepts nothing but null for `Raw | None`.
    error: msgspec.Raw = _NO_ERROR


_decode = msgspec.json.Decoder(_Object).decode


class _CompletionReader(Reader):
    """Reads the fields that stream chunks and complete responses have in common."""

    __slots__ = ()

    def _read_completion(self, text: bytes) -> None:
        item = _decode(text)
        reading = self.reading
        for choice in item.choices:
            if choice.has_content():
                self._content()
            if choice.finish_reason:
                reading.reason = choice.finish_reason
        if item.model:
            reading.model = item.model
        if item.error is not _NO_ERROR and bytes(item.error) != b"null":
            reading.failed = True
        if item.usage is not None:
            details = item.usage.prompt_tokens_details
            reading.usage = Usage(
                prompt_tokens=item.usage.prompt_tokens,
                generation_tokens=item.usage.completion_tokens,
                cached_tokens=details.cached_tokens if details else None,
            )


class OpenAIStreamDialect(_CompletionReader, EventReader):
    """Reads the event stream. It has usage only with `stream_options.include_usage`. The last usage counts."""

    __slots__ = ()

    def _read_event(self, event: ServerSentEvent) -> None:
        if event.data == _DONE:
            self.reading.finished = True
        else:
            self._read_completion(event.data)


class OpenAIObjectDialect(_CompletionReader, ObjectReader):
    """Reads one object: a chat completion, a completion or a list of embeddings."""

    __slots__ = ()

    def _read_object(self, body: bytes) -> None:
        self._read_completion(body)
