"""Shapes: the formats of the responses of each API, streamed and not streamed."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import msgspec
from aiohttp import web

from llmendpoint_common.contracts.sidecar import Operation
from llmendpoint_simulator.ledger import Entry

_encode = msgspec.json.encode


class Timings(msgspec.Struct):
    """Durations of a response in seconds, as Ollama reports them.

    `arrived` is the time of the request on the event loop's clock.
    """

    arrived: float = 0.0
    total: float = 0.0
    load: float = 0.0
    prefill: float = 0.0
    decode: float = 0.0


class Work(msgspec.Struct):
    """A request to answer. `tokens` is the number of tokens of the response."""

    model: str
    prompt: str
    tokens: int
    stream: bool
    include_usage: bool
    keep_alive: timedelta
    entry: Entry


class Shape(Protocol):
    """Format of the responses of one API."""

    operation: Operation
    content_type: str
    is_ollama: bool

    def piece(self, work: Work, text: str) -> bytes:
        """Return one chunk of a stream, with `text` as its content."""

    def last(self, work: Work, timings: Timings) -> bytes:
        """Return the last bytes of a complete stream."""

    def whole(self, work: Work, text: str, timings: Timings) -> bytes:
        """Return a response that is not streamed."""

    def error(self, sentence: str) -> bytes:
        """Return an error inside a stream, or nothing if Ollama ends streams of this API without an error."""


class OllamaShape:
    """NDJSON lines of `/api/generate` and `/api/chat`."""

    content_type = "application/x-ndjson"
    is_ollama = True

    def __init__(self, operation: Operation) -> None:
        self.operation = operation

    def piece(self, work: Work, text: str) -> bytes:
        """Return one line."""
        return self._line(work, text, done=False)

    def last(self, work: Work, timings: Timings) -> bytes:
        """Return the final line, which has durations and counts, but no text."""
        return self._line(work, "", done=True, **_durations(work, timings))

    def whole(self, work: Work, text: str, timings: Timings) -> bytes:
        """Return one object."""
        return self._line(work, text, done=True, **_durations(work, timings)).rstrip()

    def error(self, sentence: str) -> bytes:
        """Return an error line as Ollama writes it."""
        return _encode({"error": sentence}) + b"\n"

    def _line(self, work: Work, text: str, *, done: bool, **rest: Any) -> bytes:
        content = (
            {"response": text}
            if self.operation is Operation.GENERATE
            else {"message": {"role": "assistant", "content": text}}
        )
        line = {"model": work.model, "created_at": timestamp(), **content, "done": done, **rest}
        return _encode(line) + b"\n"


class OpenAIShape:
    """Events of `/v1/chat/completions`."""

    operation = Operation.OPENAI_CHAT
    content_type = "text/event-stream"
    is_ollama = False

    def piece(self, work: Work, text: str) -> bytes:
        """Return one event."""
        return self._event(work, [self._choice(delta={"role": "assistant", "content": text})])

    def last(self, work: Work, _: Timings) -> bytes:
        """Return the finish reason, the usage if it was requested, and `[DONE]`."""
        end = self._event(work, [self._choice(delta={"role": "assistant", "content": ""}, finish_reason=_reason(work))])
        usage = self._event(work, [], usage=_usage(work)) if work.include_usage else b""
        return end + usage + b"data: [DONE]\n\n"

    def whole(self, work: Work, text: str, _: Timings) -> bytes:
        """Return one `chat.completion`."""
        message = {"role": "assistant", "content": text}
        choice = self._choice(message=message, finish_reason=_reason(work))
        return _encode({**self._frame(work, "chat.completion"), "choices": [choice], "usage": _usage(work)})

    def error(self, _: str) -> bytes:
        """Return nothing: Ollama ends these streams without an error."""
        return b""

    def _event(self, work: Work, choices: list[dict[str, Any]], **rest: Any) -> bytes:
        frame = {**self._frame(work, "chat.completion.chunk"), "choices": choices, **rest}
        return b"data: " + _encode(frame) + b"\n\n"

    @staticmethod
    def _frame(work: Work, kind: str) -> dict[str, Any]:
        return {"id": "chatcmpl-1", "object": kind, "created": int(time.time()), "model": work.model}

    @staticmethod
    def _choice(**rest: Any) -> dict[str, Any]:
        return {"index": 0, "finish_reason": None, **rest}


class OpenAICompletionsShape(OpenAIShape):
    """Events of `/v1/completions`. As in Ollama, each chunk has a usage of zero, and the last event the real usage."""

    operation = Operation.OPENAI_COMPLETIONS

    def piece(self, work: Work, text: str) -> bytes:
        """Return one event."""
        zero = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
        usage = {"usage": zero} if work.include_usage else {}
        return self._event(work, [self._choice(text=text)], **usage)

    def last(self, work: Work, _: Timings) -> bytes:
        """Return the finish reason, the usage if it was requested, and `[DONE]`."""
        usage = {"usage": _usage(work)} if work.include_usage else {}
        return self._event(work, [self._choice(text="", finish_reason=_reason(work))], **usage) + b"data: [DONE]\n\n"

    def whole(self, work: Work, text: str, _: Timings) -> bytes:
        """Return one `text_completion`."""
        choice = self._choice(text=text, finish_reason=_reason(work))
        return _encode({**self._frame(work, "text_completion"), "choices": [choice], "usage": _usage(work)})


class _NamedEventsShape:
    """Parts that the two APIs with named events have in common."""

    content_type = "text/event-stream"
    is_ollama = False

    @staticmethod
    def _named(name: str, **data: Any) -> bytes:
        return f"event: {name}\n".encode() + b"data: " + _encode({"type": name, **data}) + b"\n\n"

    @staticmethod
    def _usage(work: Work) -> dict[str, int]:
        return {"input_tokens": work.entry.prompt_tokens, "output_tokens": work.tokens}

    def error(self, _: str) -> bytes:
        """Return nothing: Ollama ends these streams without an error."""
        return b""


class ResponsesShape(_NamedEventsShape):
    """Events of `/v1/responses`. The last event contains the complete response, and there is no `[DONE]`."""

    operation = Operation.OPENAI_RESPONSES

    def piece(self, work: Work, text: str) -> bytes:
        """Return one event, with `response.created` before the first one."""
        created = (
            b""
            if work.entry.sent
            else self._named("response.created", response={"model": work.model, "status": "in_progress"})
        )
        return created + self._named("response.output_text.delta", delta=text)

    def last(self, work: Work, _: Timings) -> bytes:
        """Return `response.completed`."""
        return self._named("response.completed", response=self._response(work, ""))

    def whole(self, work: Work, text: str, _: Timings) -> bytes:
        """Return one response."""
        return _encode(self._response(work, text))

    def _response(self, work: Work, text: str) -> dict[str, Any]:
        output = [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}]
        return {"id": "resp_1", "object": "response", "status": "completed", "model": work.model, "output": output,
                "usage": self._usage(work)}  # fmt: skip


class MessagesShape(_NamedEventsShape):
    """Events of `/v1/messages`. `message_start` has an estimated usage, `message_delta` the real one."""

    operation = Operation.ANTHROPIC_MESSAGES

    def piece(self, work: Work, text: str) -> bytes:
        """Return one event, with `message_start` before the first one."""
        estimate = {"input_tokens": 1, "output_tokens": 1}
        start = {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": work.model,
            "content": [],
            "usage": estimate,
        }
        begun = b"" if work.entry.sent else self._named("message_start", message=start)
        return begun + self._named("content_block_delta", index=0, delta={"type": "text_delta", "text": text})

    def last(self, work: Work, _: Timings) -> bytes:
        """Return the real usage and `message_stop`."""
        delta = self._named("message_delta", delta={"stop_reason": "end_turn"}, usage=self._usage(work))
        return delta + self._named("message_stop")

    def whole(self, work: Work, text: str, _: Timings) -> bytes:
        """Return one message."""
        content = [{"type": "text", "text": text}]
        return _encode({"id": "msg_1", "type": "message", "role": "assistant", "model": work.model, "content": content,
                        "stop_reason": "end_turn", "usage": self._usage(work)})  # fmt: skip


def failure(status: int, sentence: str, shape: Shape | None = None) -> web.Response:
    """Return an error in the format of the route's API."""
    body: dict[str, Any] = {"error": sentence}
    if shape is not None and shape.operation is Operation.ANTHROPIC_MESSAGES:
        body = {"type": "error", "error": {"type": "api_error", "message": sentence}}
    elif shape is not None and not shape.is_ollama:
        body = {"error": {"message": sentence, "type": "api_error", "param": None, "code": None}}
    return web.json_response(body, status=status)


def _durations(work: Work, timings: Timings) -> dict[str, Any]:
    """Return the fields of the final object. Ollama omits fields that are zero."""
    fields: dict[str, Any] = {
        "done_reason": _reason(work),
        "total_duration": round(timings.total * 1e9),
        "load_duration": round(timings.load * 1e9),
        "prompt_eval_count": work.entry.prompt_tokens,
        "prompt_eval_duration": round(timings.prefill * 1e9),
        "eval_count": work.tokens,
        "eval_duration": round(timings.decode * 1e9),
    }
    return {name: value for name, value in fields.items() if value}


def _usage(work: Work) -> dict[str, int]:
    prompt = work.entry.prompt_tokens
    return {"prompt_tokens": prompt, "completion_tokens": work.tokens, "total_tokens": prompt + work.tokens}


def _reason(_: Work) -> str:
    return "stop"


def timestamp() -> str:
    """Return the current time as Ollama writes it (RFC 3339)."""
    return datetime.now(UTC).isoformat()
