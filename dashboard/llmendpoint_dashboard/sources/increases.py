"""Increases of counters between two readings, and their sum over a sliding window.

A counter that is smaller than before, or that has vanished, shows that the process has started again: all of its
counters began at 0, so each of them has increased by what it shows now. What was counted between the last reading and
the end of the process is unknown, and lost.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from llmendpoint_dashboard.sources.exposition import Key


@dataclass(frozen=True)
class Increase:
    """By how much counters have increased from `begin` to `end` (seconds of a monotonic clock). Zeros are left out."""

    begin: float
    end: float
    counts: Mapping[Key, int]


class Counters:
    """The last reading of the counters of one process."""

    def __init__(self) -> None:
        self._last: Mapping[Key, int] | None = None
        self._read_at = 0.0

    def read(self, counters: Mapping[Key, int], now: float) -> Increase | None:
        """Return the increase since the last reading. None for the first one, which has nothing to compare with."""
        last, begin = self._last, self._read_at
        self._last, self._read_at = counters, now
        if last is None:
            return None
        if counters is last:
            return Increase(begin, now, {})
        if _has_restarted(last, counters):
            last = {}
        counts = {key: value - last.get(key, 0) for key, value in counters.items() if value != last.get(key, 0)}
        return Increase(begin, now, counts)


class Window:
    """Sum of the increases of the last `seconds`, of one process."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._parts: deque[Increase] = deque()
        #: Sum of all parts, without zeros.
        self.counts: dict[Key, int] = {}

    @property
    def length(self) -> float:
        """Seconds that the sum covers: about those of the window, less while there are few readings, 0 without any."""
        return self._parts[-1].end - self._parts[0].begin if self._parts else 0.0

    def add(self, part: Increase) -> None:
        """Add an increase, and drop those that began before the window."""
        self._parts.append(part)
        self._change(part.counts, 1)
        # Half a second of tolerance, because the readings are not exactly regular.
        while len(self._parts) > 1 and self._parts[0].begin < part.end - self._seconds - 0.5:
            self._change(self._parts.popleft().counts, -1)

    def _change(self, counts: Mapping[Key, int], sign: int) -> None:
        for key, count in counts.items():
            total = self.counts.get(key, 0) + sign * count
            if total:
                self.counts[key] = total
            else:
                self.counts.pop(key, None)


def _has_restarted(before: Mapping[Key, int], now: Mapping[Key, int]) -> bool:
    return any(now.get(key, -1) < value for key, value in before.items())
