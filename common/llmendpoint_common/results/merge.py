"""Merges the measurements of the pods of a run. The result is exactly what one pod would have measured.

What belongs to a pod and not to a request is not added up. The run has the largest lag and the most throttling of its
pods. Of the pods with two users or more, it has the silences of the one with the shortest total. Its load lasted from
the first start to the last end, and it was interrupted if any pod was.
"""

from __future__ import annotations

from collections.abc import Sequence

from llmendpoint_common.contracts.loadrun import Saturation, SweepResult
from llmendpoint_common.results.histogram import Histogram
from llmendpoint_common.results.measurements import ErrorCount, Measurements, Step, measurements_of


def merge(parts: Sequence[Measurements], *, missing: int = 0) -> Measurements:
    """Return the measurements of all pods. The parts are not changed.

    `missing` is the number of pods that left no measurements: the merged ones are then marked as interrupted. Raises
    ValueError if there is no part, or if parts are of runs with different objectives.
    """
    if not parts:
        raise ValueError("there are no measurements to merge")
    merged = measurements_of(parts[0].objectives)
    merged.pods = missing
    merged.missing_pods = missing
    merged.interrupted = missing > 0
    for part in parts:
        if part.objectives != merged.objectives:
            raise ValueError("measurements with different objectives cannot be merged")
        _add(merged, part)
    # A pod with one user sees no silences.
    watching = [part for part in parts if part.users != 1] or parts
    merged.silences = min((part.silences for part in watching), key=_order_of_silences).copy()
    return merged


_SUMS = (
    "offered", "sent", "unsent", "blocked", "cut", "continued", "sent_again", "paused", "failing", "idle",
    "warmup_answered",
)  # fmt: skip


def _add(merged: Measurements, part: Measurements) -> None:
    merged.pods += part.pods
    merged.missing_pods += part.missing_pods
    merged.interrupted = merged.interrupted or part.interrupted
    for name in ("warmup", "load", "drain", "worst_lag", "throttled", "cpu", "users"):
        setattr(merged, name, max(getattr(merged, name), getattr(part, name)))
    for name in _SUMS:
        setattr(merged, name, getattr(merged, name) + getattr(part, name))
    merged.lengths.merge(part.lengths)
    merged.whole.merge(part.whole)
    merged.lag.merge(part.lag)
    merged.warmup_failed.merge(part.warmup_failed)
    merged.warmup_late.merge(part.warmup_late)
    for category, group in part.categories.items():
        if category not in merged.categories:
            merged.categories[category] = merged.group(group.bits)
        merged.categories[category].merge(group)
    _add_steps(merged, part.steps)
    merged.timeline.merge(part.timeline)
    _add_errors(merged.errors, part.errors)
    _add_errors(merged.warmup_errors, part.warmup_errors)
    merged.first_load = min((load for load in (merged.first_load, part.first_load) if load is not None), default=None)
    merged.saturation = _earlier(merged.saturation, part.saturation)
    merged.sweep = _lower(merged.sweep, part.sweep)
    _add_join(merged, part)


def _order_of_silences(silences: Histogram) -> tuple[int, str]:
    return silences.sum_microseconds, silences.pack()


def _add_steps(merged: Measurements, steps: Sequence[Step]) -> None:
    for index, step in enumerate(steps):
        if index == len(merged.steps):
            empty = merged.group(step.group.bits)
            copied = Step(step.name, step.offered_rate, step.begin, step.end, 0, empty, step.met, step.growth)
            merged.steps.append(copied)
        into = merged.steps[index]
        if (into.name, into.offered_rate) != (step.name, step.offered_rate):
            raise ValueError("measurements with different steps cannot be merged")
        into.begin, into.end = min(into.begin, step.begin), max(into.end, step.end)
        into.offered += step.offered
        into.group.merge(step.group)


def _add_errors(merged: dict[str, ErrorCount], errors: dict[str, ErrorCount]) -> None:
    for name, counted in errors.items():
        merged.setdefault(name, ErrorCount()).merge(counted)


def _add_join(merged: Measurements, part: Measurements) -> None:
    for name in ("requests", "found", "client_tokens", "metered_tokens", "differing"):
        setattr(merged.join, name, getattr(merged.join, name) + getattr(part.join, name))
    for name, histogram in part.join.parts.items():
        merged.join.parts.setdefault(name, Histogram(histogram.bits)).merge(histogram)
    merged.join.failure = min(filter(None, (merged.join.failure, part.join.failure)), default="")


def _earlier(one: Saturation | None, other: Saturation | None) -> Saturation | None:
    known = [item for item in (one, other) if item is not None]
    return min(known, key=lambda item: (item.at_seconds, item.offered_rate, item.message), default=None)


def _lower(one: SweepResult | None, other: SweepResult | None) -> SweepResult | None:
    known = [item for item in (one, other) if item is not None]
    return min(known, key=lambda item: (item.rate or 0.0, item.low, item.high, item.message), default=None)
