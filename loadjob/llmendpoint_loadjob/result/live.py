"""Objectives while a run continues: what was measured until now, without the verdict of the run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil, floor, inf

from llmendpoint_common.contracts.loadrun import (
    METRICS,
    NOTHING_MEASURED,
    MetricName,
    Objective,
    ObjectiveProgress,
)
from llmendpoint_common.results.histogram import needed_for, rank_of
from llmendpoint_common.results.measurements import Group
from llmendpoint_common.results.words import apart

#: A share such as 0.7 % is not exact in binary, so numbers of requests are compared to a millionth of a request.
_ROUNDING = 1e-6


def live_objectives(group: Group, objectives: Sequence[Objective]) -> tuple[ObjectiveProgress, ...]:
    """Return the objectives of a group.

    Unlike `judge_group`, this computes no confidence interval, which takes milliseconds for a million requests. It is
    called every second on the event loop whose delays are part of every latency.
    """
    return tuple(_progress(group, objectives))


def _progress(group: Group, objectives: Sequence[Objective]) -> Iterator[ObjectiveProgress]:
    for index, objective in enumerate(objectives):
        metric = METRICS[MetricName(objective.metric)]
        judge = _latency if metric.is_latency else _share
        value, met = judge(group, index, objective)
        measured, threshold = apart(metric, value, objective.threshold)
        name = f"{metric.name.value} p{objective.percentile}" if objective.percentile else metric.name.value
        text = f"{name} {'≥' if metric.higher_is_better else '≤'} {threshold}"
        yield ObjectiveProgress(text, measured or NOTHING_MEASURED, met)


def _latency(group: Group, index: int, objective: Objective) -> tuple[float | None, bool | None]:
    """Return the percentile of a latency, infinite if it was never answered, and whether it meets the threshold."""
    counts, percent = group.objectives[index], objective.percentile or 50
    requests = group.requests - counts.not_applicable
    if requests <= 0:
        return None, None
    rank = rank_of(percent, requests)
    met = True if counts.within >= rank else None if counts.within + counts.unknown >= rank else False
    if met is None:
        return None, None
    histogram = group.histogram(METRICS[MetricName(objective.metric)].field)
    value = histogram.value_at(rank) if rank <= histogram.count else inf
    # The upper edge of a bucket of the histogram may be above the threshold although the values are not.
    return min(value, objective.threshold) if met else value, met if requests >= needed_for(percent) else None


def _share(group: Group, _: int, objective: Objective) -> tuple[float | None, bool | None]:
    """Return a share of all requests, and whether it meets the threshold."""
    requests = group.requests
    if requests <= 0:
        return None, None
    if objective.metric is MetricName.ERROR_RATE:
        return group.errors / requests, group.errors <= floor(objective.threshold * requests + _ROUNDING)
    wanted = ceil(objective.threshold * requests - _ROUNDING)
    met = True if group.attained >= wanted else None if group.attained + group.attainment_unknown >= wanted else False
    return group.attained / requests, met
