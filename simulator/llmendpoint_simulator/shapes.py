"""How each API writes the pieces of an answer."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import msgspec
from aiohttp import web

from llmendpoint_simulator.ledger import Entry

_encode = msgspec.json.encode


class Timings(msgspec.Struct):
    """Seconds that one answer took, as Ollama's durations tell them; `arrived` is the loop's time when it was asked."""

    arrived: float = 0.0
    total: float = 0.0
    load: float = 0.0
    prefill: float = 0.0
    decode: float = 0.0


class Work(msgspec.Struct):
    """One request to answer: what was asked, how much comes out."""

    model: str
    prompt: str
    tokens: int
    stream: bool
    include_usage: bool
    keep_alive: timedelta
    entry: Entry


class Shape(Protocol):
    """How one API writes the pieces of an answer."""

    operation: str
    content_type: str
    is_ollama: bool

    def piece(self, work: Work, text: str) -> bytes:
        """Return one streamed piece."""

    def last(self, work: Work, timings: Timings) -> bytes:
        """Return what ends a whole stream."""

    def whole(self, work: Work, text: str, timings: Timings) -> bytes:
        """Return the answer that is not streamed."""

    def error(self, sentence: str) -> bytes:
        """Return an error inside a stream; empty where the API just ends."""


class OllamaShape:
    """NDJSON lines of /api/generate and /api/chat."""

    content_type = "application/x-ndjson"
    is_ollama = True

    def __init__(self, operation: str) -> None:
        self.operation = operation

    def piece(self, work: Work, text: str) -> bytes:
        """Return one line."""
        return self._line(work, text, done=False)

    def last(self, work: Work, timings: Timings) -> bytes:
        """Return the final line, which carries no text."""
        return self._line(work, "", done=True, **_durations(work, timings))

    def whole(self, work: Work, text: str, timings: Timings) -> bytes:
        """Return one object."""
        return self._line(work, text, done=True, **_durations(work, timings)).rstrip()

    def error(self, sentence: str) -> bytes:
        """Return Ollama's error line."""
        return _encode({"error": sentence}) + b"\n"

    def _line(self, work: Work, text: str, *, done: bool, **rest: Any) -> bytes:
        content = (
            {"response": text} if self.operation == "generate" else {"message": {"role": "assistant", "content": text}}
        )
        line = {"model": work.model, "created_at": timestamp(), **content, "done": done, **rest}
        return _encode(line) + b"\n"


class OpenAIShape:
    """Events of /v1/chat/completions."""

    operation = "openai_chat"
    content_type = "text/event-stream"
    is_ollama = False

    def piece(self, work: Work, text: str) -> bytes:
        """Return one event."""
        return self._event(work, [self._choice(delta={"role": "assistant", "content": text})])

    def last(self, work: Work, _: Timings) -> bytes:
        """Return the finish, the usage where it was asked for, and [DONE]."""
        end = self._event(work, [self._choice(delta={"role": "assistant", "content": ""}, finish_reason=_reason(work))])
        usage = self._event(work, [], usage=_usage(work)) if work.include_usage else b""
        return end + usage + b"data: [DONE]\n\n"

    def whole(self, work: Work, text: str, _: Timings) -> bytes:
        """Return one `chat.completion`."""
        message = {"role": "assistant", "content": text}
        choice = self._choice(message=message, finish_reason=_reason(work))
        return _encode({**self._frame(work, "chat.completion"), "choices": [choice], "usage": _usage(work)})

    def error(self, _: str) -> bytes:
        """Ollama ends these streams without a word."""
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
    """Events of /v1/completions: zero usage on each piece, the true one last."""

    operation = "openai_completions"

    def piece(self, work: Work, text: str) -> bytes:
        """Return one event."""
        zero = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
        usage = {"usage": zero} if work.include_usage else {}
        return self._event(work, [self._choice(text=text)], **usage)

    def last(self, work: Work, _: Timings) -> bytes:
        """Return the finish, the usage where it was asked for, and [DONE]."""
        usage = {"usage": _usage(work)} if work.include_usage else {}
        return self._event(work, [self._choice(text="", finish_reason=_reason(work))], **usage) + b"data: [DONE]\n\n"

    def whole(self, work: Work, text: str, _: Timings) -> bytes:
        """Return one `text_completion`."""
        choice = self._choice(text=text, finish_reason=_reason(work))
        return _encode({**self._frame(work, "text_completion"), "choices": [choice], "usage": _usage(work)})


class _NamedEventsShape:
    """What the two APIs of named events have in common."""

    content_type = "text/event-stream"
    is_ollama = False

    @staticmethod
    def _named(name: str, **data: Any) -> bytes:
        return f"event: {name}\n".encode() + b"data: " + _encode({"type": name, **data}) + b"\n\n"

    @staticmethod
    def _usage(work: Work) -> dict[str, int]:
        return {"input_tokens": work.entry.prompt_tokens, "output_tokens": work.tokens}

    def error(self, _: str) -> bytes:
        """Ollama ends these streams without a word."""
        return b""


class ResponsesShape(_NamedEventsShape):
    """Events of /v1/responses: no `[DONE]`; the last event carries the whole response."""

    operation = "openai_responses"

    def piece(self, work: Work, text: str) -> bytes:
        """Return one event, before the first one `response.created`."""
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
    """Events of /v1/messages: `message_start` estimates the usage, `message_delta` has the true one."""

    operation = "anthropic_messages"

    def piece(self, work: Work, text: str) -> bytes:
        """Return one event, before the first one `message_start`."""
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
        """Return the true usage and the end."""
        delta = self._named("message_delta", delta={"stop_reason": "end_turn"}, usage=self._usage(work))
        return delta + self._named("message_stop")

    def whole(self, work: Work, text: str, _: Timings) -> bytes:
        """Return one message."""
        content = [{"type": "text", "text": text}]
        return _encode({"id": "msg_1", "type": "message", "role": "assistant", "model": work.model, "content": content,
                        "stop_reason": "end_turn", "usage": self._usage(work)})  # fmt: skip


def failure(status: int, sentence: str, shape: Shape | None = None) -> web.Response:
    """Return an error in the shape that the route's clients read."""
    body: dict[str, Any] = {"error": sentence}
    if shape is not None and shape.operation == "anthropic_messages":
        body = {"type": "error", "error": {"type": "api_error", "message": sentence}}
    elif shape is not None and not shape.is_ollama:
        body = {"error": {"message": sentence, "type": "api_error", "param": None, "code": None}}
    return web.json_response(body, status=status)


def _durations(work: Work, timings: Timings) -> dict[str, Any]:
    """Return the final fields; Ollama omits what is zero."""
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
    """Return the time as Ollama writes it."""
    return datetime.now(UTC).isoformat()
