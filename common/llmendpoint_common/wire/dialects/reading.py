"""Result of reading a response, in the same terms for all dialects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

import msgspec

from llmendpoint_common.wire.decoding import problem_of

_MAX_ERROR_BYTES = 4096


class Usage(msgspec.Struct, gc=False):
    """Token counts, and durations in seconds, as reported by the server. None means not reported."""

    prompt_tokens: int | None = None
    generation_tokens: int | None = None
    cached_tokens: int | None = None
    total_seconds: float | None = None
    load_seconds: float | None = None
    prefill_seconds: float | None = None
    decode_seconds: float | None = None

    @property
    def queue_seconds(self) -> float | None:
        """Wait for a slot: the total minus all reported durations, because Ollama has no field for it."""
        if self.total_seconds is None:
            return None
        known = (self.load_seconds or 0.0) + (self.prefill_seconds or 0.0) + (self.decode_seconds or 0.0)
        return max(0.0, self.total_seconds - known)


class Reading(msgspec.Struct, gc=False):
    """Running summary of one response.

    `chunks` counts pieces with content, thinking or tool calls; a piece is not always one token. `thoughts` counts
    those of them that are only thinking. `is_whole` is true if all of the content was in the object that ended the
    response. `finished` is set by the terminal event of the dialect; a stream that ends without it was cut off.
    `failed` is set by an error in the stream, and `error` is its JSON. `reason` is the reason for which the generation
    ended. `unreadable` counts parts that could not be decoded, and `problem` says what is wrong with the first one.
    `transferred` is the number of transferred bytes of model files. `texts` has the pieces of the content, without
    thinking and tool calls, if it is kept; of several choices, it is that of the first one.
    """

    model: str = ""
    chunks: int = 0
    thoughts: int = 0
    is_whole: bool = False
    finished: bool = False
    failed: bool = False
    error: bytes = b""
    reason: str = ""
    unreadable: int = 0
    problem: str = ""
    usage: Usage | None = None
    transferred: int = 0
    texts: list[str] | None = None

    def fail(self, error: bytes = b"") -> None:
        """Note an error in the response. `error` is the JSON value that describes it, of which 4 KiB are kept."""
        self.failed = True
        self.error = self.error or error[:_MAX_ERROR_BYTES]

    def note_unreadable(self, error: BaseException) -> None:
        """Count a part that could not be decoded."""
        self.unreadable += 1
        if not self.problem:
            self.problem = problem_of(error)


#: Called for each piece with content, with the time at which its bytes arrived.
OnContent = Callable[[float], object]


class Dialect(Protocol):
    """Reads the body of one response into `reading`."""

    @property
    def reading(self) -> Reading:
        """What was read so far."""

    def keep_text(self) -> None:
        """Keep the text of the content, in `reading.texts`. Called before the first byte."""

    def feed(self, data: bytes, now: float) -> None:
        """Read the next bytes of the body, split anywhere. `now` is the time at which they arrived."""

    def feed_all(self, pieces: list[bytes], times: list[float]) -> None:
        """Read several pieces of the body, each with the time at which it arrived, as `feed` would one by one."""

    def close(self, now: float) -> None:
        """Read the rest after the end of the body."""


DialectFactory: TypeAlias = Callable[[OnContent], Dialect]
