"""From samples to a summary and a verdict: Passed, Failed, or Invalid where the client was the limit."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from llmendpoint_common.contracts.loadrun import (
    LATENCY_METRICS,
    CategoryResult,
    MetricName,
    ObjectiveResult,
    Percentiles,
    Quantity,
    Summary,
    Verdict,
)
from llmendpoint_common.process.units import format_duration
from llmendpoint_loadjob.client.requests import RequestOptions
from llmendpoint_loadjob.load.run import Outcome
from llmendpoint_loadjob.result.histogram import Histogram, histogram_of
from llmendpoint_loadjob.result.objectives import Objective
from llmendpoint_loadjob.result.timings import Sample

MAX_LAG_P99 = 0.010
MIN_SENT_SHARE = 0.95
MAX_THROTTLED_SHARE = 0.01

_VALUES: dict[MetricName, Callable[[Sample], float | None]] = {
    MetricName.TTFT: lambda sample: sample.ttft,
    MetricName.TPOT: lambda sample: sample.tpot,
    MetricName.REQUEST_LATENCY: lambda sample: sample.request_latency,
}


@dataclass(frozen=True)
class Judgement:
    """A verdict with its documented reason and a sentence."""

    verdict: Verdict
    reason: str
    message: str


def summarize(
    outcome: Outcome, objectives: Sequence[Objective], target: str, options: RequestOptions, seed: int
) -> Summary:
    """Return the result of a run."""
    samples = outcome.samples
    good = [sample for sample in samples if sample.error is None]
    attained = sum(_attains(sample, objectives) for sample in samples)
    histograms = _histograms(good) | {"client_lag": outcome.lag}
    slo = tuple(_measure(objective, samples, histograms, attained) for objective in objectives)
    judgement = judge(outcome, slo)
    output_tokens = sum(sample.output_tokens for sample in good)
    return Summary(
        verdict=judgement.verdict,
        reason=judgement.reason,
        message=judgement.message,
        target=target,
        model=options.model,
        api=options.api,
        seed=seed,
        duration=Quantity(outcome.duration, "seconds"),
        requests=len(samples),
        errors=len(samples) - len(good),
        errors_by_class=dict(Counter(sample.error.value for sample in samples if sample.error is not None)),
        requests_per_second=Quantity(len(good) / outcome.duration, "requests/s"),
        goodput=Quantity(attained / outcome.duration, "requests/s"),
        attainment=Quantity(attained / len(samples) if samples else 0.0, "ratio"),
        input_tokens=sum(sample.input_tokens for sample in good),
        output_tokens=output_tokens,
        output_tokens_per_second=Quantity(output_tokens / outcome.duration, "tokens/s"),
        slo=slo,
        categories=_categories(samples),
        histograms={name: histogram.dump() for name, histogram in histograms.items() if histogram.count},
        **{name: percentiles(histogram) for name, histogram in histograms.items()},
    )


def judge(outcome: Outcome, slo: Sequence[ObjectiveResult]) -> Judgement:
    """Return the verdict. A client that was the limit makes every other statement worthless, so it comes first."""
    if not outcome.samples:
        return Judgement(Verdict.FAILED, "TooFewRequests", "no request was measured; zero requests never pass")
    limits = list(_client_limits(outcome))
    if limits:
        advice = "give the load generator more CPU, or lower the load"
        return Judgement(Verdict.INVALID, "ClientLimited", f"the client was the limit: {'; '.join(limits)}; {advice}")
    if not slo:
        return Judgement(Verdict.NONE, "NoObjectives", "the run only reports: it has no objectives")
    missed = [result for result in slo if not result.met]
    if missed:
        sentence = "; ".join(f"{_name(result)} was {result.measured}, wanted {result.threshold}" for result in missed)
        return Judgement(Verdict.FAILED, "ObjectivesMissed", sentence)
    return Judgement(Verdict.PASSED, "ObjectivesMet", f"all {len(slo)} objectives were met")


def percentiles(histogram: Histogram) -> Percentiles | None:
    """Return the percentiles of a histogram in seconds; None for an empty one."""
    if not histogram.count:
        return None
    p50, p90, p95, p99 = (histogram.percentile(percent) for percent in (50, 90, 95, 99))
    return Percentiles(histogram.count, histogram.mean, p50, p90, p95, p99, histogram.max)


def _name(result: ObjectiveResult) -> str:
    return f"{result.metric.value} p{result.percentile}" if result.percentile else result.metric.value


def _client_limits(outcome: Outcome) -> Iterable[str]:
    if outcome.lag.count:
        lag = outcome.lag.percentile(99)
        if lag > MAX_LAG_P99:
            yield f"its event loop was {format_duration(lag)} late (p99; allowed {format_duration(MAX_LAG_P99)})"
    if outcome.offered and outcome.sent / outcome.offered < MIN_SENT_SHARE:
        share = 100 * outcome.sent / outcome.offered
        yield f"it sent {share:.0f} % of the offered requests in time (at least {100 * MIN_SENT_SHARE:.0f} % wanted)"
    if outcome.throttled_seconds > MAX_THROTTLED_SHARE * outcome.duration:
        yield f"its CPU limit stopped it for {format_duration(outcome.throttled_seconds)}"


def _attains(sample: Sample, objectives: Sequence[Objective]) -> bool:
    """Tell whether a request met every latency objective; an error never does."""
    if sample.error is not None:
        return False
    for objective in objectives:
        if objective.metric in LATENCY_METRICS:
            value = _VALUES[objective.metric](sample)
            if value is not None and not objective.met_by(value):
                return False
    return True


def _measure(
    objective: Objective, samples: Sequence[Sample], histograms: dict[str, Histogram], attained: int
) -> ObjectiveResult:
    value: float | None
    if objective.metric in LATENCY_METRICS:
        field = {MetricName.TTFT: "ttft", MetricName.TPOT: "tpot", MetricName.REQUEST_LATENCY: "request_latency"}
        histogram = histograms[field[objective.metric]]
        value = histogram.percentile(objective.percentile or 50) if histogram.count else None
    elif objective.metric is MetricName.ERROR_RATE:
        value = sum(sample.error is not None for sample in samples) / len(samples) if samples else None
    else:
        value = attained / len(samples) if samples else None
    return ObjectiveResult(
        metric=objective.metric,
        percentile=objective.percentile,
        threshold=objective.shown(objective.threshold),
        measured="nothing measured" if value is None else objective.shown(value),
        met=value is not None and objective.met_by(value),
    )


def _histograms(good: Sequence[Sample]) -> dict[str, Histogram]:
    """Return latency histograms of the answered requests, by the summary's field."""
    return {
        "ttft": histogram_of(sample.ttft for sample in good if sample.ttft is not None),
        "tpot": histogram_of(sample.tpot for sample in good if sample.tpot is not None),
        "request_latency": histogram_of(sample.request_latency for sample in good),
        "queue_delay": histogram_of(sample.queue_delay for sample in good),
        "ttft_scheduled": histogram_of(s.ttft_scheduled for s in good if s.ttft_scheduled is not None),
        "request_latency_scheduled": histogram_of(sample.request_latency_scheduled for sample in good),
    }


def _categories(samples: Sequence[Sample]) -> tuple[CategoryResult, ...]:
    groups: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        groups[sample.category].append(sample)
    results = []
    for category, members in sorted(groups.items()):
        good = [sample for sample in members if sample.error is None]
        histograms = _histograms(good)
        results.append(
            CategoryResult(
                category=category,
                requests=len(members),
                errors=len(members) - len(good),
                output_tokens=sum(sample.output_tokens for sample in good),
                ttft=percentiles(histograms["ttft"]),
                request_latency=percentiles(histograms["request_latency"]),
            )
        )
    return tuple(results)
