"""Histograms without locks: the data path has one thread, and a scrape reads between two of its steps."""

from __future__ import annotations

from bisect import bisect_left
from typing import TypeAlias

from prometheus_client.core import Exemplar

Bucket: TypeAlias = tuple[str, float] | tuple[str, float, Exemplar]


class Distribution:
    """Counts a bucket (upper bounds inclusive, the last one +Inf) and the sum of what was observed."""

    __slots__ = ("bounds", "counts", "exemplars", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0
        #: By bucket, the last value that has one, and the ID of its request.
        self.exemplars: dict[int, tuple[str, float]] = {}

    def observe(self, value: float, exemplar: str = "") -> None:
        """Count one value; `exemplar` is the ID of its request."""
        index = bisect_left(self.bounds, value)
        self.counts[index] += 1
        self.sum += value
        if exemplar:
            self.exemplars[index] = (exemplar, value)

    def merge(self, other: Distribution) -> None:
        """Add another distribution with the same bounds."""
        for index, count in enumerate(other.counts):
            self.counts[index] += count
        self.sum += other.sum

    def cumulative(self) -> list[Bucket]:
        """Return Prometheus buckets: upper bound, observations up to it, and an exemplar where there is one."""
        buckets: list[Bucket] = []
        total = 0
        for index, (bound, count) in enumerate(zip([*map(str, self.bounds), "+Inf"], self.counts, strict=True)):
            total += count
            last = self.exemplars.get(index)
            if last is None:
                buckets.append((bound, total))
            else:
                buckets.append((bound, total, Exemplar({"request_id": last[0]}, last[1])))
        return buckets
