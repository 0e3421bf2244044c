"""The verdict of a run, in one place for the load generator and the operator.

An objective is met, missed, or cannot be told (`objectives`). One that is missed makes the verdict Failed, whatever the
others are, because no further measurement could make the run pass. Otherwise, one that cannot be told makes it Invalid.
The reasons are checked in this order, and the first that applies is the verdict:

1. Canceled: the run was interrupted, so it is never judged.
2. TargetUnreachable: no request was answered, with or without objectives.
3. ClientLimited: the load was not what was asked for, because of the load generator (requests sent late, throttling).
4. Saturated, Regression, ObjectivesMissed: one of them is certain, whatever the delays of the load generator. A run
   without objectives is not judged for saturation, only told about it.
5. NotMeasured, TooFewRequests, ClientLimited: the run cannot tell.
6. ObjectivesMet.
7. NoObjectives.

The operator sets RunError if there is no result.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf

from llmendpoint_common.contracts.loadrun import RegressionResult, RunDocument, Verdict, VerdictReason, advice
from llmendpoint_common.process.units import format_duration
from llmendpoint_common.results.delivery import (
    MAX_LOST_SHARE,
    MIN_SENT_SHARE,
    after_silence,
    kept_back,
    loading_time,
    lost_time,
    own_pause,
    sent_late,
)
from llmendpoint_common.results.enough import first_requests, more_requests
from llmendpoint_common.results.figures import interval_of_sweep
from llmendpoint_common.results.histogram import MICROSECONDS
from llmendpoint_common.results.measurements import Group, Measurements
from llmendpoint_common.results.objectives import MAX_LAG_P99, Judged, State, could_be_other, judge_group
from llmendpoint_common.results.prompt_lengths import cut_by_the_run, cut_by_the_server, met_with_cut_prompts
from llmendpoint_common.results.regression import Comparison, comparison_facts
from llmendpoint_common.results.silences import missed_in_silences, silences
from llmendpoint_common.results.words import NEVER_ANSWERED, apart, of, plural, since, was

MAX_THROTTLED_SHARE = 0.01
#: A server that closes idle connections just as requests arrive meets about 1 of 25.
MAX_SENT_AGAIN_SHARE = 0.05
_MAX_MESSAGE = 4000
#: Delays of up to 1 s make latencies grow by at most this number of seconds, by least squares: if they are 0 in the
#: first half of a step and 1 s in the second, the line rises by 12 · 1/8 of it.
_MAX_LAG_GROWTH = 1.5
#: Rates of a sweep that are named one by one.
_MAX_NAMES = 3


@dataclass(frozen=True)
class Judgement:
    """A verdict with its reason and a message: one sentence for each fact."""

    verdict: Verdict
    reason: VerdictReason
    message: str

    @property
    def is_told(self) -> bool:
        """Whether objectives of the run are judged: it was complete, and its measurements were enough for a verdict."""
        return self.verdict not in (Verdict.INVALID, Verdict.NONE)


@dataclass(frozen=True)
class Evidence:
    """What a verdict depends on. `judged` are the objectives, judged on the requests of `group`."""

    measurements: Measurements
    document: RunDocument
    group: Group
    judged: tuple[Judged, ...]
    comparison: Comparison | None = None


def judge(evidence: Evidence) -> Judgement:
    """Return the verdict."""
    for check in (_canceled, _unreachable, _nothing_measured, _limited, _failed, _untold, _passed):
        judgement = check(evidence)
        if judgement is not None:
            return judgement
    message = _message(["the run has no objectives", *_facts(evidence)])
    return Judgement(Verdict.NONE, VerdictReason.NO_OBJECTIVES, message)


def _canceled(evidence: Evidence) -> Judgement | None:
    measurements = evidence.measurements
    if not measurements.interrupted:
        return None
    cause = "the load generator was stopped before the end of the run"
    if measurements.missing_pods:
        cause = f"{measurements.missing_pods} of {measurements.pods} load pods left no result"
    measured = plural(measurements.whole.requests, "measured request")
    message = _message([cause, f"the result is partial ({measured}), and no objective was judged"])
    return Judgement(Verdict.NONE, VerdictReason.CANCELED, message)


def _unreachable(evidence: Evidence) -> Judgement | None:
    """Nothing was answered. The requests of the warm-up say so too if the run ended before any other."""
    measurements = evidence.measurements
    whole = measurements.whole
    if whole.answered or not (measurements.errors or measurements.warmup_errors):
        return None
    if not whole.requests and measurements.warmup_answered:
        return None
    errors = measurements.errors or measurements.warmup_errors
    count = sum(error.count for error in errors.values())
    name, most = max(errors.items(), key=lambda item: (item[1].count, item[0]))
    words = f": {most.example}" if most.example else ""
    fact = f"no request was answered: {of(most.count, count, 'request')} {was(most.count)} {name}{words}"
    target = evidence.document.target
    message = _message([fact, advice(name, target.api, target.url, most.example)])
    return Judgement(Verdict.ERROR, VerdictReason.TARGET_UNREACHABLE, message)


def _nothing_measured(evidence: Evidence) -> Judgement | None:
    if evidence.measurements.whole.requests:
        return None
    measurements, document = evidence.measurements, evidence.document
    message = _message(["no request was measured", first_requests(measurements, document, evidence.judged)])
    return Judgement(Verdict.INVALID, VerdictReason.TOO_FEW_REQUESTS, message)


def _limited(evidence: Evidence) -> Judgement | None:
    """The load was not what was asked for, because of the load generator."""
    limits = list(_client_limits(evidence.measurements))
    return _client_limited(limits) if limits else None


def _failed(evidence: Evidence) -> Judgement | None:
    """An objective, the baseline or the offered rate was missed for certain."""
    if not evidence.judged and evidence.comparison is None:
        return None
    if _is_saturated(evidence):
        return Judgement(Verdict.FAILED, VerdictReason.SATURATED, _message(_facts(evidence)))
    regressed = [result.message for result in _regressions(evidence) if result.regressed]
    missed = [_sentence(judged) for judged in _missed(evidence)]
    if regressed:
        return Judgement(Verdict.FAILED, VerdictReason.REGRESSION, _message([*regressed, *missed, *_facts(evidence)]))
    if missed:
        message = _message([*missed, *_untold_facts(evidence), *_silences(evidence)])
        return Judgement(Verdict.FAILED, VerdictReason.OBJECTIVES_MISSED, message)
    return None


def _untold(evidence: Evidence) -> Judgement | None:
    """An objective, or the comparison with the baseline, cannot be told."""
    comparison = evidence.comparison
    unknown = [_unknown_sentence(judged) for judged in evidence.judged if judged.state is State.UNKNOWN]
    if comparison is not None:
        unknown += [comparison.problem] if comparison.problem else []
        unknown += [f"the baseline has {name}, and this run could not measure it" for name in comparison.missing]
    causes = _other_load(evidence)
    if causes and evidence.judged:
        unknown.append(f"the load was not that of the document, because {', and '.join(causes)}")
        unknown.append(after_silence(evidence.measurements, evidence.document))
    if evidence.judged or comparison is not None:
        unknown += _sent_again(evidence)
    unknown += missed_in_silences(evidence.measurements, evidence.document, evidence.judged)
    unknown += met_with_cut_prompts(evidence.measurements, evidence.judged)
    if unknown:
        message = _message([*unknown, *_silences(evidence)])
        return Judgement(Verdict.INVALID, VerdictReason.NOT_MEASURED, message)
    few = [_few_sentence(judged) for judged in evidence.judged if judged.state is State.TOO_FEW]
    if few:
        few.append(more_requests(evidence.measurements, evidence.document, evidence.judged))
    if comparison is not None:
        few += comparison.too_few
    if few:
        return Judgement(Verdict.INVALID, VerdictReason.TOO_FEW_REQUESTS, _message(few))
    return _delayed(evidence)


def _delayed(evidence: Evidence) -> Judgement | None:
    """Delays of the load generator can have changed the verdict."""
    comparison = evidence.comparison
    near = [judged for judged in evidence.judged if _is_doubtful(evidence, judged)]
    if near:
        names = ", ".join(judged.name for judged in near)
        cause = f"{_lag_sentence(evidence)}, which can change {names}"
        return _client_limited([cause, *map(_sentence, near)])
    if comparison is not None and comparison.delayed:
        names = f"{_lag_sentence(evidence)}, which can be why metrics are worse than in the baseline"
        return _client_limited([names, *comparison.delayed])
    pause = own_pause(evidence.measurements, evidence.document)
    if pause and evidence.judged:
        return _client_limited([pause])
    late = list(sent_late(evidence.measurements, evidence.document, evidence.judged))
    if late:
        return _client_limited(late)
    lowered = {"it sent requests late": _late_rates(evidence), _lag_sentence(evidence): _doubtful_rates(evidence)}
    causes = [f"{cause}, which can be why the objectives were missed at {at}" for cause, at in lowered.items() if at]
    return _client_limited(causes) if causes else None


def _passed(evidence: Evidence) -> Judgement | None:
    if not evidence.judged and evidence.comparison is None:
        return None
    met = [_sentence(judged) for judged in evidence.judged]
    totals = [f"all {len(met)} objectives were met" if len(met) > 1 else "the objective was met"] if met else []
    if evidence.comparison is not None:
        totals += comparison_facts(evidence.comparison)
    message = _message([*totals, *met, *_facts(evidence)])
    return Judgement(Verdict.PASSED, VerdictReason.OBJECTIVES_MET, message)


def _is_saturated(evidence: Evidence) -> bool:
    """Return whether the server did not follow the offered rate. A sweep exceeds it on purpose, to find the limit.

    The objectives can be met all the same: latencies that grow with the time meet any objective in a short run.
    """
    measurements = evidence.measurements
    if evidence.document.load.sweep is None:
        return measurements.saturation is not None and bool(evidence.judged)
    is_without_result = measurements.sweep is not None and measurements.sweep.rate is None
    is_kept_up = all(judged.state is State.MET for judged in evidence.judged)
    return is_without_result and is_kept_up and not _late_rates(evidence)


def _missed(evidence: Evidence) -> list[Judged]:
    """Return the objectives that were missed whatever the delays of the load generator are."""
    return [judged for judged in evidence.judged if judged.state is State.MISSED and not _is_doubtful(evidence, judged)]


def _is_doubtful(evidence: Evidence, judged: Judged) -> bool:
    lag = _lag(evidence.measurements)
    return lag > MAX_LAG_P99 and could_be_other(judged, evidence.group, evidence.document.objectives, lag)


def _doubtful_rates(evidence: Evidence) -> str:
    """Return the rates of a sweep, the lowest first, that were too high and could have met all without the delays.

    Each of them lowers the result of the sweep.
    """
    measurements, objectives = evidence.measurements, evidence.document.objectives
    lag = _lag(measurements)
    if measurements.sweep is None or lag <= MAX_LAG_P99:
        return ""
    names: list[str] = []
    for step in sorted(measurements.steps, key=lambda step: step.offered_rate):
        missed = [judged for judged in judge_group(step.group, objectives) if judged.state is State.MISSED]
        if step.met or not (missed or step.growth) or step.growth > _MAX_LAG_GROWTH * lag * MICROSECONDS:
            continue
        if step.name not in names and all(could_be_other(item, step.group, objectives, lag) for item in missed):
            names.append(step.name)
    return _named(names)


def _late_rates(evidence: Evidence) -> str:
    """Return the rates of a sweep that the load generator itself made too high, or nothing.

    Each of them lowers the result of the sweep.
    """
    steps = sorted(evidence.measurements.steps, key=lambda step: step.offered_rate)
    return _named(list(dict.fromkeys(step.name for step in steps if step.is_late)))


def _named(rates: Sequence[str]) -> str:
    """Return rates as a text, the lowest first."""
    return ", ".join(rates) if len(rates) <= _MAX_NAMES else f"{len(rates)} rates ({rates[0]} to {rates[-1]})"


def _lag_sentence(evidence: Evidence) -> str:
    lag, limit = format_duration(_lag(evidence.measurements)), format_duration(MAX_LAG_P99)
    return f"the p99 delay of its event loop was {lag} (maximum: {limit})"


def _lag(measurements: Measurements) -> float:
    return measurements.worst_lag / MICROSECONDS


def _regressions(evidence: Evidence) -> tuple[RegressionResult, ...]:
    return evidence.comparison.results if evidence.comparison is not None else ()


def _client_limited(causes: list[str]) -> Judgement:
    message = _message(["the load generator was the bottleneck", *causes, "give it more CPU, or reduce the load"])
    return Judgement(Verdict.INVALID, VerdictReason.CLIENT_LIMITED, message)


def _client_limits(measurements: Measurements) -> Iterator[str]:
    """Yield a sentence for each sign that the load generator changed the load."""
    offered = measurements.offered
    if offered and measurements.unsent > (1 - MIN_SENT_SHARE) * offered:
        share = 100 * (offered - measurements.unsent) / offered
        yield f"it sent {share:.0f} % of the due requests before the load ended (minimum: {100 * MIN_SENT_SHARE:.0f} %)"
    duration = (measurements.warmup + measurements.load + measurements.drain) or 1
    if measurements.throttled > MAX_THROTTLED_SHARE * duration:
        throttled = format_duration(measurements.throttled / MICROSECONDS)
        yield f"its CPU limit throttled it for {throttled} (maximum: {100 * MAX_THROTTLED_SHARE:.0f} % of the run)"


def _sentence(judged: Judged) -> str:
    """Return an objective with its measured value, its interval and its threshold."""
    metric = judged.metric
    measured, threshold = apart(metric, judged.measured, judged.objective.threshold)
    bound = "at least" if metric.higher_is_better else "at most"
    side = "inside" if judged.is_near else "outside"
    value = f"was {measured}"
    if judged.measured == inf:
        unanswered = judged.unanswered
        value = f"has no value, because {of(unanswered, judged.requests, 'request')} {was(unanswered)} never answered"
    return (
        f"{judged.name} {value} (95 % interval: {_interval(judged)}; objective: {bound} {threshold}, "
        f"{side} the interval){_left_out(judged)}"
    )


def _left_out(judged: Judged) -> str:
    """Return the end of a sentence about an objective that is not judged on all requests, or nothing."""
    count = judged.left_out
    if not count:
        return ""
    which = f"{of(judged.requests, judged.requests + count, 'request')} count{'s' if judged.requests == 1 else ''}"
    return f"; {which}, because {plural(count, 'answer')} {'has' if count == 1 else 'have'} only one token"


def _interval(judged: Judged) -> str:
    result = judged.result()
    low, high = result.low, result.high
    if low is None:
        return "unlimited" if high is None else f"up to {high}"
    if low == NEVER_ANSWERED:
        return low
    return f"{low} or more" if high is None else f"{low} to {high}"


def _unknown_sentence(judged: Judged) -> str:
    metric = judged.metric
    bound = "at least" if metric.higher_is_better else "at most"
    threshold = metric.format(judged.objective.threshold)
    return f"{judged.name} could not be measured (objective: {bound} {threshold}){_left_out(judged)}"


def _few_sentence(judged: Judged) -> str:
    there = "there was 1" if judged.requests == 1 else f"there were {judged.requests}"
    return f"{judged.name} needs at least {judged.needed} requests, and {there}{_left_out(judged)}"


def _untold_facts(evidence: Evidence) -> list[str]:
    """Return sentences about objectives that cannot be told, beside those that were missed."""
    unknown = [_unknown_sentence(judged) for judged in evidence.judged if judged.state is State.UNKNOWN]
    return unknown + [_few_sentence(judged) for judged in evidence.judged if judged.state is State.TOO_FEW]


def _facts(evidence: Evidence) -> list[str]:
    """Return what a reader has to know although it does not decide."""
    measurements = evidence.measurements
    facts = []
    if measurements.saturation is not None:
        saturation = measurements.saturation
        facts.append(
            f"the server could not follow the offered rate {since(saturation.at_seconds)}, at "
            f"{saturation.offered_rate:.3g} requests/s"
        )
    facts += [*_other_load(evidence), *_sent_again(evidence), *_silences(evidence)]
    facts += [*cut_by_the_run(measurements, evidence.document), *cut_by_the_server(measurements.lengths)]
    loading = loading_time(measurements)
    if loading > MAX_LOST_SHARE * measurements.load / MICROSECONDS:
        facts.append(
            f"the server was loading the model for {format_duration(loading)} of the load, which is part of the first "
            "latencies; a warm-up leaves it out"
        )
    if measurements.sweep is not None and measurements.sweep.message:
        between = interval_of_sweep(measurements.sweep, measurements.steps)
        interval = f"; 95 % interval {between} requests/s" if between else ""
        facts.append(f"{measurements.sweep.message}{interval}")
    if measurements.sweep is not None and _lag(measurements) > MAX_LAG_P99:
        facts.append(_lag_sentence(evidence).replace("its event loop", "the load generator's event loop"))
    if evidence.comparison is not None:
        facts += evidence.comparison.differences
    return facts


def _silences(evidence: Evidence) -> list[str]:
    return list(silences(evidence.measurements, evidence.document))


def _sent_again(evidence: Evidence) -> list[str]:
    """Return a sentence if more requests were sent again than a server causes that closes idle connections.

    The client cannot tell such a request from one that the server has read and dropped, which is a failure.
    """
    count, requests = evidence.measurements.sent_again, evidence.measurements.whole.requests
    if count <= MAX_SENT_AGAIN_SHARE * requests:
        return []
    return [
        f"{of(count, requests, 'request')} {was(count)} answered only when sent again (maximum: "
        f"{100 * MAX_SENT_AGAIN_SHARE:.0f} %), because the server closed the reused connection without a response: it "
        "may have read and dropped them",
        "look at the log of the server and of the proxies in front of it, and let them keep idle connections longer",
    ]


def _other_load(evidence: Evidence) -> list[str]:
    """Return what made the load another one than that of the document, whoever caused it."""
    measurements, document = evidence.measurements, evidence.document
    return [*lost_time(measurements, document), *kept_back(measurements, document, evidence.judged)]


def _message(facts: Sequence[str]) -> str:
    """Return facts as sentences, within the bound of the summary."""
    text = " ".join(f"{fact[:1].upper()}{fact[1:].rstrip('.')}." for fact in facts if fact)
    return text if len(text) <= _MAX_MESSAGE else text[: _MAX_MESSAGE - 1] + "…"
