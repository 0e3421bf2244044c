"""Judges one rate of a sweep: whether every objective was met, and whether the server kept up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from llmendpoint_common.contracts.loadrun import METRICS, MetricName, Objective
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


class StepJudge:
    """Counts the requests of a step, without keeping them."""

    def __init__(self, objectives: Sequence[Objective]) -> None:
        self.requests = 0
        self._errors = 0
        self._attained = 0
        self._objectives = objectives
        self._known = [0] * len(objectives)
        self._beyond = [0] * len(objectives)
        self._trend = _Regression()

    def note(self, sample: Sample) -> None:
        """Count a request that has ended. A failed request is one that was never answered."""
        self.requests += 1
        has_failed = sample.error is not None
        self._errors += has_failed
        attains = not has_failed
        for index, objective in enumerate(self._objectives):
            metric = METRICS[MetricName(objective.metric)]
            if not metric.is_latency:
                continue
            value = None if has_failed else getattr(sample, metric.field)
            if value is None and not has_failed:
                continue
            self._known[index] += 1
            if value is None or value > objective.threshold:
                self._beyond[index] += 1
                attains = False
        self._attained += attains
        ttft = sample.ttft_scheduled
        self._trend.add(sample.scheduled, sample.ended - sample.scheduled if ttft is None else ttft)

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
        return self.is_measured and self.keeps_up and all(map(self._meets, range(len(self._objectives))))

    def is_lost(self, expected: float) -> bool:
        """Return whether an objective on a latency is missed, however the rest of the expected requests end."""
        return any(
            beyond > _allowed(objective, expected) + 3 * math.sqrt(_allowed(objective, expected)) + 3
            for objective, beyond in zip(self._objectives, self._beyond, strict=True)
            if METRICS[MetricName(objective.metric)].is_latency
        )

    def _meets(self, index: int) -> bool:
        objective = self._objectives[index]
        if METRICS[MetricName(objective.metric)].is_latency:
            return self._beyond[index] <= _allowed(objective, self._known[index])
        count = self._errors if objective.metric is MetricName.ERROR_RATE else self._attained
        return METRICS[MetricName(objective.metric)].meets(count / self.requests, objective.threshold)


def _allowed(objective: Objective, requests: float) -> float:
    """Return how many requests may exceed the threshold of a percentile."""
    return (100 - (objective.percentile or 50)) / 100 * requests
