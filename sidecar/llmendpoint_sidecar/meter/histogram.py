"""Histograms without locks, because the data path and scrapes run in the same thread."""

from __future__ import annotations

import functools
from bisect import bisect_left
from collections.abc import Iterable


class Histogram:
    """Counts per bucket (upper bounds inclusive, the last one +Inf), and the sum of all values."""

    __slots__ = ("bounds", "counts", "exemplars", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0
        #: Per bucket, the request ID and the value of the last observation that has an ID.
        self.exemplars: dict[int, tuple[str, float]] = {}

    def observe(self, value: float, exemplar: str = "") -> None:
        """Count one value. `exemplar` is the ID of its request."""
        index = bisect_left(self.bounds, value)
        self.counts[index] += 1
        self.sum += value
        if exemplar:
            self.exemplars[index] = (exemplar, value)

    def observe_all(self, values: Iterable[float]) -> None:
        """Count several values."""
        bounds, counts = self.bounds, self.counts
        for value in values:
            counts[bisect_left(bounds, value)] += 1
            self.sum += value

    def merge(self, other: Histogram) -> None:
        """Add a histogram with the same bounds."""
        for index, count in enumerate(other.counts):
            self.counts[index] += count
        self.sum += other.sum
        self.exemplars.update(other.exemplars)

    def lines(self, name: str, labels: str, *, exemplars: bool) -> Iterable[str]:
        """Yield the lines of a Prometheus histogram. `labels` is text such as `model_name="m",operation="chat"`."""
        total = 0
        for index, (bound, count) in enumerate(zip(_texts(self.bounds), self.counts, strict=True)):
            total += count
            line = f'{name}_bucket{{le="{bound}",{labels}}} {total}.0'
            last = self.exemplars.get(index) if exemplars else None
            yield line if last is None else f'{line} # {{request_id="{last[0]}"}} {last[1]}'
        yield f"{name}_count{{{labels}}} {total}.0"
        yield f"{name}_sum{{{labels}}} {self.sum}"


@functools.cache
def _texts(bounds: tuple[float, ...]) -> tuple[str, ...]:
    return (*map(str, bounds), "+Inf")
