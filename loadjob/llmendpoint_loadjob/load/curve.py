"""The load as a function of time: a number of users, or a rate, which is constant or linear in each segment."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from llmendpoint_common.contracts.loadrun import DEFAULT_CONCURRENCY, RunLoad, RunStage


@dataclass(frozen=True)
class Segment:
    """A part of the load, in seconds from the start of the run. `step` is the index of its stage."""

    begin: float
    end: float
    first: float
    last: float
    step: int = 0

    @property
    def area(self) -> float:
        """The integral over the level: the number of requests that are due, if it is a rate."""
        return (self.end - self.begin) * (self.first + self.last) / 2

    def level_at(self, time: float) -> float:
        """Return the level at a time in the segment."""
        if self.first == self.last:
            return self.first
        return self.first + (self.last - self.first) * (time - self.begin) / (self.end - self.begin)

    def time_of(self, area: float) -> float:
        """Return the time at which the integral from the beginning of the segment reaches `area`.

        It solves first · x + slope · x² / 2 = area in a form without cancellation, which also holds for a slope of 0.
        """
        slope = (self.last - self.first) / (self.end - self.begin)
        root = math.sqrt(max(0.0, self.first**2 + 2 * slope * area))
        return self.begin + (2 * area / (self.first + root) if area else 0.0)


class LoadCurve:
    """The segments of a load, one after the other from 0."""

    def __init__(self, segments: Sequence[Segment]) -> None:
        self.segments = tuple(segment for segment in segments if segment.end > segment.begin)
        self._begins = [segment.begin for segment in self.segments]

    @property
    def end(self) -> float:
        """The end of the load in seconds."""
        return self.segments[-1].end if self.segments else 0.0

    @property
    def peak(self) -> float:
        """The highest level."""
        return max((max(segment.first, segment.last) for segment in self.segments), default=0.0)

    def segment_at(self, time: float) -> Segment | None:
        """Return the segment at a time, or None outside of the load."""
        index = bisect_right(self._begins, time) - 1
        return self.segments[index] if index >= 0 and time < self.segments[index].end else None

    def times_of(self, areas: Iterator[float]) -> Iterator[tuple[float, int]]:
        """Yield the times at which the integral reaches increasing areas, each with the step, up to the end."""
        done = 0.0
        area = next(areas)
        for segment in self.segments:
            while area < done + segment.area:
                yield segment.time_of(area - done), segment.step
                area = next(areas)
            done += segment.area

    def active_times(self, user: int) -> list[tuple[float, float]]:
        """Return the times, from and to, in which a user takes part, whose number counts from 0.

        A user takes part while the level is above its number plus one half, so that a ramp has the right mean.
        """
        times: list[tuple[float, float]] = []
        for segment in self.segments:
            found = _above(segment, user + 0.5)
            if found is None:
                continue
            if times and times[-1][1] == found[0]:
                times[-1] = (times[-1][0], found[1])
            else:
                times.append(found)
        return times

    def joining(self) -> Iterator[tuple[float, int, float]]:
        """Yield each time at which several users join together, with their number and the length of the segment."""
        before = 0.0
        for segment in self.segments:
            number = round(segment.first) - round(before)
            if number > 1:
                yield segment.begin, number, segment.end - segment.begin
            before = segment.last


def _above(segment: Segment, threshold: float) -> tuple[float, float] | None:
    low, high = min(segment.first, segment.last), max(segment.first, segment.last)
    if low >= threshold:
        return segment.begin, segment.end
    if high < threshold:
        return None
    share = (threshold - segment.first) / (segment.last - segment.first)
    crossing = segment.begin + share * (segment.end - segment.begin)
    return (crossing, segment.end) if segment.last > segment.first else (segment.begin, crossing)


def curve_of(load: RunLoad) -> LoadCurve:
    """Return the curve of a closed or open loop, the warm-up included. A sweep and a trace have none.

    The warm-up of stages has the level of the first one, and half of it if the first one is a ramp from 0.
    """
    warmup = load.warmup_seconds
    if load.stages is None:
        users = load.sessions.users if load.sessions is not None else load.concurrency or DEFAULT_CONCURRENCY
        level = load.rate if load.rate is not None else float(users)
        return LoadCurve([Segment(0.0, warmup + load.duration_seconds, level, level)])
    first = _level(load.stages[0])
    if load.stages[0].ramp:
        first = first / 2 if load.stages[0].rate is not None else float(math.ceil(first / 2))
    segments = [Segment(0.0, warmup, first, first)]
    at, before = warmup, 0.0
    for index, stage in enumerate(load.stages):
        level = _level(stage)
        end = at + stage.duration_seconds
        segments.append(Segment(at, end, before if stage.ramp else level, level, index))
        at, before = end, level
    return LoadCurve(segments)


def _level(stage: RunStage) -> float:
    return stage.rate if stage.rate is not None else float(stage.concurrency or 0)


def names_of_stages(stages: Sequence[RunStage]) -> list[str]:
    """Return the names of stages for people, such as `stage 2: 0 to 20 requests/s`."""
    unit = "requests/s" if stages[0].rate is not None else "users"
    levels = [0.0, *map(_level, stages)]
    return [
        f"stage {number}: {f'{before:g} to ' if stage.ramp else ''}{level:g} {unit}"
        for number, (stage, (before, level)) in enumerate(zip(stages, pairwise(levels), strict=True), 1)
    ]
