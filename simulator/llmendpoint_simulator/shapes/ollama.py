"""NDJSON lines of `/api/generate` and `/api/chat`."""

from __future__ import annotations

from typing import Any

from llmendpoint_common.contracts.sidecar import Operation
from llmendpoint_simulator.shapes.base import Piece, Tails, Timings, ToolCall, Work, encode, stamp, timestamp


class OllamaShape:
    """Lines of one request. An operation is generate or chat."""

    content_type = "application/x-ndjson"
    is_ollama = True
    stream_fields: tuple[tuple[str, str], ...] = ()

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self._tails = _TAILS[operation]
        self._begin = b""

    def piece(self, work: Work, piece: Piece) -> bytes:
        """Return one line."""
        if not self._begin:
            self._begin = b'{"model":%b,"created_at":"' % encode(work.name)
        return self._begin + stamp() + self._tails.of(piece)

    def last(self, work: Work, timings: Timings) -> bytes:
        """Return the final line, which has durations and counts, but no text."""
        return self._line(work, Piece(), done=True, **self._end(work, timings))

    def whole(self, work: Work, piece: Piece, timings: Timings) -> bytes:
        """Return one object."""
        return self._line(work, piece, done=True, **self._end(work, timings)).rstrip()

    def error(self, sentence: str) -> bytes:
        """Return an error line."""
        return encode({"error": sentence}) + b"\n"

    def ended(self, work: Work, reason: str) -> bytes:
        """Return the answer to a request that only loads or unloads the model."""
        return self._line(work, Piece(), done=True, done_reason=reason).rstrip()

    def _line(self, work: Work, piece: Piece, *, done: bool, **rest: Any) -> bytes:
        content = _content(self.operation, piece)
        return encode({"model": work.name, "created_at": timestamp(), **content, "done": done, **rest}) + b"\n"

    def _end(self, work: Work, timings: Timings) -> dict[str, Any]:
        """Return the fields of the final object. Ollama omits fields that are zero."""
        fields: dict[str, Any] = {
            "done_reason": work.answer.reason,
            "context": self._context(work),
            "total_duration": round(timings.total * 1e9),
            "load_duration": round(timings.load * 1e9),
            "prompt_eval_count": work.entry.prompt_tokens,
            # Only newer versions than 0.17.4 have it.
            "prompt_eval_cached_count": work.cached_tokens,
            "prompt_eval_duration": round(timings.prefill * 1e9),
            "eval_count": work.tokens,
            "eval_duration": round(timings.decode * 1e9),
        }
        return {name: value for name, value in fields.items() if value}

    def _context(self, work: Work) -> list[int]:
        """Return the tokens of the conversation, which a client may send with its next prompt."""
        wanted = self.operation is Operation.GENERATE and not work.body.get("raw")
        return list(range(1, work.entry.prompt_tokens + work.tokens + 1)) if wanted else []


def _content(operation: Operation, piece: Piece) -> dict[str, Any]:
    """Return the fields of a line that have the text."""
    thinking = {"thinking": piece.thinking} if piece.thinking else {}
    if operation is Operation.GENERATE:
        return {"response": piece.text, **thinking}
    calls = {"tool_calls": _calls(piece.tool_calls)} if piece.tool_calls else {}
    return {"message": {"role": "assistant", "content": piece.text, **thinking, **calls}}


def _tail(operation: Operation, piece: Piece) -> bytes:
    """Return a line from the end of its time."""
    return b'",' + encode({**_content(operation, piece), "done": False})[1:] + b"\n"


def _calls(calls: tuple[ToolCall, ...]) -> list[dict[str, Any]]:
    return [
        {"id": call.id, "function": {"index": index, "name": call.name, "arguments": call.arguments}}
        for index, call in enumerate(calls)
    ]


_TAILS = {
    operation: Tails(lambda piece, operation=operation: _tail(operation, piece))  # type: ignore[misc]
    for operation in (Operation.GENERATE, Operation.CHAT)
}
