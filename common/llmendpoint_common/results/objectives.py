"""Judges objectives on the requests of a group, with confidence intervals.

A latency percentile is judged over all requests: failed requests count as never answered. It is met
if enough requests were within the threshold, which are counted one by one, in whole microseconds. So the resolution of
the histograms never decides.

An objective has one of four states. It is met or missed if that holds whatever the unknown latencies were, and unknown
otherwise. There are too few requests if there are fewer than its percentile needs, or than a share needs: 20, like the
95th percentile. A share that is certainly missed, which its confidence interval tells, is missed with fewer too.
"""

from __future__ import annotations

from enum import StrEnum
from math import ceil, floor, inf
from typing import NamedTuple

from llmendpoint_common.contracts.loadrun import (
    METRICS,
    NOTHING_MEASURED,
    Metric,
    MetricName,
    Objective,
    ObjectiveResult,
)
from llmendpoint_common.results.confidence import percentile_ranks, share_interval
from llmendpoint_common.results.histogram import Histogram, rank_of
from llmendpoint_common.results.measurements import Group
from llmendpoint_common.results.words import NEVER_ANSWERED, apart, objective_name

#: Delay of the event loop above which it can decide a verdict, in seconds.
MAX_LAG_P99 = 0.010
#: A share such as 0.7 % is not exact in binary, so numbers of requests are compared to a millionth of a request.
_ROUNDING = 1e-6


class State(StrEnum):
    """States of an objective."""

    MET = "met"
    MISSED = "missed"
    UNKNOWN = "unknown"
    TOO_FEW = "too few requests"


class Judged(NamedTuple):
    """An objective with its state. `measured` is None if it is unknown, and infinite if it was never answered.

    `low` and `high` are the bounds of the 95 % confidence interval, or None if it is not bounded on that side.
    `is_near` is whether the threshold lies inside it.
    """

    objective: Objective
    state: State
    requests: int
    measured: float | None = None
    low: float | None = None
    high: float | None = None
    is_near: bool = False
    #: Requests that count as never answered.
    unanswered: int = 0
    #: Answers that do not count, because they cannot have the latency: TPOT does not exist with one token.
    left_out: int = 0

    @property
    def metric(self) -> Metric:
        """The metric of the objective."""
        return METRICS[MetricName(self.objective.metric)]

    @property
    def name(self) -> str:
        """The metric with its percentile, such as `TTFT p95`."""
        return objective_name(self.metric.name, self.objective.percentile)

    @property
    def needed(self) -> int:
        """The number of requests that the objective needs to be judged."""
        return self.objective.needed

    def result(self, *, is_judged: bool = True) -> ObjectiveResult:
        """Return the objective for the summary. `is_judged` is whether the run has a verdict on its objectives."""
        metric = self.metric
        is_judged = is_judged and self.state in (State.MET, State.MISSED)
        measured, threshold = apart(metric, self.measured, self.objective.threshold)
        return ObjectiveResult(
            metric=metric.name,
            threshold=threshold,
            measured=NOTHING_MEASURED if self.measured is None else measured,
            met=is_judged and self.state is State.MET,
            percentile=self.objective.percentile,
            low=_bound(metric, self.low),
            high=_bound(metric, self.high),
            requests=self.requests,
            judged=is_judged,
            needed=self.needed if self.state is State.TOO_FEW else 0,
        )


def judge_group(group: Group, objectives: tuple[Objective, ...]) -> tuple[Judged, ...]:
    """Return the objectives of a group with their states."""
    return tuple(
        _judge_latency(group, index, objective)
        if METRICS[MetricName(objective.metric)].is_latency
        else _judge_share(group, objective)
        for index, objective in enumerate(objectives)
    )


def are_met_on_time(group: Group, objectives: tuple[Objective, ...]) -> bool:
    """Return whether the objectives that a group has met are met too from the time at which each request was due.

    A delay of up to MAX_LAG_P99 is normal.
    """
    return all(
        _is_met_on_time(item, group, index)
        for index, item in enumerate(judge_group(group, objectives))
        if item.state is State.MET
    )


def could_be_other(judged: Judged, group: Group, objectives: tuple[Objective, ...], lag: float) -> bool:
    """Return whether an objective could have the other state if the delays of the load generator are taken away.

    A delay makes TTFT and RequestLatency longer by up to `lag` seconds, so only a missed objective can change. It
    changes TPOT in both directions, divided by the tokens of an answer. `lag` is a 99th percentile, so one request in a
    hundred may be delayed by any time.
    """
    objective, metric = judged.objective, judged.metric
    if judged.state not in (State.MET, State.MISSED) or metric.name is MetricName.ERROR_RATE:
        return False
    if metric.name is MetricName.ATTAINMENT:
        return judged.state is State.MISSED and _could_attain(judged, group, objectives, lag)
    histogram = group.histogram(metric.field)
    rank = rank_of(objective.percentile or 50, judged.requests)
    allowance = ceil(judged.requests / 100)
    change = lag_share(metric, group, lag)
    if judged.state is State.MISSED:
        return histogram.count_to(objective.threshold + change) + allowance >= rank
    if metric.name is MetricName.TPOT:
        return histogram.count_to(max(0.0, objective.threshold - change)) - allowance < rank
    return False


def _is_met_on_time(judged: Judged, group: Group, index: int) -> bool:
    if judged.metric.is_latency:
        counts = group.objectives[index]
        return counts.within - counts.late >= rank_of(judged.objective.percentile or 50, judged.requests)
    if judged.metric.name is MetricName.ATTAINMENT:
        return group.attained - group.attained_late >= _wanted(judged.objective, judged.requests)
    return True


def _wanted(objective: Objective, requests: int) -> int:
    """Return how many requests have to attain."""
    return ceil(objective.threshold * requests - _ROUNDING)


def _judge_latency(group: Group, index: int, objective: Objective) -> Judged:
    counts = group.objectives[index]
    percent = objective.percentile or 50
    left_out = counts.not_applicable
    requests = group.requests - left_out
    if requests <= 0:
        return Judged(objective, State.UNKNOWN, 0, left_out=left_out)
    rank = rank_of(percent, requests)
    if counts.within >= rank:
        state = State.MET
    elif counts.within + counts.unknown < rank:
        state = State.MISSED
    else:
        return Judged(objective, State.UNKNOWN, requests, left_out=left_out)
    histogram = group.histogram(METRICS[MetricName(objective.metric)].field)
    low, high = percentile_ranks(percent / 100, requests)
    measured = _value_at(histogram, rank)
    if requests < objective.needed:
        state = State.TOO_FEW
    return Judged(
        objective,
        state,
        requests,
        # The upper edge of a bucket of the histogram may be above the threshold although the values are not.
        min(measured, objective.threshold) if counts.within >= rank else measured,
        _value_at(histogram, low) if low else None,
        _value_at(histogram, high) if high <= requests else None,
        is_near=low <= counts.within + counts.unknown and counts.within < high,
        unanswered=group.errors,
        left_out=left_out,
    )


def _judge_share(group: Group, objective: Objective) -> Judged:
    requests = group.requests
    if requests <= 0:
        return Judged(objective, State.UNKNOWN, 0)
    if objective.metric is MetricName.ERROR_RATE:
        hits = group.errors
        is_met, is_missed = hits <= floor(objective.threshold * requests + _ROUNDING), True
    else:
        hits = group.attained
        wanted = _wanted(objective, requests)
        is_met, is_missed = hits >= wanted, hits + group.attainment_unknown < wanted
    if not is_met and not is_missed:
        return Judged(objective, State.UNKNOWN, requests)
    low, high = share_interval(hits, requests)
    state = State.MET if is_met else State.MISSED
    is_near = low <= objective.threshold <= high
    if requests < objective.needed and (is_met or is_near):
        state = State.TOO_FEW
    return Judged(objective, state, requests, hits / requests, low, high, is_near)


def _could_attain(judged: Judged, group: Group, objectives: tuple[Objective, ...], lag: float) -> bool:
    """Return whether enough requests could have met all latency objectives without the delays."""
    missed = 0
    for objective in objectives:
        metric = METRICS[MetricName(objective.metric)]
        if metric.is_latency:
            histogram = group.histogram(metric.field)
            limit = objective.threshold + lag_share(metric, group, lag)
            missed = max(missed, histogram.count - histogram.count_to(limit))
    possible = group.answered - missed + ceil(judged.requests / 100)
    return possible >= _wanted(judged.objective, judged.requests)


def lag_share(metric: Metric, group: Group, lag: float) -> float:
    """Return by how much a delay of the load generator changes a latency, in seconds."""
    if metric.name is not MetricName.TPOT:
        return lag
    answers = group.answered - group.without_usage
    return lag / max(1.0, group.output_tokens / answers - 1) if answers else lag


def _value_at(histogram: Histogram, rank: int) -> float:
    """Return the value with this rank among all requests, of which those without a value are last."""
    return histogram.value_at(rank) if rank <= histogram.count else inf


def _bound(metric: Metric, value: float | None) -> str | None:
    if value is None:
        return None
    return NEVER_ANSWERED if value == inf else metric.format(value)
