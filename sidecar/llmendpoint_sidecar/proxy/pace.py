"""Limits the number of requests that begin in one turn of the event loop.

The event loop reads all bytes that have arrived before it reads anything newer. If a thousand requests arrive at the
same moment, all of them would be handled before the first response, and before the next chunk of every other stream.
Requests beyond the limit wait for the next turn, in which responses are read too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

#: A request takes some 50 µs, so this delays a response by about a millisecond.
MAX_BEGUN = 16
#: Maximum size of the bytes that wait. Beyond it, requests begin immediately: memory is more important than delay.
_MAX_WAITING_BYTES = 4 * 1024 * 1024


class Reader(Protocol):
    """A connection of a client whose bytes wait."""

    def read_waiting(self) -> None:
        """Read the bytes that wait. It calls nothing if they have been read before."""


class Pace:
    """Counts the requests that begin, and calls connections whose bytes wait in their order.

    `begun` counts since the last turn in which bytes waited, so at least one request in `MAX_BEGUN` waits for a turn.
    This is cheaper than a call in each turn, and an idle event loop has its next turn immediately.
    """

    __slots__ = ("_waiting", "_waiting_bytes", "begun", "next_turn")

    def __init__(self) -> None:
        self.begun = 0
        #: Calls a function in the next turn of the event loop. None if there is no event loop: then nothing waits.
        self.next_turn: Callable[[Callable[[], None]], object] | None = None
        self._waiting: deque[tuple[Reader, int]] = deque()
        self._waiting_bytes = 0

    def wait(self, reader: Reader, size: int) -> bool:
        """Call a reader in one of the next turns, unless too many bytes wait. Return whether it will be called."""
        if self.next_turn is None:
            self.begun = 0
            return False
        if self._waiting_bytes + size > _MAX_WAITING_BYTES:
            return False
        if not self._waiting:
            self.next_turn(self._turn)
        self._waiting.append((reader, size))
        self._waiting_bytes += size
        return True

    def _turn(self) -> None:
        self.begun = 0
        waiting = self._waiting
        while waiting and self.begun < MAX_BEGUN:
            reader, size = waiting.popleft()
            self._waiting_bytes -= size
            reader.read_waiting()
        if waiting and self.next_turn is not None:
            self.next_turn(self._turn)
