"""What a response told so far, in one vocabulary for all dialects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec


class Usage(msgspec.Struct, gc=False):
    """Tokens and durations as the server reports them: counts, and seconds; None where it said nothing."""

    prompt_tokens: int | None = None
    generation_tokens: int | None = None
    cached_tokens: int | None = None
    total_seconds: float | None = None
    load_seconds: float | None = None
    prefill_seconds: float | None = None
    decode_seconds: float | None = None

    @property
    def queue_seconds(self) -> float | None:
        """What is left of the total: the wait for a slot, which no field tells."""
        if self.total_seconds is None:
            return None
        known = (self.load_seconds or 0.0) + (self.prefill_seconds or 0.0) + (self.decode_seconds or 0.0)
        return max(0.0, self.total_seconds - known)


class Reading(msgspec.Struct, gc=False):
    """The running account of one response.

    `chunks` counts pieces with content, thinking or tool calls: they are not tokens. `finished` is set by the
    dialect's own terminal event, without which a stream was cut. `transferred` counts bytes of model files.
    """

    model: str = ""
    chunks: int = 0
    finished: bool = False
    failed: bool = False
    reason: str = ""
    unreadable: int = 0
    usage: Usage | None = None
    transferred: int = 0


#: Called once a piece of content, with the time that came with its bytes.
OnContent = Callable[[float], object]


class Dialect(Protocol):
    """Reads the body of one response."""

    reading: Reading

    def feed(self, data: bytes, now: float) -> None:
        """Take the next bytes of the body, split anywhere, and the time when they came."""

    def close(self, now: float) -> None:
        """The body has ended: read what was not yet a whole line."""
