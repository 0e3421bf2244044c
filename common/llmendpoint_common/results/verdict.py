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

from llmendpoint_common.contracts.loadrun import RegressionResult, RunDocument, Verdict, VerdictReason, advice
from llmendpoint_common.process.units import format_duration
from llmendpoint_common.results.delivery import (
    MAX_LOST_SHARE,
    MIN_SENT_SHARE,
    after_silence,
    idle_users,
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
from llmendpoint_common.results.objective_sentences import few_sentence, measured_sentence, unknown_sentence
from llmendpoint_common.results.objectives import MAX_LAG_P99, Judged, State, could_be_other, judge_group
from llmendpoint_common.results.prompt_lengths import cut_by_the_run, cut_by_the_server, met_with_cut_prompts
from llmendpoint_common.results.regression import Comparison, comparison_facts
from llmendpoint_common.results.silences import hidden_silences, missed_in_silences, silences
from llmendpoint_common.results.words import of, plural, since, was

MAX_THROTTLED_SHARE = 0.01
#: Share of a core from which on a load generator is busy, so that its delays count although they are short.
BUSY_SHARE = 0.8
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
    return _client_limited(limits, evidence.measurements.blocked) if limits else None


def _failed(evidence: Evidence) -> Judgement | None:
    """An objective, the baseline or the offered rate was missed for certain."""
    if not evidence.judged and evidence.comparison is None:
        return None
    if _is_saturated(evidence):
        return Judgement(Verdict.FAILED, VerdictReason.SATURATED, _message(_facts(evidence)))
    regressed = [result.message for result in _regressions(evidence) if result.regressed]
    missed = [measured_sentence(judged) for judged in _missed(evidence)]
    if regressed:
        return Judgement(Verdict.FAILED, VerdictReason.REGRESSION, _message([*regressed, *missed, *_facts(evidence)]))
    if missed:
        message = _message([*missed, *_untold_facts(evidence), *_silences(evidence), *_busy(evidence)])
        return Judgement(Verdict.FAILED, VerdictReason.OBJECTIVES_MISSED, message)
    return None


def _untold(evidence: Evidence) -> Judgement | None:
    """An objective, or the comparison with the baseline, cannot be told."""
    comparison = evidence.comparison
    unknown = [unknown_sentence(judged) for judged in evidence.judged if judged.state is State.UNKNOWN]
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
    few = [few_sentence(judged) for judged in evidence.judged if judged.state is State.TOO_FEW]
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
        return _client_limited([cause, *map(measured_sentence, near)])
    if comparison is not None and comparison.delayed:
        names = f"{_lag_sentence(evidence)}, which can be why metrics are worse than in the baseline"
        return _client_limited([names, *comparison.delayed])
    pauses = [check(evidence.measurements, evidence.document) for check in (own_pause, idle_users)]
    if any(pauses) and (evidence.judged or comparison is not None):
        return _client_limited(pauses)
    late = list(sent_late(evidence.measurements, evidence.document, evidence.judged))
    if late:
        return _client_limited(late, evidence.measurements.blocked)
    lowered = {"it sent requests late": _late_rates(evidence), _lag_sentence(evidence): _doubtful_rates(evidence)}
    causes = [f"{cause}, which can be why the objectives were missed at {at}" for cause, at in lowered.items() if at]
    return _client_limited(causes) if causes else None


def _passed(evidence: Evidence) -> Judgement | None:
    if not evidence.judged and evidence.comparison is None:
        return None
    met = [measured_sentence(judged) for judged in evidence.judged]
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
    is_busy = judged.state is State.MISSED and _busy_share(evidence.measurements) >= BUSY_SHARE
    return (lag > MAX_LAG_P99 or is_busy) and could_be_other(judged, evidence.group, evidence.document.objectives, lag)


def _busy_share(measurements: Measurements) -> float:
    """Return how much of a CPU core the load generator used until the end of the load."""
    return measurements.cpu / ((measurements.warmup + measurements.load) or 1)


def _busy(evidence: Evidence) -> list[str]:
    """Return a sentence if a latency was missed, and the load generator was so busy that its own work can be in it."""
    sentence = _busy_sentence(evidence.measurements)
    is_asked = sentence and any(judged.metric.is_latency for judged in _missed(evidence))
    return [sentence.replace("it", "the load generator", 1)] if is_asked else []


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
    measurements = evidence.measurements
    return _busy_sentence(measurements) or f"the p99 delay of its event loop was {_lag_text(measurements)}"


def _busy_sentence(measurements: Measurements) -> str:
    """Return how busy the load generator was, or nothing if it had time."""
    share = _busy_share(measurements)
    if share < BUSY_SHARE:
        return ""
    delay = format_duration(_lag(measurements))
    return f"it used {100 * share:.0f} % of a CPU core, and the p99 delay of its event loop was {delay}"


def _lag_text(measurements: Measurements) -> str:
    return f"{format_duration(_lag(measurements))} (maximum: {format_duration(MAX_LAG_P99)})"


def _lag(measurements: Measurements) -> float:
    return measurements.worst_lag / MICROSECONDS


def _regressions(evidence: Evidence) -> tuple[RegressionResult, ...]:
    return evidence.comparison.results if evidence.comparison is not None else ()


def _client_limited(causes: list[str], blocked: int = 0) -> Judgement:
    """Return the judgement. `blocked` is the number of requests that the limit of open files kept back."""
    remedy = "give it more CPU, or reduce the load"
    if blocked:
        waited = f"{plural(blocked, 'request')} waited because it could not open another connection"
        causes = [*causes, f"{waited}: its limit of open files was reached"]
        remedy = "raise the limit (`ulimit -n`), or reduce the load"
    message = _message(["the load generator was the bottleneck", *causes, remedy])
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


def _untold_facts(evidence: Evidence) -> list[str]:
    """Return sentences about objectives that cannot be told, beside those that were missed."""
    unknown = [unknown_sentence(judged) for judged in evidence.judged if judged.state is State.UNKNOWN]
    return unknown + [few_sentence(judged) for judged in evidence.judged if judged.state is State.TOO_FEW]


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
    facts += hidden_silences(measurements, evidence.document, evidence.judged)
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
        facts.append(f"the p99 delay of the load generator's event loop was {_lag_text(measurements)}")
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
