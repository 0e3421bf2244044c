"""The verdict of a run: Passed, Failed, None, or Invalid if the client itself was the limit."""

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
    """A verdict with its reason and a sentence for a person."""

    verdict: Verdict
    reason: VerdictReason
    message: str


def judge(outcome: Outcome, slo: Sequence[ObjectiveResult]) -> Judgement:
    """Return the verdict. If the client was the limit, no other statement holds, so that is checked first."""
    if not outcome.samples:
        message = "no request was measured, and a run without requests never passes"
        return Judgement(Verdict.FAILED, VerdictReason.TOO_FEW_REQUESTS, message)
    limits = list(_client_limits(outcome))
    if limits:
        message = f"the client was the limit: {'; '.join(limits)}; give the load generator more CPU, or lower the load"
        return Judgement(Verdict.INVALID, VerdictReason.CLIENT_LIMITED, message)
    if not slo:
        return Judgement(Verdict.NONE, VerdictReason.NO_OBJECTIVES, "the run has no objectives and only reports")
    missed = [result for result in slo if not result.met]
    if missed:
        message = "; ".join(map(_miss, missed))
        return Judgement(Verdict.FAILED, VerdictReason.OBJECTIVES_MISSED, message)
    return Judgement(Verdict.PASSED, VerdictReason.OBJECTIVES_MET, f"all {len(slo)} objectives were met")


def _miss(result: ObjectiveResult) -> str:
    """Return the measured value and the objective, as a sentence."""
    name = f"{result.metric.value} p{result.percentile}" if result.percentile else result.metric.value
    measured = "could not be measured" if result.measured == NOTHING_MEASURED else f"was {result.measured}"
    bound = "at least" if METRICS[result.metric].higher_is_better else "at most"
    return f"{name} {measured} (objective: {bound} {result.threshold})"


def _client_limits(outcome: Outcome) -> Iterable[str]:
    """Yield a sentence for each sign that the client, and not the server, limited the run."""
    if outcome.lag.count:
        lag = outcome.lag.percentile(99)
        if lag > MAX_LAG_P99:
            yield f"its event loop was {format_duration(lag)} late (p99; allowed {format_duration(MAX_LAG_P99)})"
    if outcome.offered and outcome.sent / outcome.offered < MIN_SENT_SHARE:
        share = 100 * outcome.sent / outcome.offered
        yield f"it sent {share:.0f} % of the offered requests in time (at least {100 * MIN_SENT_SHARE:.0f} % wanted)"
    if outcome.throttled_seconds > MAX_THROTTLED_SHARE * outcome.duration:
        yield f"its CPU limit stopped it for {format_duration(outcome.throttled_seconds)}"
