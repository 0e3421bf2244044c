"""Latencies of a summary with their names, and numbers as text, for the terminal, for pages and for comparisons."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf
from typing import NamedTuple

from llmendpoint_common.contracts.loadrun import Percentiles, StepResult, Summary, SweepResult
from llmendpoint_common.results.measurements import Step


class Latency(NamedTuple):
    """A latency of the summary: its name, field, and formula."""

    name: str
    field: str
    formula: str


LATENCIES = (
    Latency("TTFT", "ttft", "first chunk with content - request handed over"),
    Latency("TTFO", "ttfo", "the same, to the first chunk that is not thinking"),
    Latency("TPOT", "tpot", "(last content - first content) / (output tokens - 1)"),
    Latency("gap", "inter_chunk_latency", "gap between two chunks with content"),
    Latency("request", "request_latency", "end of the response - request handed over"),
    Latency("connect", "connect", "opening a connection, with TLS"),
    Latency("queue delay", "queue_delay", "request handed over - scheduled"),
    Latency("TTFT sched.", "ttft_scheduled", "first chunk with content - scheduled"),
    Latency("request sched.", "request_latency_scheduled", "end of the response - scheduled"),
    Latency("server queue", "server_queue", "waiting in the server, from the sidecar's record"),
    Latency("server load", "server_load", "loading the model, as the server reports it"),
    Latency("server prefill", "server_prefill", "evaluating the prompt, as the server reports it"),
    Latency("server decode", "server_decode", "generating the response, as the server reports it"),
    Latency("server TPOT", "server_tpot", "server decode / output tokens"),
    Latency("client lag", "client_lag", "delay of the load generator's event loop"),
)  # fmt: skip


def latency_of(summary: Summary, field: str) -> Percentiles | None:
    """Return the percentiles of a latency."""
    value: Percentiles | None = getattr(summary, field)
    return value


def number(value: float) -> str:
    """Return a number with three significant digits and without an exponent: `0.25`, `12.3`, `1,234`."""
    if value >= 999.5:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value == 0 or value >= 1e-4 else "0"


def sweep_interval(summary: Summary) -> str:
    """Return the 95 % interval of the result of a sweep, such as `7.6 to 8.5`.

    It is `20 or more` if the capacity may be above the highest rate that was tried. It is empty without a result.
    """
    return interval_of_sweep(summary.sweep, summary.steps)


def interval_of_sweep(found: SweepResult | None, steps: Iterable[StepResult | Step]) -> str:
    """Return the same for the result of a sweep and its steps."""
    if found is None or found.rate is None:
        return ""
    high = sweep_bound(found, steps)
    return f"{number(found.low)} or more" if high is None else f"{number(found.low)} to {number(high)}"


def sweep_bound(found: SweepResult, steps: Iterable[StepResult | Step]) -> float | None:
    """Return the upper bound of the 95 % interval of the result of a sweep with its steps.

    It is None if the capacity may be above the highest rate that was tried.
    """
    if found.rate is None:
        return found.high
    highest = max((step.offered_rate for step in steps), default=inf)
    return None if found.low >= found.rate or found.high >= highest * (1 - 1e-6) else found.high


def percent(share: float) -> str:
    """Return a fraction as a percentage. One that is not whole is shown as neither 0 nor 100 %."""
    if 0 < share < 0.00005:
        return "<0.01 %"
    if 0.9999 < share < 1:
        return ">99.99 %"
    return f"{100 * share:.4g} %"
