"""The verdict of a run: Passed, Failed, None, or Invalid if the load generator was the bottleneck.

A run that was interrupted never passes or fails, whatever was measured until then: its verdict is None.

The operator sets the verdict Error if there is no result.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from llmendpoint_common.contracts.loadrun import METRICS, NOTHING_MEASURED, ObjectiveResult, Verdict, VerdictReason
from llmendpoint_common.process.units import format_duration
from llmendpoint_loadjob.result.timings import Outcome

MAX_LAG_P99 = 0.010
MIN_SENT_SHARE = 0.95
MAX_THROTTLED_SHARE = 0.01


@dataclass(frozen=True)
class Judgement:
    """A verdict with its reason and a human-readable message."""

    verdict: Verdict
    reason: VerdictReason
    message: str


def judge(outcome: Outcome, slo: Sequence[ObjectiveResult]) -> Judgement:
    """Return the verdict.

    An interrupted run is not judged. Without measured requests, a run failed. Otherwise the load generator is checked
    before the objectives, because its measurements are not valid if it was the bottleneck.
    """
    if outcome.interrupted:
        return Judgement(Verdict.NONE, VerdictReason.CANCELED, _interruption(outcome))
    if not outcome.samples:
        message = "no request was measured; increase the duration or the load"
        return Judgement(Verdict.FAILED, VerdictReason.TOO_FEW_REQUESTS, message)
    limits = list(_client_limits(outcome))
    if limits:
        message = f"the load generator was the bottleneck: {'; '.join(limits)}; give it more CPU, or reduce the load"
        return Judgement(Verdict.INVALID, VerdictReason.CLIENT_LIMITED, message)
    if not slo:
        return Judgement(Verdict.NONE, VerdictReason.NO_OBJECTIVES, "the run has no objectives")
    missed = [result for result in slo if not result.met]
    if missed:
        message = "; ".join(map(_miss, missed))
        return Judgement(Verdict.FAILED, VerdictReason.OBJECTIVES_MISSED, message)
    return Judgement(Verdict.PASSED, VerdictReason.OBJECTIVES_MET, f"all {len(slo)} objectives were met")


def _interruption(outcome: Outcome) -> str:
    count = len(outcome.samples)
    measured = f"{count} measured request{'' if count == 1 else 's'}"
    return (
        f"the load generator was stopped before the end of the run; the result is partial ({measured}), and no "
        "objective was judged"
    )


def _miss(result: ObjectiveResult) -> str:
    """Return the measured value and the objective, as a sentence."""
    name = f"{result.metric.value} p{result.percentile}" if result.percentile else result.metric.value
    measured = "could not be measured" if result.measured == NOTHING_MEASURED else f"was {result.measured}"
    bound = "at least" if METRICS[result.metric].higher_is_better else "at most"
    return f"{name} {measured} (objective: {bound} {result.threshold})"


def _client_limits(outcome: Outcome) -> Iterable[str]:
    """Yield a sentence for each sign that the load generator, and not the server, was the bottleneck."""
    if outcome.lag.count:
        lag = outcome.lag.percentile(99)
        if lag > MAX_LAG_P99:
            limit = format_duration(MAX_LAG_P99)
            yield f"the p99 delay of its event loop was {format_duration(lag)} (maximum: {limit})"
    if outcome.offered and outcome.sent / outcome.offered < MIN_SENT_SHARE:
        share = 100 * outcome.sent / outcome.offered
        yield f"it sent {share:.0f} % of the due requests before the load ended (minimum: {100 * MIN_SENT_SHARE:.0f} %)"
    if outcome.throttled_seconds > MAX_THROTTLED_SHARE * outcome.duration:
        allowed = f"{100 * MAX_THROTTLED_SHARE:.0f} % of the run"
        yield f"its CPU limit throttled it for {format_duration(outcome.throttled_seconds)} (maximum: {allowed})"
