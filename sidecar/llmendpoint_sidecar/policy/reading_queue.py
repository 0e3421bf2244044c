"""Reads large request bodies in slices, so that the event loop serves all other connections in between.

A body of 2 MB can decode to 64 MiB (zstd). Reading it takes most of a second of CPU time, and its decoder takes several
MiB. Therefore few bodies are read at the same time; the others wait. Tenants take turns, so a tenant with many such
bodies delays another one by the time of two bodies, and never a body that is read when it arrives.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Protocol

log = logging.getLogger(__name__)

#: Time of one slice. A stream waits for its next chunk no longer than this.
_SLICE_SECONDS = 0.005


class Reading(Protocol):
    """A body that is read."""

    @property
    def tenant(self) -> str:
        """The tenant whose turn it takes."""

    def read_on(self) -> bool:
        """Read a small part, in less than a slice. Return whether there is more to read."""

    def read_done(self) -> None:
        """Continue the request, because its body has been read."""

    def read_failed(self) -> None:
        """End the request, because reading its body failed."""


class ReadingQueue:
    """Reads at most `limit` bodies at the same time."""

    __slots__ = ("_active", "_clock", "_limit", "_scheduled", "_waiting")

    def __init__(self, limit: int, clock: Callable[[], float]) -> None:
        self._limit = limit
        self._clock = clock
        self._active: deque[Reading] = deque()
        #: By tenant, in the order of their turns.
        self._waiting: dict[str, deque[Reading]] = {}
        self._scheduled = False

    def add(self, reading: Reading) -> None:
        """Read a body. `read_done` or `read_failed` is called later, unless it is discarded before."""
        self._waiting.setdefault(reading.tenant, deque()).append(reading)
        self._fill()

    def discard(self, reading: Reading) -> None:
        """Stop reading a body."""
        if reading in self._active:
            self._active.remove(reading)
            self._fill()
            return
        waiting = self._waiting.get(reading.tenant)
        if waiting is not None and reading in waiting:
            waiting.remove(reading)
            if not waiting:
                del self._waiting[reading.tenant]

    def _fill(self) -> None:
        """Begin to read bodies that wait, if there is room."""
        while self._waiting and len(self._active) < self._limit:
            tenant = next(iter(self._waiting))
            waiting = self._waiting.pop(tenant)
            self._active.append(waiting.popleft())
            if waiting:
                self._waiting[tenant] = waiting  # at the end, because the others come first now
        if self._active and not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._run)

    def _run(self) -> None:
        """Read one body for one slice."""
        self._scheduled = False
        if not self._active:
            return
        reading = self._active[0]
        try:
            more = self._read_slice(reading)
        except Exception:
            log.exception("a request body could not be read; closing its connection")
            self._active.popleft()
            reading.read_failed()
        else:
            self._active.rotate(-1)
            if not more:
                self._active.pop()
                reading.read_done()
        self._fill()

    def _read_slice(self, reading: Reading) -> bool:
        deadline = self._clock() + _SLICE_SECONDS
        while reading.read_on():
            if self._clock() >= deadline:
                return True
        return False
