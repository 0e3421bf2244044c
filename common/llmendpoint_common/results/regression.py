"""The regression gate: compares a run with a baseline, so that equal servers are rarely told apart by chance.

A metric has regressed if it is certainly worse than the baseline by more than the allowed share: the lower bound of its
confidence interval is above the upper bound of the baseline's, multiplied by 1 + `maxRegression`. For two runs of equal
servers, one of the bounds must then miss its true value. All bounds together (8 comparisons with two bounds each) miss
with a probability of at most FALSE_ALARMS (Bonferroni), so this is the rate of false alarms of the whole gate, for any
distribution of the latencies and for any allowed share.

The bounds hold for independent requests. Requests that wait for each other are alike, so the number of requests is
divided by the design effect, which is how much more 20 successive parts of the run differ than independent requests
would (Kish, Survey Sampling, 5.4). If neighbouring parts are alike too, it is multiplied by (1 + r) / (1 - r) with
their correlation r.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
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
    VerdictReason,
)
from llmendpoint_common.process.errors import RunResultError
from llmendpoint_common.results.confidence import Interval, percentile_ranks, share_interval
from llmendpoint_common.results.differences import differences, has_same_load
from llmendpoint_common.results.histogram import MICROSECONDS, Histogram, rank_of
from llmendpoint_common.results.measurements import Group, Measurements
from llmendpoint_common.results.objectives import MAX_LAG_P99, lag_share
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
#: Correlation of neighbouring parts above which it is no longer chance, and the highest that 20 parts can tell.
_CHANCE = 0.3
_MAX_CORRELATION = 0.9
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
        return Comparison(problem="there is no result of the baseline to compare with")
    before = _measurements_of(baseline)
    if isinstance(before, str):
        return Comparison(problem=before)
    if not measurements.whole.requests:
        return Comparison(is_too_small=True)
    if not before.whole.answered:
        return Comparison(problem="no request of the baseline was answered")
    notes = tuple(differences(document, environment, baseline))
    comparison = _compare(
        measurements, before, document.baseline.max_regression, same_load=has_same_load(document, baseline)
    )
    return replace(comparison, differences=notes)


def _measurements_of(baseline: Summary) -> Measurements | str:
    """Return the measurements of the baseline, or a sentence why there are none to compare with."""
    if baseline.reason is VerdictReason.CLIENT_LIMITED:
        # Its latencies are too long, so that a regression would not be seen.
        return "the load generator was the bottleneck of the baseline"
    try:
        return Measurements.decode(baseline.measurements)
    except RunResultError:
        return "the baseline has no measurements that can be compared"


def _compare(measurements: Measurements, baseline: Measurements, allowed: float, *, same_load: bool) -> Comparison:
    now, before = _Run(measurements), _Run(baseline)
    results: list[RegressionResult] = []
    missing: list[str] = []
    is_small = True
    for metric in (METRICS[name] for name in _LATENCIES):
        has_before, has_now = (bool(run.whole.histogram(metric.field).counts) for run in (before, now))
        if has_before and not has_now and now.whole.answered:
            missing.append(metric.name.value)
        if not has_before or not has_now:
            continue
        for percent in _PERCENTILES:
            pair = before.latency(metric, percent), now.without_lag(metric, now.latency(metric, percent))
            is_small = is_small and (pair[0].bounds.high == inf or not pair[1].bounds.low)
            results.append(_latency_result(metric, percent, *pair, allowed))
    # The throughput depends on the load more than on the server.
    results += [_throughput(now, before, allowed)] if same_load else []
    results.append(_errors(now.whole, before.whole, allowed))
    return Comparison(tuple(results), missing=tuple(missing), is_too_small=is_small and not missing)


@dataclass(frozen=True)
class _Estimate:
    """A value with its confidence interval."""

    value: float
    bounds: Interval


class _Run:
    """A run, with what several comparisons need of it."""

    def __init__(self, measurements: Measurements) -> None:
        self.whole = measurements.whole
        self._lag = measurements.worst_lag / MICROSECONDS
        self._seconds = measurements.load / MICROSECONDS
        self._parts = _parts(measurements)
        self._total = Bucket()
        for part in self._parts:
            self._total.merge(part)

    def latency(self, metric: Metric, percent: int) -> _Estimate:
        """Return a percentile over answered and failed requests."""
        histogram = self.whole.histogram(metric.field)
        answered = histogram.count
        count = answered + self.whole.errors + self.whole.empty
        independent = max(1, floor(count / self._design_effect(metric, percent)))
        low, high = percentile_ranks(percent / 100, independent, 1 - 2 * _SIDE)
        scale = count / independent
        first = floor(low * scale) if low else 0
        last = ceil(high * scale) if high <= independent else count + 1

        def value_at(rank: int) -> float:
            return histogram.value_at(rank) if rank <= answered else inf

        bounds = Interval(value_at(first) if first else 0.0, value_at(last) if last <= count else inf)
        return _Estimate(value_at(rank_of(percent, count)), bounds)

    def without_lag(self, metric: Metric, estimate: _Estimate) -> _Estimate:
        """Return an estimate whose lower bound does not contain the delays of the load generator."""
        if self._lag <= MAX_LAG_P99:
            return estimate
        low, high = estimate.bounds
        return replace(estimate, bounds=Interval(max(0.0, low - lag_share(metric, self.whole, self._lag)), high))

    def rate(self) -> _Estimate:
        """Return the answered requests per second, whose number varies at least as much as a Poisson process."""
        if self._seconds <= 0:
            return _Estimate(0.0, Interval(0.0, inf))
        counts = [part.completed for part in self._parts]
        mean = sum(counts) / len(counts) if counts else 0.0
        variance = sum((count - mean) ** 2 for count in counts) / (len(counts) - 1) if len(counts) >= _PARTS else 0.0
        dispersion = max(1.0, variance / mean) if mean else 1.0
        # The square root of a Poisson variable has a standard deviation of 1/2 (Anscombe 1948).
        width = NormalDist().inv_cdf(1 - _SIDE) * sqrt(dispersion) / 2
        completed = self.whole.completed
        low, high = max(0.0, sqrt(completed) - width) ** 2, (sqrt(completed + 1) + width) ** 2
        return _Estimate(completed / self._seconds, Interval(low / self._seconds, high / self._seconds))

    def _design_effect(self, metric: Metric, percent: int) -> float:
        """Return the variance of the number of requests above a percentile between parts, relative to chance."""
        name = "ttft" if metric.name is MetricName.TTFT else "request_latency"
        total: Histogram = getattr(self._total, name)
        if len(self._parts) < _PARTS or not total.counts:
            return 1.0
        limit, whole = total.percentile(percent), total.count
        share = total.count_to(limit) / whole
        excess: list[float] = []
        expected = 0.0
        for part in self._parts:
            histogram: Histogram = getattr(part, name)
            count = histogram.count
            excess.append(histogram.count_to(limit) - share * count)
            expected += share * (1 - share) * count
        observed = sum(value * value for value in excess)
        if not expected or not observed:
            return 1.0
        return max(1.0, observed / expected) * _inflation(excess, observed)


def _inflation(excess: list[float], squares: float) -> float:
    """Return how much longer than a part the requests are alike: the sum of an AR(1) process, from neighbours."""
    neighbours = sum(one * other for one, other in pairwise(excess)) / squares
    if neighbours < _CHANCE:
        return 1.0
    correlation = min(_MAX_CORRELATION, neighbours)
    return (1 + correlation) / (1 - correlation)


def _parts(run: Measurements) -> list[Bucket]:
    """Return 20 successive parts of the timeline, without warm-up and drain, or fewer if it is short."""
    last = run.load / MICROSECONDS / run.timeline.width
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


def _throughput(now: _Run, before: _Run, allowed: float) -> RegressionResult:
    was, is_ = before.rate(), now.rate()
    has_regressed = is_.bounds.high * (1 + allowed) < was.bounds.low
    texts = [f"{estimate.value:.4g} requests/s" for estimate in (was, is_)]
    return _result("Throughput", texts[0], texts[1], _change(is_.value, was.value), has_regressed, allowed)


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
