"""Measurements of the client: a sample per request, and the outcome of a run. All times are seconds of one clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

import msgspec

from llmendpoint_loadjob.result.histogram import Histogram


class ErrorClass(StrEnum):
    """Classes of failed requests."""

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
    """Return the class of an HTTP status code, or None if it is not an error."""
    if status == 429:
        return ErrorClass.TOO_MANY_REQUESTS
    if status == 503:
        return ErrorClass.UNAVAILABLE
    if status >= 500:
        return ErrorClass.SERVER_ERROR
    return ErrorClass.CLIENT_ERROR if status >= 400 else None


class Sample(msgspec.Struct):
    """One request. Times: scheduled (t_s), sent (t0), first content (t1), last content (tL), ended (te).

    A latency is None if it was not measured. `docs/load-tests.md` has the formulas.
    """

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
        """Time to first token: t1 - t0."""
        return None if self.first is None else self.first - self.sent

    @property
    def tpot(self) -> float | None:
        """Time per output token: (tL - t1) / (N - 1), for N >= 2 output tokens as the server reports them."""
        if self.first is None or self.last is None or self.output_tokens < 2:
            return None
        return (self.last - self.first) / (self.output_tokens - 1)

    @property
    def request_latency(self) -> float:
        """Time of the whole request: te - t0."""
        return self.ended - self.sent

    @property
    def queue_delay(self) -> float:
        """The client's own delay before it sent the request: t0 - t_s."""
        return self.sent - self.scheduled

    @property
    def ttft_scheduled(self) -> float | None:
        """Time to first token from the scheduled time: t1 - t_s."""
        return None if self.first is None else self.first - self.scheduled

    @property
    def request_latency_scheduled(self) -> float:
        """Time of the whole request from the scheduled time: te - t_s."""
        return self.ended - self.scheduled


@dataclass
class Outcome:
    """Measurements of a run. Warm-up requests are not in `samples`.

    `duration` lasts from the end of the warm-up to the last answer. `offered` counts the requests that were due in
    that time, and `sent` those of them that were sent before the load ended. `lag` is the lateness of the event loop,
    and `throttled_seconds` the time during which the CPU limit stopped the process.
    """

    samples: list[Sample] = field(default_factory=list)
    duration: float = 0.0
    offered: int = 0
    sent: int = 0
    lag: Histogram = field(default_factory=Histogram)
    throttled_seconds: float = 0.0
