"""Events and objects of `/v1/messages`."""

from __future__ import annotations

import secrets
from typing import Any

from llmendpoint_common.contracts.sidecar import Operation
from llmendpoint_simulator.shapes.base import NAMED_EVENTS_FIELDS, Piece, Timings, ToolCall, Work, encode

_EMPTY_BLOCKS = {"text": {"type": "text", "text": ""}, "thinking": {"type": "thinking", "thinking": ""}}


class MessagesShape:
    """One message. A stream consists of blocks: thinking, text, or a tool call. One block is open at a time."""

    operation = Operation.ANTHROPIC_MESSAGES
    content_type = "text/event-stream"
    is_ollama = False
    stream_fields: tuple[tuple[str, str], ...] = NAMED_EVENTS_FIELDS

    def __init__(self) -> None:
        self._id = f"msg_{secrets.token_hex(12)}"
        self._begun = False
        self._index = 0
        self._open = ""

    def piece(self, work: Work, piece: Piece) -> bytes:
        """Return the events of one piece."""
        events = self._begin(work)
        if piece.thinking:
            events += self._delta("thinking", {"type": "thinking_delta", "thinking": piece.thinking})
        if piece.text:
            events += self._delta("text", {"type": "text_delta", "text": piece.text})
        return events + b"".join(self._call(call) for call in piece.tool_calls)

    def last(self, work: Work, _: Timings) -> bytes:
        """Return the end of the open block, the real usage, and `message_stop`."""
        delta = _event("message_delta", delta={"stop_reason": _reason(work)}, usage=_usage(work))
        return self._begin(work) + self._close() + delta + _event("message_stop")

    def whole(self, work: Work, piece: Piece, _: Timings) -> bytes:
        """Return one message."""
        content: list[dict[str, Any]] = []
        if piece.thinking:
            content.append({"type": "thinking", "thinking": piece.thinking})
        if piece.text:
            content.append({"type": "text", "text": piece.text})
        content += [
            {"type": "tool_use", "id": call.id, "name": call.name, "input": call.arguments} for call in piece.tool_calls
        ]
        message = self._message(work, content or None, _usage(work))
        return encode({**message, "stop_reason": _reason(work)})

    def error(self, _: str) -> bytes:
        """Return nothing: Ollama 0.17.4 ends these streams without an error."""
        return b""

    def _begin(self, work: Work) -> bytes:
        """Return `message_start` for the first piece. Its usage is an estimate: a quarter of the prompt's bytes."""
        if self._begun:
            return b""
        self._begun = True
        estimate = {"input_tokens": max(1, len(work.prompt) // 4), "output_tokens": 0}
        return _event("message_start", message=self._message(work, [], estimate))

    def _message(self, work: Work, content: list[dict[str, Any]] | None, usage: dict[str, int]) -> dict[str, Any]:
        return {"id": self._id, "type": "message", "role": "assistant", "model": work.name, "content": content,
                "usage": usage}  # fmt: skip

    def _delta(self, kind: str, delta: dict[str, str]) -> bytes:
        begin = b""
        if self._open != kind:
            begin = self._close() + self._start(_EMPTY_BLOCKS[kind])
            self._open = kind
        return begin + _event("content_block_delta", index=self._index, delta=delta)

    def _call(self, call: ToolCall) -> bytes:
        block = {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}
        delta = {"type": "input_json_delta", "partial_json": encode(call.arguments).decode()}
        events = self._close() + self._start(block)
        self._open = "tool_use"
        return events + _event("content_block_delta", index=self._index, delta=delta) + self._close()

    def _start(self, block: dict[str, Any]) -> bytes:
        return _event("content_block_start", index=self._index, content_block=block)

    def _close(self) -> bytes:
        if not self._open:
            return b""
        end = _event("content_block_stop", index=self._index)
        self._open = ""
        self._index += 1
        return end


def _event(name: str, **data: Any) -> bytes:
    return f"event: {name}\n".encode() + b"data: " + encode({"type": name, **data}) + b"\n\n"


def _usage(work: Work) -> dict[str, int]:
    usage = {"input_tokens": work.entry.prompt_tokens, "output_tokens": work.tokens}
    # Only newer versions than 0.17.4 report cached tokens.
    return usage | ({"cache_read_input_tokens": work.cached_tokens} if work.cached_tokens else {})


def _reason(work: Work) -> str:
    if work.answer.calls_tools:
        return "tool_use"
    return "end_turn" if work.answer.complete else "max_tokens"
