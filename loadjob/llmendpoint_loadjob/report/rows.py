"""Statistics over the lines of `requests.jsonl`, in one pass."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

_LATENCIES = ("ttft", "tpot", "request_latency")
_LENGTHS = ("input_tokens", "output_tokens")


class _Deviation:
    """Mean and sum of squared differences of numbers (Welford's algorithm)."""

    def __init__(self) -> None:
        self.count = 0
        self._mean = 0.0
        self._squares = 0.0

    def add(self, value: float) -> None:
        """Add a number."""
        self.count += 1
        before = value - self._mean
        self._mean += before / self.count
        self._squares += before * (value - self._mean)

    @property
    def value(self) -> float | None:
        """Standard deviation of the numbers, or None if there are none."""
        return math.sqrt(self._squares / self.count) if self.count else None


class Rows:
    """Values of all requests, and statistics of those that were answered."""

    def __init__(self, lines: Iterable[Mapping[str, Any]]) -> None:
        #: Seconds per request, in the order of the lines. None for a request that failed.
        self.latencies: list[float | None] = []
        self.queue_delays: list[float | None] = []
        self._deviations = {name: _Deviation() for name in _LATENCIES}
        self._lengths: dict[str, Counter[int]] = {name: Counter() for name in _LENGTHS}
        for line in lines:
            self._add(line)

    def deviation(self, name: str) -> float | None:
        """Return the standard deviation of a latency in seconds."""
        return self._deviations[name].value

    def lengths(self, name: str) -> Counter[int]:
        """Return how many requests had which number of tokens."""
        return self._lengths[name]

    def bounds(self, name: str) -> dict[str, int]:
        """Return the smallest and the largest number of tokens, if there are any."""
        lengths = self._lengths[name]
        return {"min": min(lengths), "max": max(lengths)} if lengths else {}

    def _add(self, line: Mapping[str, Any]) -> None:
        failed = line.get("error") is not None
        self.latencies.append(None if failed else line.get("request_latency"))
        self.queue_delays.append(line.get("queue_delay"))
        if failed:
            return
        for name, deviation in self._deviations.items():
            if line.get(name) is not None:
                deviation.add(line[name])
        if line.get("has_usage", True):
            for name, lengths in self._lengths.items():
                lengths[line.get(name, 0)] += 1
