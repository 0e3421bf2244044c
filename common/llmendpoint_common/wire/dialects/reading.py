"""Result of reading a response, in the same terms for all dialects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec


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

    `chunks` counts pieces with content, thinking or tool calls; a piece is not always one token. `finished` is set by
    the terminal event of the dialect; a stream that ends without it was cut off. `failed` is set by an error in the
    stream. `reason` is the reason for which the generation ended. `unreadable` counts parts that could not be decoded.
    `transferred` is the number of transferred bytes of model files.
    """

    model: str = ""
    chunks: int = 0
    finished: bool = False
    failed: bool = False
    reason: str = ""
    unreadable: int = 0
    usage: Usage | None = None
    transferred: int = 0


#: Called for each piece with content, with the time at which its bytes arrived.
OnContent = Callable[[float], object]


class Dialect(Protocol):
    """Reads the body of one response into `reading`."""

    reading: Reading

    def feed(self, data: bytes, now: float) -> None:
        """Read the next bytes of the body, split anywhere. `now` is the time at which they arrived."""

    def close(self, now: float) -> None:
        """Read the rest after the end of the body."""
