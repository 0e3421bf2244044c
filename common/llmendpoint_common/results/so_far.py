"""Objectives while a run continues: what was measured until now, without the verdict of the run.

A load pod counts, and the counts of all pods of a run are added. No confidence interval is computed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import ceil, floor, inf
from typing import NamedTuple

from llmendpoint_common.contracts.loadrun import METRICS, NOTHING_MEASURED, MetricName, Objective, ObjectiveSoFar
from llmendpoint_common.results.histogram import rank_of
from llmendpoint_common.results.measurements import Group
from llmendpoint_common.results.words import apart

#: A share such as 0.7 % is not exact in binary, so numbers of requests are compared to a millionth of a request.
_ROUNDING = 1e-6


class Shown(NamedTuple):
    """An objective in words. `met` is None if the requests until now are too few to tell, or nothing was measured."""

    threshold: str
    measured: str
    met: bool | None


def count_group(group: Group, objectives: Sequence[Objective]) -> tuple[ObjectiveSoFar, ...]:
    """Return the objectives of a group of requests.

    Unlike `judge_group`, which takes milliseconds for a million requests, this only looks up counts.
    """
    return tuple(_counted(group, index, objective) for index, objective in enumerate(objectives))


def _counted(group: Group, index: int, objective: Objective) -> ObjectiveSoFar:
    metric, percentile = MetricName(objective.metric), objective.percentile
    if metric is MetricName.ERROR_RATE:
        return ObjectiveSoFar(metric, None, group.requests, group.requests - group.errors)
    if metric is MetricName.ATTAINMENT:
        return ObjectiveSoFar(metric, None, group.requests, group.attained, group.attainment_unknown)
    counts, histogram = group.objectives[index], group.histogram(METRICS[metric].field)
    requests = group.requests - counts.not_applicable
    rank = rank_of(percentile or 50, requests) if requests > 0 else inf
    value = histogram.value_at(int(rank)) if rank <= histogram.count else None
    return ObjectiveSoFar(metric, percentile, max(0, requests), counts.within, counts.unknown, value)


def show(objective: Objective, pods: Iterable[ObjectiveSoFar]) -> Shown:
    """Return an objective on the requests of all pods.

    Percentiles cannot be added. Those of several pods are a range, in which that of all requests is.
    """
    metric = METRICS[MetricName(objective.metric)]
    counted = [pod for pod in pods if pod.requests > 0]
    met = _is_met(objective, counted)
    low, high = _range(objective, counted, met) if counted else (None, None)
    first, _ = apart(metric, low, objective.threshold)
    last, threshold = apart(metric, high, objective.threshold)
    measured = last if first == last else f"{first} to {last}"
    if metric.is_latency and sum(pod.requests for pod in counted) < objective.needed:
        met = None
    return Shown(threshold, measured or NOTHING_MEASURED, met)


def _is_met(objective: Objective, pods: Sequence[ObjectiveSoFar]) -> bool | None:
    """Return whether enough requests are within the threshold. None if that depends on those that are unknown."""
    requests, met, unknown = (sum(getattr(pod, name) for pod in pods) for name in ("requests", "met", "unknown"))
    if requests <= 0:
        return None
    if objective.metric is MetricName.ERROR_RATE:
        wanted = requests - floor(objective.threshold * requests + _ROUNDING)
    elif objective.metric is MetricName.ATTAINMENT:
        wanted = ceil(objective.threshold * requests - _ROUNDING)
    else:
        wanted = rank_of(objective.percentile or 50, requests)
    return True if met >= wanted else None if met + unknown >= wanted else False


def _range(
    objective: Objective, pods: Sequence[ObjectiveSoFar], met: bool | None
) -> tuple[float, float] | tuple[None, None]:
    """Return the lowest and the highest value that the requests of all pods can have together."""
    if not METRICS[MetricName(objective.metric)].is_latency:
        requests, within = (sum(getattr(pod, name) for pod in pods) for name in ("requests", "met"))
        share = (requests - within if objective.metric is MetricName.ERROR_RATE else within) / requests
        return share, share
    if met is None or any(_is_met(objective, [pod]) is None for pod in pods):
        return None, None
    values = [inf if pod.value is None else pod.value for pod in pods]
    # The upper edge of a bucket of the histogram may be above the threshold although the values are not.
    low, high = ((min(value, objective.threshold) if met else value) for value in (min(values), max(values)))
    return low, high
