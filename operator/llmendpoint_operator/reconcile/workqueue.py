"""A level-triggered queue: a key is dirty or not, and one worker a key makes it clean."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import NamedTuple

log = logging.getLogger(__name__)

_FIRST_RETRY_SECONDS = 0.5
_LAST_RETRY_SECONDS = 60.0


class Key(NamedTuple):
    """What is reconciled."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


#: Reconciles a key and returns in how many seconds to look again; None where only an event is a reason to.
Reconcile = Callable[[Key], Awaitable[float | None]]


class WorkQueue:
    """Runs `reconcile` for dirty keys, at most once at a time for each key and `parallel` times in all."""

    def __init__(self, reconcile: Reconcile, parallel: int = 16) -> None:
        self._reconcile = reconcile
        self._slots = asyncio.Semaphore(parallel)
        self._dirty: set[Key] = set()
        self._running: dict[Key, asyncio.Task[None]] = {}
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._failures: dict[Key, int] = {}
        self.reconciles = 0
        self.errors = 0

    @property
    def depth(self) -> int:
        """How many keys are dirty."""
        return len(self._dirty)

    def mark(self, key: Key) -> None:
        """Something about a key may have changed."""
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        self._dirty.add(key)
        if key not in self._running:
            self._running[key] = asyncio.get_running_loop().create_task(self._work(key))

    async def close(self) -> None:
        """Stop all work."""
        for timer in self._timers.values():
            timer.cancel()
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _work(self, key: Key) -> None:
        try:
            while key in self._dirty:
                async with self._slots:
                    self._dirty.discard(key)
                    pause = await self._once(key)
            if pause is not None:
                self._later(key, pause)
        finally:
            self._running.pop(key, None)

    async def _once(self, key: Key) -> float | None:
        self.reconciles += 1
        try:
            pause = await self._reconcile(key)
        except Exception as error:
            self.errors += 1
            failures = self._failures[key] = self._failures.get(key, 0) + 1
            pause = min(_LAST_RETRY_SECONDS, _FIRST_RETRY_SECONDS * 2 ** min(failures - 1, 10))
            log.warning("%s: %s (again in %g s)", key, error, pause, exc_info=log.isEnabledFor(logging.DEBUG))
        else:
            self._failures.pop(key, None)
        return pause

    def _later(self, key: Key, seconds: float) -> None:
        self._timers[key] = asyncio.get_running_loop().call_later(seconds, self.mark, key)
