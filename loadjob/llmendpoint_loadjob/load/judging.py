"""Judges one rate of a sweep: whether every objective was met, and whether the server kept up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from llmendpoint_common.contracts.loadrun import METRICS, MetricName, Objective
from llmendpoint_common.results.delivery import MIN_SENT_SHARE, SCHEDULED
from llmendpoint_common.results.objectives import MAX_LAG_P99
from llmendpoint_loadjob.result.timings import Sample

#: A server whose latency grows by more than this share of the time has a backlog that grows.
_MAX_SLOPE = 0.005


@dataclass
class _Regression:
    """Least squares of latencies on the times at which requests were due. `origin` keeps the sums small."""

    origin: float = 0.0
    count: int = 0
    sums: list[float] = field(default_factory=lambda: [0.0] * 5)

    def add(self, at: float, value: float) -> None:
        if not self.count:
            self.origin = at
        at -= self.origin
        self.count += 1
        for index, term in enumerate((at, value, at * at, at * value, value * value)):
            self.sums[index] += term

    def slope(self) -> tuple[float, float]:
        """Return the slope and its standard error."""
        count = self.count
        times, values, squares, products, value_squares = self.sums
        spread = squares - times * times / count if count > 2 else 0.0
        if spread <= 0:
            return 0.0, math.inf
        shared = products - times * values / count
        slope = shared / spread
        residual = max(0.0, value_squares - values * values / count - slope * shared)
        return slope, math.sqrt(residual / (count - 2) / spread)


class _Counts:
    """Requests of a step whose latencies contain a delay before they were sent, by whether they met the thresholds."""

    def __init__(self, objectives: Sequence[Objective]) -> None:
        self.beyond = [0] * len(objectives)
        self.attained = 0
        self.unsent = 0
        self._objectives = objectives

    def note(self, values: Sequence[float | None], delay: float, *, attains: bool) -> None:
        """Count a request by its values for the objectives: None if it has none, infinite if it was not answered."""
        for index, (value, objective) in enumerate(zip(values, self._objectives, strict=True)):
            if value is None:
                continue
            is_late = delay > MAX_LAG_P99 and MetricName(objective.metric) in SCHEDULED
            if value > objective.threshold or (is_late and value + delay > objective.threshold + MAX_LAG_P99):
                self.beyond[index] += 1
                attains = False
        self.attained += attains


class StepJudge:
    """Counts the requests of a step, without keeping them.

    Latencies count from the time at which requests were due, as users would have waited. A step that was missed only
    because the load generator itself sent requests late, or did not send them, `is_late`.
    """

    def __init__(self, objectives: Sequence[Objective]) -> None:
        self.requests = 0
        self._errors = 0
        self._objectives = objectives
        self._known = [0] * len(objectives)
        #: With every delay before the sending, and with those only that the maximum of requests in flight caused.
        self._due = _Counts(objectives)
        self._wanted = _Counts(objectives)
        self._trend = _Regression()

    def note(self, sample: Sample) -> None:
        """Count a request that has ended. A failed request is one that was never answered."""
        self.requests += 1
        has_failed = sample.error is not None
        self._errors += has_failed
        values = [self._value(sample, objective) for objective in self._objectives]
        for index, value in enumerate(values):
            self._known[index] += value is not None
        self._due.note(values, sample.queue_delay, attains=not has_failed)
        self._wanted.note(values, sample.held, attains=not has_failed)
        ttft = sample.ttft
        self._trend.add(sample.scheduled, sample.held + (sample.request_latency if ttft is None else ttft))

    def skip(self, *, held: bool) -> None:
        """Count a request that was due and not sent. `held` is whether the maximum of requests in flight is why."""
        self._due.unsent += 1
        self._wanted.unsent += held

    @property
    def unsent(self) -> int:
        """Number of requests that were due and not sent."""
        return self._due.unsent

    @property
    def is_measured(self) -> bool:
        """Whether every objective on a latency could be measured."""
        return bool(self.requests) and all(
            known or not METRICS[MetricName(objective.metric)].is_latency
            for objective, known in zip(self._objectives, self._known, strict=True)
        )

    @property
    def has_errors(self) -> bool:
        """Whether a request failed."""
        return self._errors > 0

    @property
    def keeps_up(self) -> bool:
        """Whether the latencies did not grow through the step."""
        slope, error = self._trend.slope()
        return not (slope > _MAX_SLOPE and slope > 2 * error)

    def growth(self, seconds: float) -> float:
        """Return by how many seconds the latencies grew in a step of this duration, or 0 if the server kept up."""
        return 0.0 if self.keeps_up else self._trend.slope()[0] * seconds

    @property
    def is_met(self) -> bool:
        """Whether every objective was measured and met, and the server kept up."""
        return self._is_met(self._due)

    @property
    def is_late(self) -> bool:
        """Whether the step would have been met if the load generator had sent every request when it was due."""
        return self._is_met(self._wanted) and not self.is_met

    def is_lost(self, expected: float) -> bool:
        """Return whether an objective on a latency is missed, however the rest of the expected requests end."""
        return any(
            beyond > _allowed(objective, expected) + 3 * math.sqrt(_allowed(objective, expected)) + 3
            for objective, beyond in zip(self._objectives, self._due.beyond, strict=True)
            if METRICS[MetricName(objective.metric)].is_latency
        )

    @staticmethod
    def _value(sample: Sample, objective: Objective) -> float | None:
        metric = METRICS[MetricName(objective.metric)]
        if not metric.is_latency:
            return None
        value: float | None = getattr(sample, metric.field)
        return value if sample.error is None else math.inf

    def _is_met(self, counts: _Counts) -> bool:
        is_sent = self.requests >= MIN_SENT_SHARE * (self.requests + counts.unsent)
        numbers = range(len(self._objectives))
        return self.is_measured and self.keeps_up and is_sent and all(self._meets(index, counts) for index in numbers)

    def _meets(self, index: int, counts: _Counts) -> bool:
        objective = self._objectives[index]
        if METRICS[MetricName(objective.metric)].is_latency:
            return counts.beyond[index] <= _allowed(objective, self._known[index])
        is_errors = objective.metric is MetricName.ERROR_RATE
        count = self._errors if is_errors else counts.attained
        return METRICS[MetricName(objective.metric)].meets(count / self.requests, objective.threshold)


def _allowed(objective: Objective, requests: float) -> float:
    """Return how many requests may exceed the threshold of a percentile."""
    return (100 - (objective.percentile or 50)) / 100 * requests
