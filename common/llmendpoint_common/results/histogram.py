"""HDR histograms in the layout of Gil Tene, with whole microseconds. Merging is exact, because all sums are integers.

With 11 bits, 2048 steps per power of two keep the error of a percentile under 0.1 % (three significant digits). Parts
of a run use fewer bits, so that they stay small: 8 bits are right to 0.8 %, and 6 bits to 3.2 %.

The package `hdrhistogram` is not used, because it requires setuptools at run time, and a compiler on platforms without
a wheel.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import accumulate
from operator import sub

from llmendpoint_common.results.packing import Unpacker, pack

#: Bits of the histograms of a whole run: three significant digits.
FULL_BITS = 11
#: Bits of the histograms of a category or a step.
PART_BITS = 8
#: Bits of the histograms of a part of the timeline.
TIMELINE_BITS = 6
MICROSECONDS = 1e6

#: Longest latency: ten years. Above it, a number is not a time.
_MAX_MICROSECONDS = 1 << 48
_MAX_SHIFT = 48


class Histogram:
    """Counts of latencies. Methods take and return seconds unless their name says otherwise."""

    __slots__ = ("bits", "counts", "max_microseconds", "sum_microseconds")

    def __init__(self, bits: int = FULL_BITS) -> None:
        self.bits = bits
        #: Number of values by index of the bucket.
        self.counts: defaultdict[int, int] = defaultdict(int)
        self.sum_microseconds = 0
        self.max_microseconds = 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Histogram) and self.pack() == other.pack()

    __hash__ = None  # type: ignore[assignment]

    @property
    def count(self) -> int:
        """The number of values."""
        return sum(self.counts.values())

    def record(self, seconds: float) -> None:
        """Count one value. A negative value counts as 0."""
        self.record_microseconds(round(seconds * MICROSECONDS) if seconds > 0 else 0)

    def record_microseconds(self, value: int) -> None:
        """Count one value of at least 0 in microseconds."""
        shift = value.bit_length() - self.bits
        self.counts[(shift << self.bits) + (value >> shift) if shift > 0 else value] += 1
        self.sum_microseconds += value
        if value > self.max_microseconds:  # noqa: PLR1730 - max() takes a third of the time of this method
            self.max_microseconds = value

    def record_all(self, seconds: Iterable[float]) -> None:
        """Count many values, each in half the time of `record`."""
        counts, bits, total, largest = self.counts, self.bits, 0, self.max_microseconds
        for each in seconds:
            value = round(each * MICROSECONDS) if each > 0 else 0
            shift = value.bit_length() - bits
            counts[(shift << bits) + (value >> shift) if shift > 0 else value] += 1
            total += value
            if value > largest:  # noqa: PLR1730 - as in `record_microseconds`
                largest = value
        self.sum_microseconds += total
        self.max_microseconds = largest

    def merge(self, other: Histogram) -> None:
        """Add the values of another histogram, as if all of them had been recorded here.

        Raises ValueError if the other histogram has another resolution.
        """
        if other.bits != self.bits:
            raise ValueError(f"histograms of {self.bits} and {other.bits} bits cannot be merged")
        for index, count in other.counts.items():
            self.counts[index] += count
        self.sum_microseconds += other.sum_microseconds
        self.max_microseconds = max(self.max_microseconds, other.max_microseconds)

    def __deepcopy__(self, memo: dict[int, object]) -> Histogram:
        return self.copy()

    def copy(self) -> Histogram:
        """Return a copy that does not change with this histogram."""
        copied = Histogram(self.bits)
        copied.counts = self.counts.copy()
        copied.sum_microseconds, copied.max_microseconds = self.sum_microseconds, self.max_microseconds
        return copied

    def percentile(self, percent: float) -> float:
        """Return the smallest value, to the resolution, that at least `percent` % of all values do not exceed.

        Raises ValueError if the histogram is empty.
        """
        return self.value_at(rank_of(percent, self.count))

    def value_at(self, rank: int) -> float:
        """Return the value with this rank, to the resolution: 1 is the smallest value, `count` is the largest.

        Raises ValueError if there is no such value.
        """
        return self.values_at(rank)[0]

    def values_at(self, *ranks: int) -> list[float]:
        """Return the values with these ranks, which ascend. Raises ValueError if there is no such value."""
        if not self.counts:
            raise ValueError("an empty histogram has no percentiles")
        indexes = sorted(self.counts)
        seen = list(accumulate([self.counts[index] for index in indexes]))
        if ranks[0] < 1 or ranks[-1] > seen[-1]:
            raise ValueError(f"a value has no rank {ranks}")
        return [
            min(self._upper(indexes[bisect_left(seen, rank)]), self.max_microseconds) / MICROSECONDS for rank in ranks
        ]

    def count_to(self, seconds: float) -> int:
        """Return the number of values that do not exceed `seconds`. Values in its bucket count."""
        limit = self._index(round(seconds * MICROSECONDS))
        return sum(count for index, count in self.counts.items() if index <= limit)

    def excess(self, seconds: float) -> float:
        """Return the sum in seconds of what the values exceed `seconds` by, to the resolution."""
        return sum((value - seconds) * count for value, count in self.values() if value > seconds)

    def values(self) -> Iterator[tuple[float, int]]:
        """Yield each value in seconds, to the resolution, with its number, the smallest first."""
        for index, count in sorted(self.counts.items()):
            yield min(self._upper(index), self.max_microseconds) / MICROSECONDS, count

    def steps(self) -> Iterator[tuple[float, int]]:
        """Yield the cumulative distribution: a value, and the number of values that do not exceed it."""
        seen = 0
        for value, count in self.values():
            seen += count
            yield value, seen

    @property
    def mean(self) -> float:
        """The mean in seconds, or 0 if the histogram is empty."""
        return self.sum_microseconds / self.count / MICROSECONDS if self.count else 0.0

    @property
    def sum(self) -> float:
        """The sum of all values in seconds."""
        return self.sum_microseconds / MICROSECONDS

    @property
    def max(self) -> float:
        """The largest value in seconds, exact to the microsecond."""
        return self.max_microseconds / MICROSECONDS

    def numbers(self) -> list[int]:
        """Return the content as numbers, for packing."""
        indexes = sorted(self.counts)
        # Most gaps between indexes are 1. Apart from the counts, they take almost no space.
        gaps = map(sub, indexes, [0, *indexes])
        counts = map(self.counts.__getitem__, indexes)
        return [self.bits, self.sum_microseconds, self.max_microseconds, len(indexes), *gaps, *counts]

    def pack(self) -> str:
        """Return the histogram as text. Equal histograms have equal texts."""
        return pack(self.numbers())

    @classmethod
    def unpack(cls, text: str, unpacker: Unpacker | None = None) -> Histogram:
        """Return the histogram whose `pack` is `text`. Raises ValueError."""
        numbers = iter((unpacker or Unpacker()).unpack(text))
        histogram = cls.read(numbers)
        if next(numbers, None) is not None:
            raise ValueError("a packed histogram is followed by other numbers")
        return histogram

    @classmethod
    def read(cls, numbers: Iterator[int]) -> Histogram:
        """Return the histogram whose `numbers` come next. Raises ValueError."""
        try:
            bits, total, largest, size = (next(numbers) for _ in range(4))
            gaps = [next(numbers) for _ in range(size)]
            counts = [next(numbers) for _ in range(size)]
        except (RuntimeError, StopIteration):
            raise ValueError("a packed histogram is cut off") from None
        if not 1 <= bits <= FULL_BITS or largest > _MAX_MICROSECONDS:
            raise ValueError("a packed histogram has a wrong resolution or maximum")
        histogram = cls(bits)
        index = 0
        for gap, count in zip(gaps, counts, strict=True):
            index += gap
            histogram.counts[index] += count
        if index >> bits > _MAX_SHIFT:
            raise ValueError("a packed histogram has an index out of range")
        histogram.sum_microseconds, histogram.max_microseconds = total, largest
        return histogram

    def _index(self, value: int) -> int:
        shift = max(0, value.bit_length() - self.bits)
        return (shift << self.bits) + (value >> shift)

    def _upper(self, index: int) -> int:
        shift, step = index >> self.bits, index & ((1 << self.bits) - 1)
        return ((step + 1) << shift) - 1


def rank_of(percent: float, count: int) -> int:
    """Return the rank of a percentile among `count` values: the smallest rank that `percent` % do not exceed.

    Percents with up to two decimal places are exact: floating-point division would put p95 of 20 values on rank 20.
    """
    return max(1, -(-count * round(percent * 100) // 10_000))


def histogram_of(values: Iterable[float], bits: int = FULL_BITS) -> Histogram:
    """Return a histogram of values in seconds."""
    histogram = Histogram(bits)
    histogram.record_all(values)
    return histogram
