"""Names, numbers and sentences of a report, the same on the terminal and on the page."""

from __future__ import annotations

from typing import NamedTuple

from llmendpoint_common.contracts.loadrun import (
    METRICS,
    NOTHING_MEASURED,
    ErrorResult,
    ObjectiveResult,
    Percentiles,
    Quantity,
    RegressionResult,
    Summary,
    Verdict,
    advice,
)
from llmendpoint_common.results.words import NEVER_ANSWERED

#: How a verdict is shown: good, bad, warn or nothing.
KINDS = {Verdict.PASSED: "good", Verdict.FAILED: "bad", Verdict.ERROR: "bad", Verdict.INVALID: "warn"}


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
#: The latencies of the table on the terminal. The other ones are in the files.
SHOWN = ("ttft", "ttfo", "tpot", "request_latency", "connect", "queue_delay", "server_queue", "client_lag")


def latency_of(summary: Summary, field: str) -> Percentiles | None:
    """Return the percentiles of a latency."""
    value: Percentiles | None = getattr(summary, field)
    return value


def is_repeated(summary: Summary, field: str) -> bool:
    """Return whether a latency says nothing new: without thinking, the first output is the first token."""
    return field == "ttfo" and summary.ttfo == summary.ttft


def number(value: float) -> str:
    """Return a number with three significant digits and without an exponent: `0.25`, `12.3`, `1,234`."""
    if value >= 999.5:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value == 0 or value >= 1e-4 else "0"


def count_of(amount: int, noun: str) -> str:
    """Return a number with its noun: `1 request`, `2 requests`."""
    return f"{amount:,} {noun}{'' if amount == 1 else 's'}"


def rate(quantity: Quantity | None) -> str:
    """Return a quantity with its unit, such as `12.3 requests/s`, or a share as a percentage."""
    if quantity is None:
        return "unknown"
    return percent(quantity.value) if quantity.unit == "ratio" else f"{number(quantity.value)} {quantity.unit}"


def percent(share: float) -> str:
    """Return a fraction as a percentage. One that is not whole is shown as neither 0 nor 100 %."""
    if 0 < share < 0.00005:
        return "<0.01 %"
    if 0.9999 < share < 1:
        return ">99.99 %"
    return f"{100 * share:.4g} %"


def objective_name(result: ObjectiveResult) -> str:
    """Return the metric of an objective with its percentile: `TTFT p95`."""
    return f"{result.metric.value} p{result.percentile}" if result.percentile else result.metric.value


def result_of(summary: Summary, result: ObjectiveResult) -> str:
    """Return whether an objective was met. A run that was interrupted, or that cannot tell, is not judged."""
    if summary.partial:
        return "not judged"
    if result.measured == NOTHING_MEASURED:
        return "not measured"
    if result.needed:
        return f"too few requests: {result.needed} needed"
    if not result.judged:
        return "not judged"
    return "met" if result.met else "missed"


def comparison_of(result: RegressionResult) -> str:
    """Return whether a metric is worse than in the baseline by more than is allowed."""
    if result.regressed:
        return "worse"
    if result.judged:
        return "within the limit"
    return f"cannot tell: about {result.needed:,} requests needed" if result.needed else "cannot tell"


def bound(result: ObjectiveResult) -> str:
    """Return the threshold of an objective with its direction: `≤ 1s`."""
    return f"{'≥' if METRICS[result.metric].higher_is_better else '≤'} {result.threshold}"


def interval(result: ObjectiveResult) -> str:
    """Return the 95 % confidence interval of a measured value, or nothing."""
    if result.low is None:
        return "" if result.high is None else f"{result.high} or less"
    if result.low == NEVER_ANSWERED:
        return result.low
    return f"{result.low} to {result.high}" if result.high is not None else f"{result.low} or more"


def errors_of(summary: Summary) -> list[ErrorResult]:
    """Return the classes of errors, the most frequent first, with an example and what to do."""
    details = {item.error_class: item for item in summary.error_details}
    counts = sorted(summary.errors_by_class.items(), key=lambda item: (-item[1], item[0]))
    found = []
    for name, count in counts:
        detail = details.get(name) or ErrorResult(name, count)
        words = detail.advice or advice(name, summary.api, summary.target, detail.example)
        found.append(ErrorResult(name, count, detail.example, words))
    return found
