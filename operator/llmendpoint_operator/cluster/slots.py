"""Bounds the number of reconciles that run at the same time.

If 1,000 resources are dirty, 1,000 reconciles at the same time would keep 1,000 sets of manifests in memory, and no
resource would be ready before almost all are. With a bound, one resource after the other is completed, which takes the
same time altogether.

A reconcile keeps its slot only while it makes progress. If it waits for the response to one request for more than
`PATIENCE_SECONDS`, or for a pod, it continues without a slot. So a resource whose requests hang never delays others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar

#: More reconciles at the same time do not finish sooner (docs/performance.md).
LIMIT = 16
PATIENCE_SECONDS = 1.0


class Slot:
    """The permission of one reconcile to run. It ends with the reconcile, or sooner."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._loop = asyncio.get_running_loop()
        self._last = self._loop.time()
        self._timer: asyncio.TimerHandle | None = self._loop.call_later(PATIENCE_SECONDS, self._check)

    def progress(self) -> None:
        """Record that the reconcile has received a response."""
        self._last = self._loop.time()

    def give_back(self) -> None:
        """End the permission. Further calls have no effect."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._slots.returned()

    def _check(self) -> None:
        left = self._last + PATIENCE_SECONDS - self._loop.time()
        if left <= 0:
            self.give_back()
        else:
            self._timer = self._loop.call_later(left, self._check)


class Slots:
    """A number of slots. `on_return` is called when one has become free."""

    def __init__(self, on_return: Callable[[], None], limit: int = LIMIT) -> None:
        self._on_return = on_return
        self._free = limit

    def take(self) -> Slot | None:
        """Return a slot, or None if none is free."""
        if not self._free:
            return None
        self._free -= 1
        return Slot(self)

    def returned(self) -> None:
        """Count a slot that was given back."""
        self._free += 1
        self._on_return()


#: The slot of the reconcile that runs in this context.
current: ContextVar[Slot | None] = ContextVar("slot", default=None)


def progress() -> None:
    """Record that the reconcile in this context has received a response."""
    slot = current.get()
    if slot is not None:
        slot.progress()


def give_back() -> None:
    """Let the reconcile in this context continue without a slot."""
    slot = current.get()
    if slot is not None:
        slot.give_back()
