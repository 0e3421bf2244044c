"""The parts of an answer, and the protocol of a format."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import msgspec
from aiohttp import web

from llmendpoint_common.contracts.sidecar import Operation
from llmendpoint_simulator.ledger import Entry

encode = msgspec.json.encode


class ToolCall(msgspec.Struct, frozen=True):
    """A call of a function that the request offers."""

    id: str
    name: str
    arguments: Any


class Piece(msgspec.Struct, frozen=True):
    """A part of an answer. An empty piece is a token that Ollama holds back, such as a part of a tool call."""

    text: str = ""
    thinking: str = ""
    tool_calls: tuple[ToolCall, ...] = ()


class Answer(msgspec.Struct, frozen=True):
    """The tokens of an answer. `complete` is False if the request's limit ends it early."""

    tokens: tuple[Piece, ...]
    complete: bool = True

    @property
    def calls_tools(self) -> bool:
        """Whether the answer contains a tool call."""
        return any(token.tool_calls for token in self.tokens[-1:])

    @property
    def reason(self) -> str:
        """Ollama's `done_reason`."""
        return "stop" if self.complete else "length"


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
    """A request to answer.

    `model` is the canonical name, and `name` the name in the request, which Ollama repeats in its answer.
    """

    model: str
    name: str
    prompt: str
    answer: Answer
    stream: bool
    include_usage: bool
    keep_alive: timedelta
    entry: Entry
    body: dict[str, Any]

    @property
    def tokens(self) -> int:
        """Number of generated tokens."""
        return len(self.answer.tokens)


class Shape(Protocol):
    """Format of the responses of one API. An instance serves one request."""

    operation: Operation
    content_type: str
    is_ollama: bool

    def piece(self, work: Work, piece: Piece) -> bytes:
        """Return one chunk of a stream."""

    def last(self, work: Work, timings: Timings) -> bytes:
        """Return the last bytes of a complete stream."""

    def whole(self, work: Work, piece: Piece, timings: Timings) -> bytes:
        """Return a response that is not streamed."""

    def error(self, sentence: str) -> bytes:
        """Return the bytes of an error inside a stream. They are empty if Ollama ends streams of this API silently."""


def merge(pieces: tuple[Piece, ...] | list[Piece]) -> Piece:
    """Return several pieces as one."""
    if len(pieces) == 1:
        return pieces[0]
    return Piece(
        "".join(piece.text for piece in pieces),
        "".join(piece.thinking for piece in pieces),
        tuple(call for piece in pieces for call in piece.tool_calls),
    )


def failure(status: int, sentence: str, shape: Shape | None = None, *, malformed: bool = False) -> web.Response:
    """Return an error in the format of the route's API."""
    body: dict[str, Any] = {"error": sentence}
    if shape is not None and shape.operation is Operation.ANTHROPIC_MESSAGES:
        kinds = {400: "invalid_request_error", 404: "not_found_error", 503: "overloaded_error"}
        error = {"type": kinds.get(status, "api_error"), "message": sentence}
        body = {"type": "error", "error": error, "request_id": f"req_{time.time_ns():x}"}
    elif shape is not None and not shape.is_ollama:
        kind = "invalid_request_error" if malformed else "api_error"
        body = {"error": {"message": sentence, "type": kind, "param": None, "code": None}}
    # Ollama sets the charset except where it rewrites the answer of its own API for another one.
    charset = None if shape is not None and not shape.is_ollama and not malformed else "utf-8"
    return web.Response(body=encode(body), status=status, content_type="application/json", charset=charset)


def timestamp() -> str:
    """Return the current time as Ollama writes it (RFC 3339)."""
    return datetime.now(UTC).isoformat()
