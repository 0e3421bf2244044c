"""Takes the times in which the load generator itself stood still out of the silences of the server.

What arrives while the event loop stands still is read only afterwards, so a silence that lasts until then says nothing
about the server. The event loop may read the sockets before it measures its own delay. Therefore a silence is kept
until the next delay is measured.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

#: Shortest delay of the event loop that counts, in seconds. Silences last at least as long.
_MIN_STOP = 0.1
#: Standstills that are kept: those of 100 s or more, and a silence is compared with the ones during it.
_MAX_KEPT = 1000

_Times = tuple[float, float]


class Standstills:
    """Silences, and standstills of the event loop. All times are readings of one clock, in seconds."""

    def __init__(self) -> None:
        self._stops: deque[_Times] = deque(maxlen=_MAX_KEPT)
        self._waiting: list[_Times] = []

    def add_silence(self, begin: float, end: float) -> None:
        """Keep a silence until `settled` is called."""
        self._waiting.append((begin, end))

    def add_delay(self, begin: float, end: float) -> None:
        """Note that the event loop stood still, if that took long enough to matter."""
        if end - begin >= _MIN_STOP:
            self._stops.append((begin, end))

    def settled(self, begin: float, end: float) -> Iterator[float]:
        """Yield how many seconds of each silence that was kept are between two times, without the standstills."""
        waiting, self._waiting = self._waiting, []
        for silence in waiting:
            first, last = max(begin, silence[0]), min(end, silence[1])
            yield last - first - sum(max(0.0, min(last, stop[1]) - max(first, stop[0])) for stop in self._stops)
