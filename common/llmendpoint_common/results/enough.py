"""What to change in a run that was too short to tell, with numbers: its duration, or its number of requests."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from llmendpoint_common.contracts.loadrun import RunDocument
from llmendpoint_common.process.units import format_duration
from llmendpoint_common.results.histogram import MICROSECONDS
from llmendpoint_common.results.measurements import Measurements
from llmendpoint_common.results.objectives import Judged, State

#: The number of requests of another run of this length varies, so a longer duration is named than the exact one.
_MARGIN = 1.2
#: Durations up to the first number, in seconds, are rounded up to a multiple of the second.
_STEPS = ((120.0, 5), (600.0, 10), (3600.0, 60), (float("inf"), 600))


def more_requests(measurements: Measurements, document: RunDocument, judged: Sequence[Judged]) -> str:
    """Return a sentence about what gives a run enough requests for its objectives, at the rate that it had."""
    factor = max((item.needed / item.requests for item in judged if item.state is State.TOO_FEW), default=1.0)
    if factor <= 1:
        return ""
    limit = document.load.max_requests
    seconds = _rounded(factor * measurements.load / MICROSECONDS * _MARGIN)
    changes = []
    if limit is not None and measurements.whole.requests >= limit:
        changes.append(f"maxRequests to at least {ceil(limit * factor)}")
    if not changes or seconds > _planned(document):
        changes.append(f"{_duration_of(document)} to at least {format_duration(seconds)}")
    return f"at the rate of this run, increase {' and '.join(changes)}"


def first_requests(measurements: Measurements, document: RunDocument, judged: Sequence[Judged]) -> str:
    """Return a sentence about what gives a run requests that has measured none."""
    load, needed = document.load, max((item.needed for item in judged), default=1)
    users = load.concurrency or (load.sessions.users if load.sessions is not None else 0)
    if load.rate is not None:
        seconds = needed / load.rate
    elif users and measurements.warmup:
        # The requests of the warm-up lasted until the end of the load, or longer.
        total = (measurements.warmup + measurements.load + measurements.drain) / MICROSECONDS
        seconds = ceil(needed / users) * total
    else:
        return "increase the duration or the load"
    return f"increase {_duration_of(document)} to at least {format_duration(_rounded(seconds * _MARGIN))}, or the load"


def longer_than(seconds: float, share: float, document: RunDocument) -> str:
    """Return a sentence about the duration of which some seconds are at most a share."""
    enough, most = format_duration(_rounded(seconds / share)), f"{100 * share:.0f} %"
    return f"find out why, or increase {_duration_of(document)} to at least {enough}, of which this is {most} or less"


def _duration_of(document: RunDocument) -> str:
    load = document.load
    if document.trace is not None:
        return "the part of the trace that is replayed"
    if load.sweep is not None:
        return "the duration of each rate"
    return "the total duration of the stages" if load.stages else "the duration"


def _planned(document: RunDocument) -> float:
    load = document.load
    return sum(stage.duration_seconds for stage in load.stages) if load.stages else load.duration_seconds


def _rounded(seconds: float) -> float:
    step = next(step for limit, step in _STEPS if seconds <= limit)
    return float(ceil(seconds / step) * step)
