"""A level-triggered work queue. A key is dirty or clean, and one worker per key reconciles it until it is clean.

The number of workers is bounded (`cluster/slots.py`), but a resource whose requests hang, or whose pods do not answer,
does not delay the others. A failed reconcile is retried after a delay that doubles with each failed retry of its key. A
reconcile that an event starts before the retry is due does not double it.

A key that this process may not reconcile, because another operator process serves its namespace, is held. `recheck`
starts the held keys that may now be reconciled, and stops the reconciles that may no longer run.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
import uuid
from collections.abc import Awaitable, Callable
from functools import partial
from typing import NamedTuple

from llmendpoint_common.process.errors import NotLeaderError
from llmendpoint_common.process.logs import log_fields
from llmendpoint_operator.cluster.faults import describe
from llmendpoint_operator.cluster.keys import Key
from llmendpoint_operator.cluster.slots import Slot, Slots, current
from llmendpoint_operator.reconcile.measures import ERROR, INTERRUPTED, SUCCESS, Measures

log = logging.getLogger(__name__)

_FIRST_RETRY_SECONDS = 0.5
_LAST_RETRY_SECONDS = 60.0
#: The share by which long delays vary.
_SPREAD, _LONG_SECONDS = 0.2, 10.0
# A reconcile computes for some milliseconds before its first request. If a thousand were started in one step of the
# event loop, probes and renewals of the Lease would wait for seconds.
_STARTS_PER_STEP = 4

#: Reconciles a key. Returns the number of seconds until the next reconcile, or None if it waits for an event.
Reconcile = Callable[[Key], Awaitable[float | None]]


class _Failures(NamedTuple):
    """The number of failures that count for the delay, and the time from which the next one counts too."""

    number: int
    due: float


def _always(_: Key) -> bool:
    return True


class WorkQueue:
    """Runs `reconcile` for dirty keys, if they `may_run`. Reconciles of the same key never overlap."""

    def __init__(
        self,
        reconcile: Reconcile,
        may_run: Callable[[Key], bool] = _always,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reconcile = reconcile
        self._clock = clock
        self._may_run = may_run
        self._held: set[Key] = set()
        #: Dirty keys, and the time since when they are.
        self._dirty: dict[Key, float] = {}
        #: Dirty keys without a worker, in the order of their marks.
        self._ready: dict[Key, None] = {}
        self._is_starting = False
        self._slots = Slots(self._start_soon)
        self._running: dict[Key, asyncio.Task[None]] = {}
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._failures: dict[Key, _Failures] = {}
        self._closed = False
        self.measures = Measures()

    @property
    def depth(self) -> int:
        """The number of dirty keys."""
        return len(self._dirty)

    @property
    def running(self) -> int:
        """The number of keys that are being reconciled."""
        return len(self._running)

    def mark(self, key: Key) -> None:
        """Mark a key as dirty, because its resource or one of its children may have changed."""
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        if self._closed:
            return
        if not self._may_run(key):
            self._held.add(key)
            return
        self._dirty.setdefault(key, time.monotonic())
        if key not in self._running:
            self._ready[key] = None
            self._start_soon()

    def recheck(self) -> None:
        """Ask for all keys again whether they may run: hold those that may not, and mark held ones that may."""
        for key in [key for key in (*self._dirty, *self._running, *self._timers) if not self._may_run(key)]:
            self._hold(key)
        for key in [key for key in self._held if self._may_run(key)]:
            self._held.discard(key)
            self.mark(key)

    async def close(self) -> None:
        """Stop all work. Later calls of `mark` have no effect."""
        self._closed = True
        self._ready.clear()
        for timer in self._timers.values():
            timer.cancel()
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _hold(self, key: Key) -> None:
        self._held.add(key)
        self._dirty.pop(key, None)
        self._ready.pop(key, None)
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        if key in self._running:
            # This also closes the connection of a request in flight.
            self._running[key].cancel()

    def _start_soon(self) -> None:
        if self._ready and not self._is_starting:
            self._is_starting = True
            asyncio.get_running_loop().call_soon(self._start)

    def _start(self) -> None:
        self._is_starting = False
        for _ in range(min(_STARTS_PER_STEP, len(self._ready))):
            slot = self._slots.take()
            if slot is None:
                return
            key = next(iter(self._ready))
            del self._ready[key]
            task = self._running[key] = asyncio.get_running_loop().create_task(self._work(key, slot))
            # A task that is cancelled before its first step runs none of its code.
            task.add_done_callback(partial(self._ended, key, slot))
        self._start_soon()

    async def _work(self, key: Key, slot: Slot) -> None:
        current.set(slot)
        pause: float | None = None
        while key in self._dirty:
            marked = self._dirty.pop(key)
            self.measures.latencies[key.kind].observe(time.monotonic() - marked)
            with log_fields(kind=key.kind, namespace=key.namespace, name=key.name, reconcileID=uuid.uuid4().hex[:16]):
                pause = await self._once(key)
        if pause is not None:
            self._later(key, pause)

    def _ended(self, key: Key, slot: Slot, _: asyncio.Task[None]) -> None:
        slot.give_back()
        self._running.pop(key, None)
        # The key may have been marked after its worker had looked for the last time, or while it was cancelled.
        if key in self._dirty and not self._closed:
            self._ready[key] = None
            self._start_soon()

    async def _once(self, key: Key) -> float | None:
        begun, result = time.monotonic(), INTERRUPTED
        try:
            pause = await self._reconcile(key)
            result = SUCCESS
        except NotLeaderError:
            # It is held when its time comes, unless this process may write again by then.
            pause = _FIRST_RETRY_SECONDS
        except Exception as error:
            result = ERROR
            pause = self._retry_delay(key)
            verbose = log.isEnabledFor(logging.DEBUG)
            log.warning(
                "%s: reconcile failed: %s (next attempt in %g s)", key, describe(error), pause, exc_info=verbose
            )
        else:
            self._failures.pop(key, None)
            log.debug("%s: reconciled in %.3f s", key, time.monotonic() - begun)
        finally:
            self.measures.reconciles[key.kind, result] += 1
            self.measures.durations[key.kind].observe(time.monotonic() - begun)
        return pause

    def _retry_delay(self, key: Key) -> float:
        """Count a failure, and return the number of seconds until the retry.

        One event often starts several reconciles within milliseconds. Their failures count once.
        """
        now, before = self._clock(), self._failures.get(key)
        counts = before is None or now >= before.due
        number = (before.number if before else 0) + counts
        delay = min(_LAST_RETRY_SECONDS, _FIRST_RETRY_SECONDS * 2.0 ** min(number - 1, 10))
        if counts:
            # A timer may be shorter than the delay by the spread.
            self._failures[key] = _Failures(number, now + delay * (1 - _SPREAD))
        return delay

    def _later(self, key: Key, seconds: float) -> None:
        # After a start, all resources are reconciled within seconds. Without a spread, they would all be due again in
        # the same moment, every 30 s.
        spread = random.uniform(-_SPREAD, _SPREAD) * seconds if seconds >= _LONG_SECONDS else 0.0  # noqa: S311
        self._timers[key] = asyncio.get_running_loop().call_later(seconds + spread, self.mark, key)
