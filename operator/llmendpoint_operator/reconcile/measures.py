"""Counts and durations of reconciles, for the operator's metrics."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict

#: Upper bounds in seconds. A reconcile without writes takes about a millisecond, and one whose requests hang, minutes.
BOUNDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

SUCCESS, ERROR, INTERRUPTED = "success", "error", "interrupted"


class Histogram:
    """Counts of seconds by bucket, and their sum."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BOUNDS) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one value."""
        self._counts[bisect_left(BOUNDS, seconds)] += 1
        self.sum += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Return the upper bounds with the cumulative counts, as prometheus_client takes them."""
        total, found = 0, []
        for bound, count in zip((*map(str, BOUNDS), "+Inf"), self._counts, strict=True):
            total += count
            found.append((bound, float(total)))
        return found


class Measures:
    """Measurements of the work queue by kind of resource."""

    def __init__(self) -> None:
        #: Number of reconciles by kind and result.
        self.reconciles: Counter[tuple[str, str]] = Counter()
        #: Seconds that a reconcile took.
        self.durations: defaultdict[str, Histogram] = defaultdict(Histogram)
        #: Seconds from the mark of a key until its reconcile began.
        self.latencies: defaultdict[str, Histogram] = defaultdict(Histogram)
