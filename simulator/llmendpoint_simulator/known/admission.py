"""The order in which requests begin: slots and a capacity, computed from scheduled times.

With a capacity of N requests per second, the server turns to one request every 1/N seconds at most, in the order of
arrival: the service is deterministic, so the highest rate that it can follow is N. With S slots, at most S requests run
at the same time. A request begins at the latest of its arrival, the end of the request whose slot it gets, and the
server's next turn. These are scheduled times, so a late event loop does not delay the requests behind.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from typing import Protocol

from llmendpoint_simulator.behaviour import Behaviour
from llmendpoint_simulator.serving.timers import Timers


class Waiting(Protocol):
    """A request that has arrived, at a time of the monotonic clock."""

    received_at: float

    def begin(self, when: float) -> None:
        """Begin the answer. `when` is the scheduled time, which may be slightly in the past."""


class Admission:
    """Requests that wait, in the order of arrival, and the number of those that run."""

    def __init__(self, behaviour: Callable[[], Behaviour], timers: Timers) -> None:
        self.running = 0
        self._behaviour = behaviour
        self._timers = timers
        self._line: deque[Waiting] = deque()
        #: When the free slots became free. A slot that no request has had yet is not there.
        self._freed: list[float] = []
        self._next_turn = 0.0
        self._is_set = False

    @property
    def waiting(self) -> int:
        """Number of requests that have not begun."""
        return len(self._line)

    def arrive(self, request: Waiting) -> bool:
        """Let a request begin, or wait. Returns False if too many requests already wait."""
        if len(self._line) >= self._behaviour().max_queue and not self._may_begin(request.received_at):
            return False
        self._line.append(request)
        self._advance(request.received_at)
        return True

    def leave(self, request: Waiting) -> bool:
        """Remove a request that waits. Returns False if it does not wait."""
        try:
            self._line.remove(request)
        except ValueError:
            return False
        return True

    def release(self, when: float) -> None:
        """Free the slot of a request that ended at a scheduled time."""
        self.running -= 1
        heapq.heappush(self._freed, when)
        self._advance(when)

    def _may_begin(self, now: float) -> bool:
        return not self._line and self.running < self._behaviour().parallel and self._next_turn <= now

    def _advance(self, when: float) -> None:
        """Begin the requests that may begin until `when`, each at its scheduled time."""
        behaviour = self._behaviour()
        turn = 1 / behaviour.capacity if behaviour.capacity else 0.0
        while self._line and self.running < behaviour.parallel:
            freed = self._freed[0] if self._freed else 0.0
            begin = max(self._line[0].received_at, freed, self._next_turn)
            if begin > when:
                self._wait_until(begin)
                return
            if self._freed:
                heapq.heappop(self._freed)
            self._next_turn = begin + turn
            self.running += 1
            self._line.popleft().begin(begin)

    def _wait_until(self, turn: float) -> None:
        if not self._is_set:
            self._is_set = True
            self._timers.at(turn, self.on_turn)

    def on_turn(self, when: float) -> None:
        """Begin the request whose turn has come."""
        self._is_set = False
        self._advance(when)
