"""Measurements of one request. All times are readings of the clock of the run, in seconds."""

from __future__ import annotations

import msgspec

from llmendpoint_common.contracts.loadrun import ErrorClass

__all__ = ["ErrorClass", "Sample"]


class Sample(msgspec.Struct):
    """A request. Times: scheduled (t_s), sent (t0), first content (t1), last content (tL), ended (te).

    t0 is the time at which the request is handed over, before a connection is opened. A latency is None if it was not
    measured: a response that came as one object has no t1. `docs/load-tests.md` has the formulas.
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
    turn: int = 0
    #: Index of the stage, or of the rate of a sweep.
    step: int = 0
    #: Seconds for opening the connection, with TLS, or None if an open one was used.
    connect: float | None = None
    #: The first content that is not thinking.
    first_output: float | None = None
    #: Whether the server reported the output tokens (otherwise `output_tokens` means nothing), and the input tokens
    #: that were in its prefix cache, if it said so.
    has_usage: bool = False
    cached_tokens: int | None = None
    #: Whether the server reported token counts that cannot be true, which are left out.
    has_implausible_usage: bool = False
    #: Whether the first and the last content came with different reads of the socket, and not in one piece.
    is_spread: bool = False
    #: Gaps between reads with content, in seconds; none if the content came in one piece. Emptied once recorded.
    gaps: list[float] = []
    #: Ollama's own durations in seconds: load, prefill, decode and total.
    server_load: float | None = None
    server_prefill: float | None = None
    server_decode: float | None = None
    server_total: float | None = None
    #: Whether the response matched `expect` of its question, or None if there is nothing to match.
    matched: bool | None = None
    #: Seconds for which the maximum of requests in flight kept the request back after it was due.
    held: float = 0.0
    #: Seconds for which a user waits after a failure: Retry-After of 429 and 503, or a pause that grows while all
    #: requests fail.
    retry_after: float | None = None
    #: Whether the input was cut to fit into the context of the model.
    is_cut: bool = False
    #: Whether the request went out a second time, because the server closed the reused connection without a response.
    was_sent_again: bool = False
    #: Tokens that a synthetic prompt or one of a trace was made for, and the limit of the tokens of its answer.
    wanted_input: int | None = None
    wanted_output: int | None = None

    @property
    def ttft(self) -> float | None:
        """Time to first token: t1 - t0."""
        return None if self.first is None else self.first - self.sent

    @property
    def tpot(self) -> float | None:
        """Time per output token: (tL - t1) / (N - 1), for N >= 2 output tokens as reported by the server.

        Unknown if the content came with one read of the socket.
        """
        if self.first is None or self.last is None or not self.is_spread:
            return None
        if not self.has_usage or self.output_tokens < 2:
            return None
        return (self.last - self.first) / (self.output_tokens - 1)

    @property
    def ttfo(self) -> float | None:
        """Time to first output that is not thinking."""
        return None if self.first_output is None else self.first_output - self.sent

    @property
    def request_latency(self) -> float:
        """Time from sending the request to the end of its response: te - t0."""
        return self.ended - self.sent

    @property
    def queue_delay(self) -> float:
        """Delay between the scheduled time and sending: t0 - t_s, the client's own wait."""
        return self.sent - self.scheduled

    @property
    def ttft_scheduled(self) -> float | None:
        """Time to first token from the scheduled time: t1 - t_s."""
        return None if self.first is None else self.first - self.scheduled

    @property
    def request_latency_scheduled(self) -> float:
        """Time from the scheduled time to the end of the response: te - t_s."""
        return self.ended - self.scheduled
