"""The time window of a run and its end, shared by all parts of the load."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Collection, Coroutine
from enum import StrEnum
from typing import Any

#: A wait is made of steps of this length, in seconds, so that a stop of the process takes one of them at most.
_STEP_SECONDS = 1.0
#: Delay of a step that is a stop of the process, and the time for reading what has arrived meanwhile, in seconds.
_STOP_SECONDS = 0.1
_READ_SECONDS = 0.25
#: Turns of the event loop after which it has read what had arrived before: uvloop runs timers first.
_TURNS = 2


class Ending(StrEnum):
    """Why the load ended."""

    COMPLETE = "complete"
    SATURATED = "saturated"
    UNREACHABLE = "unreachable"
    STOPPED = "stopped"


class Window:
    """Readings of the run's clock: `begin`, `measured_from` (the end of the warm-up) and `end` (the end of the load).

    `end` is infinite until the load has ended. A request belongs to the measured window if it is due in it.
    """

    def __init__(self, clock: Callable[[], float], warmup_seconds: float) -> None:
        self.clock = clock
        self.begin = math.inf
        self.measured_from = math.inf
        self.end = math.inf
        self.ending = Ending.COMPLETE
        self._warmup = warmup_seconds
        self._over = asyncio.Event()

    @property
    def has_begun(self) -> bool:
        """Whether the load has begun."""
        return self.begin < math.inf

    @property
    def is_over(self) -> bool:
        """Whether the load has ended."""
        return self._over.is_set()

    def start(self) -> None:
        """Begin now."""
        self.begin = self.clock()
        self.measured_from = self.begin + self._warmup

    def close(self, ending: Ending = Ending.COMPLETE, at: float | None = None) -> None:
        """End the load, at a time if it was not now. Only the first call has an effect."""
        if not self.is_over:
            self.end = self.clock() if at is None else at
            self.ending = ending
            self._over.set()

    async def over(self, at: float = math.inf) -> bool:
        """Wait for the end of the load, but not longer than to the time `at`. Returns whether the load has ended."""
        if at == math.inf:
            return await self._over.wait()
        while not self.is_over and (remaining := at - self.clock()) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(remaining):
                    await self._over.wait()
        return self.is_over


class Crew:
    """The tasks of a load. The first exception of one of them is kept, and `on_failure` is called."""

    def __init__(self, on_failure: Callable[[], None]) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._on_failure = on_failure
        self._failure: BaseException | None = None

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a coroutine as a task."""
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def wait(self, seconds: float) -> None:
        """Wait until all tasks have ended, as `wait_awake` does. Raises the first exception of a task."""
        await wait_awake(lambda: self._tasks, seconds)
        self.check()

    async def cancel(self) -> None:
        """Cancel all tasks, and wait until they have ended. Raises the first exception of a task."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.check()

    def check(self) -> None:
        """Raise the first exception of a task, if there was one."""
        if self._failure is not None:
            raise self._failure

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None and self._failure is None:
            self._failure = task.exception()
            self._on_failure()


async def wait_awake(tasks: Callable[[], Collection[asyncio.Task[None]]], seconds: float) -> float:
    """Wait until all tasks have ended. `seconds` is the limit, and the result is the part of it that was not used.

    Only time in which the process ran counts towards the limit.

    A process that was stopped (SIGSTOP, a busy machine) has read nothing meanwhile, so what has arrived is read first.
    """
    loop = asyncio.get_running_loop()
    remaining, was_stopped = seconds, False
    while (waiting := tasks()) and (remaining > 0 or was_stopped):
        step = min(remaining, _STEP_SECONDS) if remaining > 0 else _READ_SECONDS
        begun = loop.time()
        _, late = await asyncio.wait(waiting, timeout=step)
        elapsed = loop.time() - begun
        was_stopped = remaining > 0 and elapsed > step + _STOP_SECONDS
        remaining -= step if late else min(elapsed, step)
    for _ in range(_TURNS):
        if tasks():
            await asyncio.sleep(0)
    return max(0.0, remaining)
