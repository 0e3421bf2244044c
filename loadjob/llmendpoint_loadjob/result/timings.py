"""One request as the client saw it. All times are one monotonic clock, in seconds."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class ErrorClass(StrEnum):
    """Why a request does not count as answered."""

    REFUSED = "refused"
    TIMEOUT = "timeout"
    CLIENT_ERROR = "4xx"
    TOO_MANY_REQUESTS = "429"
    SERVER_ERROR = "5xx"
    UNAVAILABLE = "503"
    RESET = "reset"
    TRUNCATED = "truncated"
    STREAM_ERROR = "stream_error"
    INVALID_BODY = "invalid_body"


def error_of_status(status: int) -> ErrorClass | None:
    """Return the class of an HTTP status, None for a success."""
    if status == 429:
        return ErrorClass.TOO_MANY_REQUESTS
    if status == 503:
        return ErrorClass.UNAVAILABLE
    if status >= 500:
        return ErrorClass.SERVER_ERROR
    return ErrorClass.CLIENT_ERROR if status >= 400 else None


class Sample(msgspec.Struct):
    """Times: scheduled t_s, sent t0, first content t1, last content tL, ended te."""

    request_id: str
    question: str
    category: str
    scheduled: float
    sent: float = 0.0
    first: float | None = None
    last: float | None = None
    ended: float = 0.0
    status: int = 0
    error: ErrorClass | None = None
    detail: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    chunks: int = 0

    @property
    def ttft(self) -> float | None:
        """t1 - t0."""
        return None if self.first is None else self.first - self.sent

    @property
    def tpot(self) -> float | None:
        """(tL - t1) / (N - 1) for N >= 2 output tokens as the server counts them."""
        if self.first is None or self.last is None or self.output_tokens < 2:
            return None
        return (self.last - self.first) / (self.output_tokens - 1)

    @property
    def request_latency(self) -> float:
        """te - t0."""
        return self.ended - self.sent

    @property
    def queue_delay(self) -> float:
        """t0 - t_s: the client's own wait."""
        return self.sent - self.scheduled

    @property
    def ttft_scheduled(self) -> float | None:
        """t1 - t_s: what a user who came on time lived through."""
        return None if self.first is None else self.first - self.scheduled

    @property
    def request_latency_scheduled(self) -> float:
        """te - t_s."""
        return self.ended - self.scheduled
