"""OpenAI's chat completions as Ollama and others serve them: SSE ending with `[DONE]`, or one JSON object."""

from __future__ import annotations

import msgspec

from llmendpoint_sidecar.wire.body import BoundedBody
from llmendpoint_sidecar.wire.events import OnContent, Reading, Usage
from llmendpoint_sidecar.wire.sse import EventSplitter

_DONE = b"[DONE]"


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
        """Tell whether this choice carries anything of the answer; `/v1/completions` has it in `text`."""
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
    error: msgspec.Raw | None = None


_decode = msgspec.json.Decoder(_Object).decode


class _Reader:
    """What chunks and whole answers have in common."""

    __slots__ = ("_on_content", "reading")

    def __init__(self, on_content: OnContent) -> None:
        self.reading = Reading()
        self._on_content = on_content

    def _read(self, text: bytes) -> bool:
        """Account for one JSON object; False where it is none."""
        try:
            item = _decode(text)
        except msgspec.MsgspecError:
            self.reading.unreadable += 1
            return False
        reading = self.reading
        for choice in item.choices:
            if choice.has_content():
                reading.chunks += 1
                self._on_content()
            if choice.finish_reason:
                reading.reason = choice.finish_reason
        if item.model:
            reading.model = item.model
        if item.error is not None:
            reading.failed = True
        if item.usage is not None:
            details = item.usage.prompt_tokens_details
            reading.usage = Usage(
                prompt_tokens=item.usage.prompt_tokens,
                generation_tokens=item.usage.completion_tokens,
                cached_tokens=details.cached_tokens if details else None,
            )
        return True


class OpenAIStreamDialect(_Reader):
    """Reads the event stream; usage is there only with `stream_options.include_usage`, and the last one counts."""

    __slots__ = ("_events",)

    def __init__(self, on_content: OnContent) -> None:
        super().__init__(on_content)
        self._events = EventSplitter()

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the body."""
        for event in self._events.feed(data):
            if event.data == _DONE:
                self.reading.finished = True
            else:
                self._read(event.data)

    def close(self) -> None:
        """An event that was not dispatched does not count (WHATWG HTML, 9.2.6)."""
        self.reading.unreadable += self._events.overlong


class OpenAIObjectDialect(_Reader):
    """Reads one object: a chat completion, a completion or a list of embeddings."""

    __slots__ = ("_body",)

    def __init__(self, on_content: OnContent) -> None:
        super().__init__(on_content)
        self._body = BoundedBody()

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the body."""
        self._body.feed(data)

    def close(self) -> None:
        """The object is whole: read it."""
        self.reading.finished = self._read(self._body.take() or b"")
