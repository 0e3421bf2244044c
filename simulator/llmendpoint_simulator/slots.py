"""Slots of a model. A limited number of requests run, and the others wait in a queue."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from llmendpoint_common.process.errors import QueueFullError


class Slots:
    """A first-in, first-out queue for slots. The number of slots may change while requests wait."""

    def __init__(self) -> None:
        self.running = 0
        self._line: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        """Number of requests that wait."""
        return len(self._line)

    @asynccontextmanager
    async def slot(self, parallel: int, max_queue: int) -> AsyncIterator[None]:
        """Hold a slot until the block ends. Raises QueueFullError if `max_queue` requests already wait."""
        if self.running >= parallel:
            if len(self._line) >= max_queue:
                raise QueueFullError
            turn = asyncio.get_running_loop().create_future()
            self._line.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._pass_on()
                else:
                    self._line.remove(turn)
                raise
        else:
            self.running += 1
        try:
            yield
        finally:
            self._pass_on()

    def _pass_on(self) -> None:
        while self._line:
            turn = self._line.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.running -= 1
