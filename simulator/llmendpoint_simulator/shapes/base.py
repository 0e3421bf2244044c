"""The parts of an answer, and the protocol of a format."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Protocol

import msgspec

from llmendpoint_common.contracts.sidecar import Operation
from llmendpoint_simulator.ledger import Entry
from llmendpoint_simulator.serving.responses import JSON, JSON_UTF8, Response

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
    """The tokens of an answer. `complete` is False if the request's limit ends it early.

    If `is_held_back`, some tokens are empty pieces.
    """

    tokens: tuple[Piece, ...]
    complete: bool = True
    is_held_back: bool = False

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
    keep_alive: timedelta | None
    entry: Entry
    body: dict[str, Any]
    cached_share: float = 0.0

    @property
    def tokens(self) -> int:
        """Number of generated tokens."""
        return len(self.answer.tokens)

    @property
    def cached_tokens(self) -> int:
        """Number of tokens of the prompt that are reported as cached."""
        return int(self.entry.prompt_tokens * self.cached_share)


#: Headers of streams with named events.
NAMED_EVENTS_FIELDS = (("Cache-Control", "no-cache"), ("Connection", "keep-alive"))


class Shape(Protocol):
    """Format of the responses of one API. An instance serves one request."""

    operation: Operation
    content_type: str
    is_ollama: bool
    #: Headers of the response if a stream is wanted.
    stream_fields: tuple[tuple[str, str], ...]

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


def failure(status: int, sentence: str, shape: Shape | None = None, *, malformed: bool = False) -> Response:
    """Return an error in the format of the route's API."""
    body: dict[str, Any] = {"error": sentence}
    if shape is not None and shape.operation is Operation.ANTHROPIC_MESSAGES:
        kinds = {400: "invalid_request_error", 404: "not_found_error", 503: "overloaded_error"}
        error = {"type": kinds.get(status, "api_error"), "message": sentence}
        body = {"type": "error", "error": error, "request_id": f"req_{secrets.token_hex(12)}"}
    elif shape is not None and not shape.is_ollama:
        kind = "invalid_request_error" if malformed else "api_error"
        body = {"error": {"message": sentence, "type": kind, "param": None, "code": None}}
    # Ollama sets the charset, unless it rewrites the answer of its own API for another one.
    rewritten = shape is not None and not shape.is_ollama and not malformed
    return Response(status, encode(body), JSON if rewritten else JSON_UTF8)


def json_response(value: Any, *, charset: bool = True, status: int = 200) -> Response:
    """Return a value as JSON. Ollama names the charset only in answers of its own API."""
    return Response(status, encode(value), JSON_UTF8 if charset else JSON)


class _Stamps:
    """The current time as Ollama writes it (RFC 3339, UTC), with nanoseconds. Seconds are formatted once."""

    def __init__(self) -> None:
        self._second = -1
        self._text = b""

    def now(self) -> bytes:
        seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
        if seconds != self._second:
            self._second = seconds
            self._text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)).encode()
        return b"%b.%09dZ" % (self._text, nanoseconds)


#: Returns the current time in bytes.
stamp: Callable[[], bytes] = _Stamps().now


def timestamp() -> str:
    """Return the current time as Ollama writes it (RFC 3339)."""
    return stamp().decode()


class Tails:
    """The bytes of chunks from where they no longer depend on the request, by piece. They are encoded once.

    `make` returns the bytes for a piece. Tool calls have an ID of their own, so they are not kept.
    """

    _KEPT = 4096

    def __init__(self, make: Callable[[Piece], bytes]) -> None:
        self._make = make
        self._kept: dict[Piece, bytes] = {}

    def of(self, piece: Piece) -> bytes:
        """Return the bytes for a piece."""
        found = self._kept.get(piece) if not piece.tool_calls else None
        if found is None:
            found = self._make(piece)
            if not piece.tool_calls and len(self._kept) < self._KEPT:
                self._kept[piece] = found
        return found
