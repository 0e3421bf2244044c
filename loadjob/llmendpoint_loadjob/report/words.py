"""Names, numbers and sentences of a report, the same on the terminal and on the page."""

from __future__ import annotations

from llmendpoint_common.contracts.loadrun import (
    METRICS,
    NOTHING_MEASURED,
    ErrorResult,
    ObjectiveResult,
    Quantity,
    RegressionResult,
    Summary,
    Verdict,
    advice,
)
from llmendpoint_common.results.figures import number, percent
from llmendpoint_common.results.words import NEVER_ANSWERED

#: How a verdict is shown: good, bad, warn or nothing.
KINDS = {Verdict.PASSED: "good", Verdict.FAILED: "bad", Verdict.ERROR: "bad", Verdict.INVALID: "warn"}


#: The latencies of the table on the terminal. The other ones are in the files.
SHOWN = ("ttft", "ttfo", "tpot", "request_latency", "connect", "queue_delay", "server_queue", "client_lag")


def is_repeated(summary: Summary, field: str) -> bool:
    """Return whether a latency says nothing new: without thinking, the first output is the first token."""
    return field == "ttfo" and summary.ttfo == summary.ttft


def count_of(amount: int, noun: str) -> str:
    """Return a number with its noun: `1 request`, `2 requests`."""
    return f"{amount:,} {noun}{'' if amount == 1 else 's'}"


def rate(quantity: Quantity | None) -> str:
    """Return a quantity with its unit, such as `12.3 requests/s`, or a share as a percentage."""
    if quantity is None:
        return "unknown"
    return percent(quantity.value) if quantity.unit == "ratio" else f"{number(quantity.value)} {quantity.unit}"


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
