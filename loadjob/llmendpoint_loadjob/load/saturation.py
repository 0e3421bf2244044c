"""Notices that a server cannot follow the rate of an open loop.

If the rate is above the capacity, each request waits longer than the one before it. Latencies are therefore compared
by the time at which requests were due, and not by the time at which they ended: otherwise a run would look saturated
while its first requests are still in flight.

The null hypothesis is that the server can follow, in the worst case with a capacity equal to the rate. The number of
waiting requests is then a random walk (Lindley, 1952), whose growth over N requests has the variance N · (a + s),
where a and s are the squared coefficients of variation of the gaps and of the service times. By Little's law, a growth
of the latency by d is a growth by rate · d requests. So

    Z = rate · d / sqrt(N · (a + s) + rate² · variance of the two means that d compares)

is at most standard normal, for all loads up to the capacity. s is set to 1, an exponential distribution; the lengths
of responses vary less. A run is saturated if Z is above 3.9, the latency grew by more than 2 % of the time, and
latency and requests in flight both have a trend (Mann-Kendall over 8 groups, one-sided 3 %). The growth also has to
exceed the longest delay of the load generator itself among these requests: after a pause of d, it sends everything that
has become due, and a server that can follow works that off with latencies of up to d. It is tested when the
number of requests has grown by a factor of sqrt(2), on all requests of the level and on the second half of them, for
the time to first token and for the whole latency: 104 tests for a million requests. With 0.00005 for each of them, the
probability of a false alarm is under 1 % per run, by Bonferroni. The tests are not independent, and simulations have
far less.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import NamedTuple

from llmendpoint_common.process.units import format_duration

FALSE_ALARM_RATE = 0.01
SERVICE_DISPERSION = 1.0
_CRITICAL_Z = 3.9
_MIN_SLOPE = 0.02
#: One-sided 3.1 % for 8 values: the number of pairs that grow minus the number of pairs that fall.
_MIN_TREND = 16
_GROUPS = 8
_FIRST_TEST = 64
_TEST_FACTOR = math.sqrt(2.0)
_MAX_COHORTS = 64
#: Share of a cohort that must have ended before it is compared.
_ENDED_SHARE = 0.9
#: A server that refuses significantly more than this share because it has no capacity does not follow the rate either.
_MAX_REFUSED = 0.05


@dataclass
class _Moments:
    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, value: float) -> None:
        self.count += 1
        self.total += value
        self.squares += value * value

    def merge(self, other: _Moments) -> None:
        self.count += other.count
        self.total += other.total
        self.squares += other.squares

    @property
    def mean(self) -> float:
        return self.total / self.count if self.count else 0.0

    @property
    def variance_of_mean(self) -> float:
        return max(0.0, self.squares / self.count - self.mean**2) / self.count if self.count else 0.0


@dataclass
class _Cohort:
    """Requests that were due one after the other."""

    begin: float
    outstanding: float
    due: int = 0
    ended: int = 0
    refused: int = 0
    #: The longest time by which the load generator sent one of the requests too late.
    own_delay: float = 0.0
    ttft: _Moments = field(default_factory=_Moments)
    latency: _Moments = field(default_factory=_Moments)

    def merge(self, other: _Cohort) -> None:
        self.outstanding = (self.outstanding * self.due + other.outstanding * other.due) / (self.due + other.due)
        self.due += other.due
        self.ended += other.ended
        self.refused += other.refused
        self.own_delay = max(self.own_delay, other.own_delay)
        self.ttft.merge(other.ttft)
        self.latency.merge(other.latency)


class Growth(NamedTuple):
    """How latency and requests in flight grew between two times, from the first to the last quarter of the requests."""

    begin: float
    end: float
    rate: float
    metric: str
    latency: tuple[float, float]
    outstanding: tuple[float, float]
    z: float
    refused: float

    @property
    def sentence(self) -> str:
        """The growth for people."""
        seconds = format_duration(self.end - self.begin)
        if not self.metric:
            return f"the server refused {100 * self.refused:.0f}% of the requests in {seconds} as too many (429 or 503)"
        before, after = map(format_duration, self.latency)
        return (
            f"in {seconds}, the requests in flight grew from {self.outstanding[0]:.0f} to {self.outstanding[1]:.0f}, "
            f"and the {self.metric} from {before} to {after}"
        )


class SaturationDetector:
    """Detector for one level of the load. `arrivals` is the squared coefficient of variation of the gaps.

    Requests are identified by their number in the order in which they are due, from 0. Memory is constant: at most 64
    cohorts are kept, and neighbours are merged.
    """

    def __init__(self, arrivals: float, critical_z: float = _CRITICAL_Z) -> None:
        self._dispersion = arrivals + SERVICE_DISPERSION
        self._critical_z = critical_z
        self._cohorts: list[_Cohort] = []
        self._size = 2
        self._next_test = float(_FIRST_TEST)
        self._due = 0
        self._last_due = 0.0

    def due(self, at: float, outstanding: int) -> None:
        """Note that the next request is due. `outstanding` is the number of those that are due and have not ended."""
        if self._due == self._size * len(self._cohorts):
            if len(self._cohorts) == _MAX_COHORTS:
                self._halve()
            self._cohorts.append(_Cohort(at, outstanding))
        self._cohorts[-1].due += 1
        self._due += 1
        self._last_due = at

    def ended(
        self, number: int, latency: float, ttft: float | None, *, is_refused: bool = False, own_delay: float = 0.0
    ) -> None:
        """Note the end of a request. Latencies are from the time at which it was due.

        `own_delay` is the part of them for which the load generator itself sent the request too late. The wait for a
        maximum of requests in flight is not such a delay.
        """
        cohort = self._cohorts[number // self._size]
        cohort.ended += 1
        cohort.refused += is_refused
        cohort.own_delay = max(cohort.own_delay, own_delay)
        if not is_refused:
            cohort.latency.add(latency)
            if ttft is not None:
                cohort.ttft.add(ttft)

    def check(self) -> Growth | None:
        """Return how the load grew if the server is saturated. It is cheap, and can be called for each request."""
        if self._due < self._next_test:
            return None
        known = self._known()
        if known * self._size < self._next_test or known < _GROUPS:
            return None
        self._next_test = max(self._next_test, known * self._size) * _TEST_FACTOR
        windows = [self._cohorts[:known]]
        if known >= 2 * _GROUPS and known * self._size >= 2 * _FIRST_TEST:
            windows.append(self._cohorts[known // 2 : known])
        for window in windows:
            found = self._test(window)
            if found is not None:
                return found
        return None

    def _known(self) -> int:
        """Return the number of leading cohorts that have ended, but for a few requests."""
        for index, cohort in enumerate(self._cohorts):
            if cohort.due < self._size or cohort.ended < _ENDED_SHARE * cohort.due:
                return index
        return len(self._cohorts)

    def _halve(self) -> None:
        pairs = zip(self._cohorts[::2], self._cohorts[1::2], strict=True)
        for first, second in pairs:
            first.merge(second)
        self._cohorts = self._cohorts[::2]
        self._size *= 2

    def _test(self, cohorts: Sequence[_Cohort]) -> Growth | None:
        groups = _grouped(cohorts)
        # In a burst, both the rate and the latency of the window are high, so the rate of the whole level bounds it.
        rate = min(_span(groups)[2], self._due / (self._last_due - self._cohorts[0].begin))
        for metric in ("ttft", "latency"):
            growth = _growth(groups, metric, rate, self._dispersion)
            if growth is not None and self._is_saturated(groups, metric, growth):
                return growth
        return _refusals(groups, self._critical_z)

    def _is_saturated(self, groups: Sequence[_Cohort], metric: str, growth: Growth) -> bool:
        seconds = 0.75 * (growth.end - growth.begin)
        own_delay = max(group.own_delay for group in groups)
        return (
            growth.z > self._critical_z
            and growth.latency[1] - growth.latency[0] > max(_MIN_SLOPE * seconds, own_delay)
            and _trend([getattr(group, metric).mean for group in groups]) >= _MIN_TREND
            and _trend([group.outstanding for group in groups]) >= _MIN_TREND
        )


def _grouped(cohorts: Sequence[_Cohort]) -> list[_Cohort]:
    """Return 8 groups of about equal size."""
    groups = []
    bounds = [len(cohorts) * index // _GROUPS for index in range(_GROUPS + 1)]
    for index in range(_GROUPS):
        members = cohorts[bounds[index] : bounds[index + 1]]
        group = _Cohort(members[0].begin, 0.0)
        for member in members:
            group.merge(member)
        groups.append(group)
    return groups


def _growth(groups: Sequence[_Cohort], metric: str, rate: float, dispersion: float) -> Growth | None:
    first, last = _Moments(), _Moments()
    for group in groups[:2]:
        first.merge(getattr(group, metric))
    for group in groups[-2:]:
        last.merge(getattr(group, metric))
    begin, end, _ = _span(groups)
    if min(first.count, last.count) < 4 or end <= begin:
        return None
    requests = 0.75 * sum(group.due for group in groups)
    noise = requests * dispersion + rate**2 * (first.variance_of_mean + last.variance_of_mean)
    z = rate * (last.mean - first.mean) / math.sqrt(noise)
    name = "time to first token" if metric == "ttft" else "latency"
    outstanding = groups[0].outstanding, groups[-1].outstanding
    return Growth(begin, end, rate, name, (first.mean, last.mean), outstanding, z, 0.0)


def _span(groups: Sequence[_Cohort]) -> tuple[float, float, float]:
    """Return begin, end and rate of the groups. The end is extrapolated from the beginning of the last group."""
    begin, last = groups[0].begin, groups[-1].begin
    due = sum(group.due for group in groups)
    before = due - groups[-1].due
    seconds = (last - begin) * due / before
    return begin, begin + seconds, due / seconds if seconds > 0 else 0.0


def _refusals(groups: Sequence[_Cohort], critical_z: float) -> Growth | None:
    ended = sum(group.ended for group in groups)
    share = sum(group.refused for group in groups) / ended
    if share - critical_z * math.sqrt(share * (1 - share) / ended) <= _MAX_REFUSED:
        return None
    begin, end, rate = _span(groups)
    return Growth(begin, end, rate, "", (0.0, 0.0), (0.0, 0.0), 0.0, share)


def _trend(values: Sequence[float]) -> int:
    """Return Mann and Kendall's S: the number of pairs that grow minus the number of pairs that fall."""
    return sum((later > earlier) - (later < earlier) for earlier, later in combinations(values, 2))
