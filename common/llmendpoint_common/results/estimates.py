"""Percentiles and rates of a run with bounds, of which each misses the true value with a stated probability.

The bounds hold for independent requests. Requests that wait for each other are alike, so the number of requests is
divided by the design effect, which is how much more 20 successive parts of the run differ than independent requests
would (Kish, Survey Sampling, 5.4). If neighbouring parts are alike too, it is multiplied by (1 + r) / (1 - r) with
their correlation r.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil, floor, inf, sqrt
from statistics import NormalDist

from llmendpoint_common.contracts.loadrun import Metric, MetricName
from llmendpoint_common.results.confidence import Interval, percentile_ranks, share_interval
from llmendpoint_common.results.histogram import MICROSECONDS, Histogram, rank_of
from llmendpoint_common.results.measurements import Measurements
from llmendpoint_common.results.objectives import MAX_LAG_P99, lag_share
from llmendpoint_common.results.timeline import Bucket

_PARTS = 20
#: Correlation of neighbouring parts above which it is not chance, and the highest that 20 parts can show.
_CHANCE = 0.3
_MAX_CORRELATION = 0.9
#: Number of independent requests above which the normal distribution is close enough for a rough estimate.
_MAX_EXACT = 2000
_ROUNDING = 1e-9
#: The upper bound of the share of an event that was not seen, in units of z squared / n.
_NO_EVENT = 0.7


@dataclass(frozen=True)
class Estimate:
    """A value with its bounds, of `count` requests that tell as much as `independent` ones.

    `bounds_of` returns the bounds that so many requests of the same distribution would have had, roughly.
    """

    value: float
    bounds: Interval
    count: int
    independent: int
    bounds_of: Callable[[int], Interval]


class RunEstimates:
    """Estimates of a run. `side` is the probability with which one bound misses the true value."""

    def __init__(self, measurements: Measurements, side: float) -> None:
        self.whole = measurements.whole
        self._side = side
        self._z = NormalDist().inv_cdf(1 - side)
        self._lag = measurements.worst_lag / MICROSECONDS
        self._seconds = measurements.load / MICROSECONDS
        self._parts = _parts(measurements)
        self._total = Bucket()
        for part in self._parts:
            self._total.merge(part)

    def latency(self, metric: Metric, percent: int) -> Estimate:
        """Return a percentile over answered and failed requests."""
        histogram = self.whole.histogram(metric.field)
        count = histogram.count + self.whole.errors
        effect = self._design_effect(metric, percent)

        def value_at(share: float) -> float:
            rank = min(count, max(1, ceil(share * count - _ROUNDING)))
            return histogram.value_at(rank) if rank <= histogram.count else inf

        def between(shares: tuple[float, float]) -> Interval:
            low, high = shares
            return Interval(value_at(low) if low > 0 else 0.0, value_at(high) if high <= 1 else inf)

        def bounds_of(requests: int) -> Interval:
            return between(self._rough_shares(percent / 100, max(1, floor(requests / effect))))

        independent = max(1, floor(count / effect))
        bounds = between(self._shares(percent / 100, independent))
        return Estimate(value_at(rank_of(percent, count) / count), bounds, count, independent, bounds_of)

    def _shares(self, share: float, count: int) -> tuple[float, float]:
        """Return the shares of the distribution between which a percentile of so many independent requests lies.

        0, or more than 1, if it is not bounded on that side.
        """
        low, high = percentile_ranks(share, count, 1 - 2 * self._side)
        return low / count, high / count

    def _rough_shares(self, share: float, count: int) -> tuple[float, float]:
        """Return the same with the normal distribution if there are many requests, which is faster."""
        if count <= _MAX_EXACT:
            return self._shares(share, count)
        width = self._z * sqrt(share * (1 - share) / count)
        return share - width, share + width

    def without_lag(self, metric: Metric, estimate: Estimate) -> Estimate:
        """Return an estimate whose lower bound does not contain the delays of the load generator."""
        if self._lag <= MAX_LAG_P99:
            return estimate
        low, high = estimate.bounds
        return replace(estimate, bounds=Interval(max(0.0, low - lag_share(metric, self.whole, self._lag)), high))

    def rate(self) -> Estimate:
        """Return the answered requests per second, whose number varies at least as much as a Poisson process."""
        counts = [part.completed for part in self._parts]
        mean = sum(counts) / len(counts) if counts else 0.0
        variance = sum((count - mean) ** 2 for count in counts) / (len(counts) - 1) if len(counts) >= _PARTS else 0.0
        dispersion = max(1.0, variance / mean) if mean else 1.0
        # The square root of a Poisson variable has a standard deviation of 1/2 (Anscombe 1948).
        width = self._z * sqrt(dispersion) / 2
        completed = self.whole.completed
        rate = completed / self._seconds if self._seconds > 0 else 0.0

        def bounds_of(requests: int) -> Interval:
            low, high = max(0.0, sqrt(requests) - width) ** 2, (sqrt(requests + 1) + width) ** 2
            scale = rate / requests if rate else 1 / self._seconds if self._seconds > 0 else inf
            return Interval(low * scale if low else 0.0, high * scale)

        return Estimate(rate, bounds_of(completed), completed, floor(completed / dispersion), bounds_of)

    def error_rate(self) -> Estimate:
        """Return the share of failed requests."""
        whole = self.whole
        share = whole.errors / whole.requests

        def bounds_of(requests: int) -> Interval:
            width = self._z * sqrt(share * (1 - share) / requests)
            return Interval(max(0.0, share - width), share + width + _NO_EVENT * self._z**2 / requests)

        bounds = share_interval(whole.errors, whole.requests, 1 - 2 * self._side)
        return Estimate(share, bounds, whole.requests, whole.requests, bounds_of)

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
