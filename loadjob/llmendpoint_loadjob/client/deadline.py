"""Deadlines that do not fail requests whose responses had arrived in time.

uvloop runs timers before it reads sockets. If the load generator stood still past a deadline (a stopped process, a busy
machine), the response may have arrived meanwhile and wait in the kernel, so it has to be read first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

#: Turns of the event loop after a deadline. The first call comes before the sockets are read, the second one after it.
_TURNS = 2


class Deadline:
    """Calls `on_end` some seconds from now, after the event loop has read what had arrived until then."""

    def __init__(self, seconds: float, on_end: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_end = on_end
        self._handle: asyncio.Handle = self._loop.call_later(seconds, self._turn, _TURNS)

    def cancel(self) -> None:
        """Call nothing."""
        self._handle.cancel()

    def _turn(self, remaining: int) -> None:
        if remaining:
            self._handle = self._loop.call_soon(self._turn, remaining - 1)
        else:
            self._on_end()
