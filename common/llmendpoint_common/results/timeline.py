"""The timeline of a run: counts and coarse latency histograms per bucket of time.

The number of buckets is bounded, and their width is not known in advance, because a run can end early, or follow a
trace. So a bucket is 1 s wide at first, and whenever there are too many of them, their width doubles and pairs of
buckets are merged. Buckets are aligned with the end of the warm-up, so the timelines of several pods merge exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from math import floor

from llmendpoint_common.results.histogram import TIMELINE_BITS, Histogram
from llmendpoint_common.results.packing import Unpacker, pack

#: Maximum number of buckets. The budget of a pod's result is computed for it.
MAX_BUCKETS = 600
_MAX_WIDTH = 1 << 32
_OFFSET = 1 << 40


class Bucket:
    """Counts of a part of the timeline. Latencies are those of the requests that were sent in it."""

    __slots__ = ("completed", "errors", "offered", "output_tokens", "request_latency", "sent", "ttft")

    def __init__(self) -> None:
        self.offered = 0
        self.sent = 0
        self.completed = 0
        self.errors = 0
        self.output_tokens = 0
        self.ttft = Histogram(TIMELINE_BITS)
        self.request_latency = Histogram(TIMELINE_BITS)

    def merge(self, other: Bucket) -> None:
        """Add the counts of another bucket."""
        self.offered += other.offered
        self.sent += other.sent
        self.completed += other.completed
        self.errors += other.errors
        self.output_tokens += other.output_tokens
        self.ttft.merge(other.ttft)
        self.request_latency.merge(other.request_latency)

    def numbers(self) -> Iterator[int]:
        """Yield the content as numbers, for packing."""
        yield from (self.offered, self.sent, self.completed, self.errors, self.output_tokens)
        yield from self.ttft.numbers()
        yield from self.request_latency.numbers()

    @classmethod
    def read(cls, numbers: Iterator[int]) -> Bucket:
        """Return the bucket whose `numbers` come next. Raises ValueError."""
        bucket = cls()
        counts = list(islice(numbers, 5))
        if len(counts) < 5:
            raise ValueError("a packed timeline is cut off")
        bucket.offered, bucket.sent, bucket.completed, bucket.errors, bucket.output_tokens = counts
        bucket.ttft, bucket.request_latency = Histogram.read(numbers), Histogram.read(numbers)
        if {bucket.ttft.bits, bucket.request_latency.bits} != {TIMELINE_BITS}:
            raise ValueError("a packed timeline has a wrong resolution")
        return bucket


class Timeline:
    """Buckets by index. Bucket 0 starts at the end of the warm-up, and those of the warm-up have negative indexes."""

    __slots__ = ("buckets", "width")

    def __init__(self) -> None:
        #: Width of a bucket in seconds, a power of two.
        self.width = 1
        self.buckets: dict[int, Bucket] = {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Timeline) and self.pack() == other.pack()

    __hash__ = None  # type: ignore[assignment]

    def at(self, seconds: float) -> Bucket:
        """Return the bucket of a time in seconds after the warm-up. The bucket may be replaced by the next call."""
        second = floor(seconds)
        index = second // self.width
        bucket = self.buckets.get(index)
        if bucket is None:
            bucket = self.buckets[index] = Bucket()
            while self._is_too_long():
                self._double()
                bucket = self.buckets[second // self.width]
        return bucket

    def merge(self, other: Timeline) -> None:
        """Add the buckets of another timeline, which can be wider or narrower. `other` is not changed."""
        while self.width < other.width:
            self._double()
        factor = self.width // other.width
        for index, bucket in other.buckets.items():
            self.buckets.setdefault(index // factor, Bucket()).merge(bucket)
        while self._is_too_long():
            self._double()

    def pack(self) -> str:
        """Return the timeline as text. Equal timelines have equal texts."""
        numbers = [self.width, len(self.buckets)]
        for index, bucket in sorted(self.buckets.items()):
            numbers.append(index + _OFFSET)
            numbers.extend(bucket.numbers())
        return pack(numbers)

    @classmethod
    def unpack(cls, text: str, unpacker: Unpacker | None = None) -> Timeline:
        """Return the timeline whose `pack` is `text`. Raises ValueError."""
        numbers = iter((unpacker or Unpacker()).unpack(text))
        timeline = cls()
        timeline.width, size = next(numbers, 0), next(numbers, 0)
        if not 0 < timeline.width <= _MAX_WIDTH or timeline.width & (timeline.width - 1) or size > MAX_BUCKETS:
            raise ValueError("a packed timeline has a wrong width, or too many buckets")
        for _ in range(size):
            index = next(numbers, 0) - _OFFSET
            timeline.buckets[index] = Bucket.read(numbers)
        if timeline._is_too_long() or next(numbers, None) is not None:
            raise ValueError("a packed timeline is too long")
        return timeline

    def _is_too_long(self) -> bool:
        return bool(self.buckets) and max(self.buckets) - min(self.buckets) >= MAX_BUCKETS

    def _double(self) -> None:
        self.width *= 2
        halves, self.buckets = self.buckets, {}
        for index, bucket in halves.items():
            self.buckets.setdefault(index // 2, Bucket()).merge(bucket)
