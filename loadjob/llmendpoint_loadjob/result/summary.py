"""The summary of a run, computed from its samples."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from llmendpoint_common.contracts.loadrun import (
    METRICS,
    NOTHING_MEASURED,
    CategoryResult,
    Metric,
    MetricName,
    Objective,
    ObjectiveResult,
    Percentiles,
    Quantity,
    RunDocument,
    Summary,
    Unit,
)
from llmendpoint_loadjob.result.histogram import Histogram, histogram_of
from llmendpoint_loadjob.result.timings import Outcome, Sample
from llmendpoint_loadjob.result.verdict import judge


def summarize(outcome: Outcome, document: RunDocument) -> Summary:
    """Return the summary of a run, with its verdict."""
    samples = outcome.samples
    good = _answered(samples)
    attained = sum(_attains(sample, document.objectives) for sample in samples)
    histograms = _histograms(good) | {"client_lag": outcome.lag}
    slo = tuple(_measure(objective, samples, histograms, attained) for objective in document.objectives)
    judgement = judge(outcome, slo)
    output_tokens = sum(sample.output_tokens for sample in good)
    return Summary(
        verdict=judgement.verdict,
        reason=judgement.reason,
        message=judgement.message,
        target=document.target.url,
        model=document.model,
        api=document.target.api,
        seed=document.load.seed,
        duration=Quantity(outcome.duration, Unit.SECONDS),
        requests=len(samples),
        errors=len(samples) - len(good),
        errors_by_class=dict(Counter(sample.error.value for sample in samples if sample.error is not None)),
        requests_per_second=Quantity(len(good) / outcome.duration, "requests/s"),
        goodput=Quantity(attained / outcome.duration, "requests/s"),
        attainment=Quantity(attained / len(samples) if samples else 0.0, Unit.SHARE),
        input_tokens=sum(sample.input_tokens for sample in good),
        output_tokens=output_tokens,
        output_tokens_per_second=Quantity(output_tokens / outcome.duration, "tokens/s"),
        slo=slo,
        categories=tuple(_categories(samples)),
        histograms={name: histogram.dump() for name, histogram in histograms.items() if histogram.count},
        partial=outcome.interrupted,
        **{name: percentiles(histogram) for name, histogram in histograms.items()},
    )


def percentiles(histogram: Histogram) -> Percentiles | None:
    """Return the percentiles of a histogram in seconds, or None if it is empty."""
    if not histogram.count:
        return None
    p50, p90, p95, p99 = (histogram.percentile(percent) for percent in (50, 90, 95, 99))
    return Percentiles(histogram.count, histogram.mean, p50, p90, p95, p99, histogram.max)


def _answered(samples: Sequence[Sample]) -> list[Sample]:
    return [sample for sample in samples if sample.error is None]


def _attains(sample: Sample, objectives: Sequence[Objective]) -> bool:
    """Return whether a request met every latency objective. A failed request did not.

    Latencies that could not be measured are ignored.
    """
    if sample.error is not None:
        return False
    for objective in objectives:
        metric = METRICS[objective.metric]
        value = _latency(sample, metric) if metric.is_latency else None
        if value is not None and not metric.meets(value, objective.threshold):
            return False
    return True


def _latency(sample: Sample, metric: Metric) -> float | None:
    """Return a latency of a sample in seconds, or None if it was not measured."""
    value: float | None = getattr(sample, metric.field)
    return value


def _measure(
    objective: Objective, samples: Sequence[Sample], histograms: dict[str, Histogram], attained: int
) -> ObjectiveResult:
    metric = METRICS[objective.metric]
    value: float | None = None
    if metric.is_latency:
        histogram = histograms[metric.field]
        if histogram.count:
            value = histogram.percentile(objective.percentile or 50)
    elif samples:
        failed = len(samples) - len(_answered(samples))
        value = (failed if metric.name is MetricName.ERROR_RATE else attained) / len(samples)
    return ObjectiveResult(
        metric=objective.metric,
        percentile=objective.percentile,
        threshold=metric.format(objective.threshold),
        measured=NOTHING_MEASURED if value is None else metric.format(value),
        met=value is not None and metric.meets(value, objective.threshold),
    )


def _histograms(good: Sequence[Sample]) -> dict[str, Histogram]:
    """Return the latency histograms of successful requests, by field of the summary."""
    return {
        "ttft": histogram_of(sample.ttft for sample in good if sample.ttft is not None),
        "tpot": histogram_of(sample.tpot for sample in good if sample.tpot is not None),
        "request_latency": histogram_of(sample.request_latency for sample in good),
        "queue_delay": histogram_of(sample.queue_delay for sample in good),
        "ttft_scheduled": histogram_of(s.ttft_scheduled for s in good if s.ttft_scheduled is not None),
        "request_latency_scheduled": histogram_of(sample.request_latency_scheduled for sample in good),
    }


def _categories(samples: Sequence[Sample]) -> Iterator[CategoryResult]:
    groups: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        groups[sample.category].append(sample)
    for category, members in sorted(groups.items()):
        good = _answered(members)
        histograms = _histograms(good)
        yield CategoryResult(
            category=category,
            requests=len(members),
            errors=len(members) - len(good),
            output_tokens=sum(sample.output_tokens for sample in good),
            ttft=percentiles(histograms["ttft"]),
            request_latency=percentiles(histograms["request_latency"]),
        )
