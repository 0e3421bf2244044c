"""HDR histograms in the layout of Gil Tene. Values from 1 µs have three significant digits, and merging is lossless.

The package `hdrhistogram` is not used, because it requires setuptools at run time, and a compiler on platforms without
a wheel.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

_SUB_BITS = 11  # 2048 steps per power of two keep the error under 0.1 %
_MICROSECONDS = 1e6


class Histogram:
    """Counts of latencies. Methods take and return seconds. Buckets hold whole microseconds."""

    __slots__ = ("_counts", "count", "max", "sum")

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self.count = 0
        self.sum = 0.0
        self.max = 0.0

    def record(self, seconds: float) -> None:
        """Count one value. A negative value counts as 0."""
        value = max(0.0, seconds)
        self._counts[_index(round(value * _MICROSECONDS))] += 1
        self.count += 1
        self.sum += value
        self.max = max(self.max, value)

    def merge(self, other: Histogram) -> None:
        """Add the values of another histogram, as if all of them had been recorded here."""
        self._counts += other._counts
        self.count += other.count
        self.sum += other.sum
        self.max = max(self.max, other.max)

    def percentile(self, percent: float) -> float:
        """Return the smallest value, to three digits, that at least `percent` % of all values do not exceed.

        Raises ValueError if the histogram is empty.
        """
        if not self.count:
            raise ValueError("an empty histogram has no percentiles")
        wanted = max(1, -(-self.count * percent // 100))
        seen = 0
        for index in sorted(self._counts):
            seen += self._counts[index]
            if seen >= wanted:
                return min(_upper(index) / _MICROSECONDS, self.max)
        return self.max

    @property
    def mean(self) -> float:
        """The mean in seconds, or 0 if the histogram is empty."""
        return self.sum / self.count if self.count else 0.0

    def dump(self) -> dict[str, int]:
        """Return the counts by bucket for JSON, and `sum` and `max` in microseconds."""
        fields = {str(index): count for index, count in sorted(self._counts.items())}
        return fields | {"sum": round(self.sum * _MICROSECONDS), "max": round(self.max * _MICROSECONDS)}

    @classmethod
    def load(cls, fields: dict[str, int]) -> Histogram:
        """Return the histogram whose `dump` is `fields`."""
        histogram = cls()
        for name, value in fields.items():
            if name not in ("sum", "max"):
                histogram._counts[int(name)] = value
        histogram.count = sum(histogram._counts.values())
        histogram.sum = fields["sum"] / _MICROSECONDS
        histogram.max = fields["max"] / _MICROSECONDS
        return histogram


def histogram_of(values: Iterable[float]) -> Histogram:
    """Return a histogram of values in seconds."""
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    return histogram


def _index(value: int) -> int:
    shift = max(0, value.bit_length() - _SUB_BITS)
    return (shift << _SUB_BITS) + (value >> shift)


def _upper(index: int) -> int:
    shift, step = index >> _SUB_BITS, index & ((1 << _SUB_BITS) - 1)
    return ((step + 1) << shift) - 1
