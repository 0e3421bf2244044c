"""A level-triggered work queue. A key is dirty or clean, and one worker per key reconciles it until it is clean.

Workers of different keys do not wait for each other: a resource whose requests hang, or whose pods do not answer, does
not delay the others. A failed reconcile is retried after a delay that doubles with each failure of its key.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from llmendpoint_operator.cluster.faults import describe
from llmendpoint_operator.cluster.keys import Key

log = logging.getLogger(__name__)

_FIRST_RETRY_SECONDS = 0.5
_LAST_RETRY_SECONDS = 60.0

#: Reconciles a key. Returns the number of seconds until the next reconcile, or None if it waits for an event.
Reconcile = Callable[[Key], Awaitable[float | None]]


class WorkQueue:
    """Runs `reconcile` for dirty keys. Reconciles of the same key never overlap."""

    def __init__(self, reconcile: Reconcile) -> None:
        self._reconcile = reconcile
        self._dirty: set[Key] = set()
        self._running: dict[Key, asyncio.Task[None]] = {}
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._failures: dict[Key, int] = {}
        self._closed = False
        self.reconciles = 0
        self.errors = 0

    @property
    def depth(self) -> int:
        """The number of dirty keys."""
        return len(self._dirty)

    def mark(self, key: Key) -> None:
        """Mark a key as dirty, because its resource or one of its children may have changed."""
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        if self._closed:
            return
        self._dirty.add(key)
        if key not in self._running:
            self._running[key] = asyncio.get_running_loop().create_task(self._work(key))

    async def close(self) -> None:
        """Stop all work. Later calls of `mark` have no effect."""
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _work(self, key: Key) -> None:
        pause: float | None = None
        try:
            while key in self._dirty:
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
            verbose = log.isEnabledFor(logging.DEBUG)
            log.warning(
                "%s: reconcile failed: %s (next attempt in %g s)", key, describe(error), pause, exc_info=verbose
            )
        else:
            self._failures.pop(key, None)
        return pause

    def _later(self, key: Key, seconds: float) -> None:
        self._timers[key] = asyncio.get_running_loop().call_later(seconds, self.mark, key)
