"""Lets the ends of responses pass one after the other.

Requests that were sent together, for example after a delay, end together. To judge and record 100 of them takes 30 ms,
in which nothing that arrives for the other streams would be read. The requests that are sent then would be late
together, and end together again.
"""

from __future__ import annotations

import asyncio
from collections import deque

#: Responses that pass in one turn of the event loop: at least so many, and a share of those that wait, so that the
#: number of waiting ones does not grow without limit if turns take long. One response takes about 0.3 ms.
_PER_TURN = 2
_SHARE_PER_TURN = 8


class Turnstile:
    """Lets few coroutines pass in each turn of the event loop, in the order in which they come."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        #: How many have passed in this turn, or None if the end of the turn is not needed.
        self._passed: int | None = None

    async def pass_through(self) -> None:
        """Return when the coroutine may go on: immediately, if few have passed in this turn."""
        loop = asyncio.get_running_loop()
        if self._passed is None:
            self._passed = 0
            loop.call_soon(self._turn, loop)
        if self._passed < _PER_TURN:
            self._passed += 1
            return
        future = loop.create_future()
        self._waiting.append(future)
        await future

    def release(self) -> None:
        """Let all that wait pass together."""
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
        self._waiting.clear()

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        passed = 0
        allowed = max(_PER_TURN, len(self._waiting) // _SHARE_PER_TURN)
        while self._waiting and passed < allowed:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(None)
                passed += 1
        if passed:
            self._passed = passed
            loop.call_soon(self._turn, loop)
        else:
            self._passed = None
