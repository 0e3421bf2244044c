"""The regression gate: compares a run with a baseline, so that equal servers are rarely told apart by chance.

A metric has regressed if it is certainly worse than the baseline by more than the allowed share: the lower bound of its
confidence interval is above the upper bound of the baseline's, multiplied by 1 + `maxRegression`. For two runs of equal
servers, one of the bounds must then miss its true value. All bounds together (8 comparisons with two bounds each) miss
with a probability of at most FALSE_ALARMS (Bonferroni), so this is the rate of false alarms of the whole gate, for any
distribution of the latencies and for any allowed share.

The bounds hold for independent requests. Requests that wait for each other are alike, so the number of requests is
divided by the design effect, which is how much more 20 successive parts of the run differ than independent requests
would (Kish, Survey Sampling, 5.4).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, floor, inf, sqrt
from statistics import NormalDist

from llmendpoint_common.contracts.loadrun import (
    METRICS,
    Environment,
    Metric,
    MetricName,
    RegressionResult,
    RunDocument,
    Summary,
)
from llmendpoint_common.process.errors import RunResultError
from llmendpoint_common.results.confidence import Interval, percentile_ranks, share_interval
from llmendpoint_common.results.differences import differences
from llmendpoint_common.results.histogram import MICROSECONDS, Histogram, rank_of
from llmendpoint_common.results.measurements import Group, Measurements
from llmendpoint_common.results.timeline import Bucket
from llmendpoint_common.results.words import NEVER_ANSWERED

#: Probability with which the gate finds a regression between two runs of equal servers.
FALSE_ALARMS = 0.01
_PERCENTILES = (50, 95)
_LATENCIES = (MetricName.TTFT, MetricName.TPOT, MetricName.REQUEST_LATENCY)
_COMPARISONS = len(_LATENCIES) * len(_PERCENTILES) + 2
#: Probability with which one bound misses its true value.
_SIDE = FALSE_ALARMS / (2 * _COMPARISONS)
_PARTS = 20
_MAX_CHANGE = 1e9


@dataclass(frozen=True)
class Comparison:
    """A comparison with a baseline.

    `problem` is why there is none, as a sentence. `missing` are metrics that only the baseline has. `is_too_small` is
    whether one of the runs has too few requests to find any regression. `differences` are sentences about settings.
    """

    results: tuple[RegressionResult, ...] = ()
    differences: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    problem: str = ""
    is_too_small: bool = False


def compare(
    measurements: Measurements, document: RunDocument, baseline: Summary | None, environment: Environment
) -> Comparison | None:
    """Return the comparison of a run with its baseline, or None if the document has no baseline."""
    if document.baseline is None:
        return None
    if baseline is None:
        return Comparison(problem="There is no result of the baseline to compare with")
    try:
        before = Measurements.decode(baseline.measurements)
    except RunResultError:
        return Comparison(problem="The baseline has no measurements that can be compared")
    if not measurements.whole.requests:
        return Comparison(is_too_small=True)
    if not before.whole.answered:
        return Comparison(problem="No request of the baseline was answered")
    notes = tuple(differences(document, environment, baseline))
    return replace(_compare(measurements, before, document.baseline.max_regression), differences=notes)


def _compare(now: Measurements, before: Measurements, allowed: float) -> Comparison:
    results: list[RegressionResult] = []
    missing: list[str] = []
    is_small = True
    for metric in (METRICS[name] for name in _LATENCIES):
        was, is_ = before.whole.histogram(metric.field), now.whole.histogram(metric.field)
        if was.count and not is_.count and now.whole.answered:
            missing.append(metric.name.value)
        if not was.count or not is_.count:
            continue
        for percent in _PERCENTILES:
            pair = _latency_at(before, metric, percent), _latency_at(now, metric, percent)
            if pair[0].bounds.high < inf and pair[1].bounds.low > 0:
                is_small = False
            results.append(_latency_result(metric, percent, *pair, allowed))
    results += [_throughput(now, before, allowed), _errors(now.whole, before.whole, allowed)]
    return Comparison(tuple(results), missing=tuple(missing), is_too_small=is_small and not missing)


@dataclass(frozen=True)
class _Estimate:
    """A value with its confidence interval."""

    value: float
    bounds: Interval


def _latency_at(run: Measurements, metric: Metric, percent: int) -> _Estimate:
    """Return a percentile over answered and failed requests."""
    histogram = run.whole.histogram(metric.field)
    count = histogram.count + run.whole.errors + run.whole.empty
    rank = rank_of(percent, count)
    independent = max(1, floor(count / _design_effect(run, metric, percent)))
    low, high = percentile_ranks(percent / 100, independent, 1 - 2 * _SIDE)
    scale = count / independent
    first = floor(low * scale) if low else 0
    last = ceil(high * scale) if high <= independent else count + 1
    return _Estimate(
        _value_at(histogram, rank),
        Interval(_value_at(histogram, first) if first else 0.0, _value_at(histogram, last) if last <= count else inf),
    )


def _value_at(histogram: Histogram, rank: int) -> float:
    return histogram.value_at(rank) if rank <= histogram.count else inf


def _design_effect(run: Measurements, metric: Metric, percent: int) -> float:
    """Return the variance of the number of requests above a percentile between parts of the run, relative to chance."""
    parts = _parts(run)
    whole = Bucket()
    for part in parts:
        whole.merge(part)
    name = "ttft" if metric.name is MetricName.TTFT else "request_latency"
    total: Histogram = getattr(whole, name)
    if len(parts) < _PARTS or not total.count:
        return 1.0
    limit = total.value_at(rank_of(percent, total.count))
    share = total.count_to(limit) / total.count
    observed = expected = 0.0
    for part in parts:
        histogram: Histogram = getattr(part, name)
        observed += (histogram.count_to(limit) - share * histogram.count) ** 2
        expected += share * (1 - share) * histogram.count
    return max(1.0, observed / expected) if expected else 1.0


def _parts(run: Measurements) -> list[Bucket]:
    """Return 20 successive parts of the timeline, without warm-up and drain, or fewer if it is short."""
    width = run.timeline.width
    last = run.load / MICROSECONDS / width
    buckets = [bucket for index, bucket in sorted(run.timeline.buckets.items()) if index >= 0 and index + 1 <= last]
    size = max(1, len(buckets) // _PARTS)
    parts: list[Bucket] = []
    for start in range(0, size * min(_PARTS, len(buckets) // size), size):
        part = Bucket()
        for bucket in buckets[start : start + size]:
            part.merge(bucket)
        parts.append(part)
    return parts


def _latency_result(
    metric: Metric, percent: int, before: _Estimate, now: _Estimate, allowed: float
) -> RegressionResult:
    name = f"{metric.name.value} p{percent}"
    has_regressed = now.bounds.low > before.bounds.high * (1 + allowed)
    was, is_ = (NEVER_ANSWERED if value == inf else metric.format(value) for value in (before.value, now.value))
    return _result(name, was, is_, _change(before.value, now.value), has_regressed, allowed)


def _throughput(run: Measurements, baseline: Measurements, allowed: float) -> RegressionResult:
    """Compare answered requests per second, whose number varies at least as much as a Poisson process."""
    was, is_ = _rate(baseline), _rate(run)
    has_regressed = is_.bounds.high * (1 + allowed) < was.bounds.low
    before, now = (f"{estimate.value:.4g} requests/s" for estimate in (was, is_))
    return _result("Throughput", before, now, _change(is_.value, was.value), has_regressed, allowed)


def _rate(run: Measurements) -> _Estimate:
    seconds = run.load / MICROSECONDS
    if seconds <= 0:
        return _Estimate(0.0, Interval(0.0, inf))
    counts = [part.completed for part in _parts(run)]
    mean = sum(counts) / len(counts) if counts else 0.0
    variance = sum((count - mean) ** 2 for count in counts) / (len(counts) - 1) if len(counts) >= _PARTS else 0.0
    dispersion = max(1.0, variance / mean) if mean else 1.0
    # The square root of a Poisson variable has a standard deviation of 1/2 (Anscombe 1948).
    width = NormalDist().inv_cdf(1 - _SIDE) * sqrt(dispersion) / 2
    root = sqrt(run.whole.completed)
    low, high = max(0.0, root - width) ** 2, (sqrt(run.whole.completed + 1) + width) ** 2
    return _Estimate(run.whole.completed / seconds, Interval(low / seconds, high / seconds))


def _errors(now: Group, before: Group, allowed: float) -> RegressionResult:
    metric = METRICS[MetricName.ERROR_RATE]
    was = share_interval(before.errors, before.requests, 1 - 2 * _SIDE)
    is_ = share_interval(now.errors, now.requests, 1 - 2 * _SIDE)
    has_regressed = is_.low > was.high * (1 + allowed)
    shares = before.errors / before.requests, now.errors / now.requests
    was_text, is_text = (metric.format(share) for share in shares)
    return _result(metric.name.value, was_text, is_text, _change(*shares), has_regressed, allowed)


def _change(before: float, now: float) -> float:
    """Return the relative growth of a value, bounded for JSON."""
    if before == now:
        return 0.0
    if not before or now == inf:
        return _MAX_CHANGE
    return min(_MAX_CHANGE, now / before - 1)


def _result(name: str, before: str, now: str, change: float, has_regressed: bool, allowed: float) -> RegressionResult:
    worse = "" if change >= _MAX_CHANGE else f", which is {100 * change:.3g}% worse"
    message = f"{name} was {now}, and {before} in the baseline{worse} (allowed: {100 * allowed:.3g}%)"
    return RegressionResult(name, before, now, change, has_regressed, message if has_regressed else "")
