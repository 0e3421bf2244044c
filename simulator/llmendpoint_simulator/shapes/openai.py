"""Events and objects of `/v1/chat/completions` and `/v1/completions`."""

from __future__ import annotations

import secrets
import time
from typing import Any

from llmendpoint_common.contracts.sidecar import Operation
from llmendpoint_simulator.shapes.base import Piece, Tails, Timings, ToolCall, Work, encode

_ZERO_USAGE = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


class OpenAIShape:
    """Chat completions of one request."""

    operation = Operation.OPENAI_CHAT
    content_type = "text/event-stream"
    is_ollama = False
    stream_fields: tuple[tuple[str, str], ...] = ()

    _kind, _chunk_kind, _prefix = "chat.completion", "chat.completion.chunk", "chatcmpl"

    def __init__(self) -> None:
        self._id = f"{self._prefix}-{secrets.randbelow(1000)}"
        #: The bytes before the time, and between the time and the choices.
        self._begin = self._middle = b""

    def piece(self, work: Work, piece: Piece) -> bytes:
        """Return one event."""
        return self._frame_of_chunk(work) + _CHAT_TAILS.of(piece)

    def last(self, work: Work, _: Timings) -> bytes:
        """Return the finish reason, the usage if it was requested, and `[DONE]`."""
        end = self._event(work, [_choice(_reason(work), delta=_message(Piece()))])
        usage = self._event(work, [], usage=usage_of(work)) if work.include_usage else b""
        return end + usage + b"data: [DONE]\n\n"

    def whole(self, work: Work, piece: Piece, _: Timings) -> bytes:
        """Return one completion."""
        choice = _choice(_reason(work), message=_message(piece))
        return encode({**self._frame(work, self._kind), "choices": [choice], "usage": usage_of(work)})

    def error(self, _: str) -> bytes:
        """Return an event without content. Ollama 0.17.4 converts the error to a chunk, and its text is lost."""
        frame = {**self._frame(None, self._chunk_kind), "choices": [_choice(None, delta=_message(Piece()))]}
        return b"data: " + encode(frame) + b"\n\n"

    def _frame_of_chunk(self, work: Work) -> bytes:
        """Return a chunk up to its choices, as `_frame` has them."""
        if not self._begin:
            begin, name = encode({"id": self._id, "object": self._chunk_kind})[:-1], encode(work.name)
            self._begin = b'data: %b,"created":' % begin
            self._middle = b',"model":%b,"system_fingerprint":"fp_ollama"' % name
        return self._begin + b"%d" % time.time() + self._middle

    def _event(self, work: Work, choices: list[dict[str, Any]], **rest: Any) -> bytes:
        return b"data: " + encode({**self._frame(work, self._chunk_kind), "choices": choices, **rest}) + b"\n\n"

    def _frame(self, work: Work | None, kind: str) -> dict[str, Any]:
        model = work.name if work is not None else ""
        return {"id": self._id, "object": kind, "created": int(time.time()), "model": model,
                "system_fingerprint": "fp_ollama"}  # fmt: skip


class OpenAICompletionsShape(OpenAIShape):
    """Text completions of one request. Each chunk has a usage of zero, and the last event the real usage."""

    operation = Operation.OPENAI_COMPLETIONS

    _kind, _chunk_kind, _prefix = "text_completion", "text_completion", "cmpl"

    def piece(self, work: Work, piece: Piece) -> bytes:
        """Return one event."""
        tails = _USAGE_TAILS if work.include_usage else _TEXT_TAILS
        return self._frame_of_chunk(work) + tails.of(piece)

    def last(self, work: Work, _: Timings) -> bytes:
        """Return the finish reason, the usage if it was requested, and `[DONE]`."""
        end = self._text_event(work, "", work.answer.reason)
        usage = self._event(work, [], usage=usage_of(work)) if work.include_usage else b""
        return end + usage + b"data: [DONE]\n\n"

    def whole(self, work: Work, piece: Piece, _: Timings) -> bytes:
        """Return one completion."""
        choice = _choice(work.answer.reason, text=piece.text)
        return encode({**self._frame(work, self._kind), "choices": [choice], "usage": usage_of(work)})

    def error(self, _: str) -> bytes:
        """Return an event without content, as for chat completions."""
        frame = {**self._frame(None, self._chunk_kind), "choices": [_choice(None, text="")]}
        return b"data: " + encode(frame) + b"\n\n"

    def _text_event(self, work: Work, text: str, reason: str | None) -> bytes:
        usage = {"usage": _ZERO_USAGE} if work.include_usage else {}
        return self._event(work, [_choice(reason, text=text)], **usage)


def usage_of(work: Work) -> dict[str, Any]:
    """Return the usage in OpenAI's format."""
    prompt = work.entry.prompt_tokens
    usage: dict[str, Any] = {"prompt_tokens": prompt, "completion_tokens": work.tokens}
    usage["total_tokens"] = prompt + work.tokens
    if work.cached_tokens:
        # Only newer versions than 0.17.4 have it.
        usage["prompt_tokens_details"] = {"cached_tokens": work.cached_tokens}
    return usage


def function_of(call: ToolCall) -> dict[str, str]:
    """Return the name and the arguments of a call. The arguments are a string of JSON."""
    return {"name": call.name, "arguments": encode(call.arguments).decode()}


def _message(piece: Piece) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": piece.text}
    if piece.thinking:
        message["reasoning"] = piece.thinking
    if piece.tool_calls:
        message["tool_calls"] = [
            {"id": call.id, "index": index, "type": "function", "function": function_of(call)}
            for index, call in enumerate(piece.tool_calls)
        ]
    return message


def _choice(reason: str | None, **rest: Any) -> dict[str, Any]:
    return {"index": 0, "finish_reason": reason, **rest}


def _reason(work: Work) -> str:
    return "tool_calls" if work.answer.calls_tools else work.answer.reason


def _tail(choice: dict[str, Any], **rest: Any) -> bytes:
    """Return an event from its choices."""
    return b"," + encode({"choices": [choice], **rest})[1:] + b"\n\n"


_CHAT_TAILS = Tails(lambda piece: _tail(_choice(None, delta=_message(piece))))
_TEXT_TAILS = Tails(lambda piece: _tail(_choice(None, text=piece.text)))
_USAGE_TAILS = Tails(lambda piece: _tail(_choice(None, text=piece.text), usage=_ZERO_USAGE))
