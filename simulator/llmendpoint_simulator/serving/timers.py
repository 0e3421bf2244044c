"""Timers with the resolution of the kernel, and their lateness.

The timers of uvloop have a resolution of one millisecond (libuv), which is as much as the errors that this server is
there to measure. A timer of the kernel (timerfd_create(2)) wakes the event loop instead, within about 50 µs.
"""

from __future__ import annotations

import asyncio
import ctypes
import heapq
import os
import sys
import time
from collections.abc import Callable
from typing import TypeAlias

#: Receives the time at which it was due.
Callback: TypeAlias = Callable[[float], None]

HAS_KERNEL_TIMERS = sys.platform == "linux"
#: The heartbeat bounds the time in which a late event loop is not noticed.
_HEARTBEAT_SECONDS = 0.001
#: After this number of timers, requests are read. A burst of timers would delay them otherwise.
_AT_ONCE = 64
_MONOTONIC, _ABSOLUTE, _NONBLOCK_CLOEXEC = 1, 1, 0o2004000


class _Setting(ctypes.Structure):
    """`struct itimerspec`: the interval, and the time of the first expiration."""

    _fields_ = (
        ("interval_seconds", ctypes.c_long),
        ("interval_nanoseconds", ctypes.c_long),
        ("seconds", ctypes.c_long),
        ("nanoseconds", ctypes.c_long),
    )


class Timers:
    """Calls functions at times of the monotonic clock, in the order of the times. `start` has to be called first."""

    def __init__(self, *, heartbeat: bool = True) -> None:
        """`heartbeat` lets `overdue` notice a late event loop at any time. It costs a thousand wake-ups per second."""
        self._has_heartbeat = heartbeat
        #: The longest time in seconds by which a timer was late.
        self.longest_lateness = 0.0
        self._heap: list[tuple[float, int, Callback]] = []
        self._number = 0
        self._alarm: _Alarm | None = None
        self._armed = float("inf")
        #: When timers were called last, and by how much the first of them was late.
        self._ticked_at = 0.0
        self._lateness = 0.0

    def start(self) -> None:
        """Start the timers on the running event loop."""
        self._alarm = _KernelAlarm(self._tick) if HAS_KERNEL_TIMERS else _LoopAlarm(self._tick)
        if self._has_heartbeat:
            self.at(time.monotonic(), self._beat)

    def stop(self) -> None:
        """Stop all timers."""
        self._heap.clear()
        if self._alarm is not None:
            self._alarm.close()
            self._alarm = None

    async def sleep(self, seconds: float) -> None:
        """Wait. In contrast to asyncio.sleep on uvloop, the resolution is that of the kernel."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken = asyncio.get_running_loop().create_future()
        self.at(time.monotonic() + seconds, lambda _: None if woken.done() else woken.set_result(None))
        await woken

    def at(self, when: float, callback: Callback) -> None:
        """Call a function at a time. If the time has passed, call it in the next turn of the event loop."""
        self._number += 1
        heapq.heappush(self._heap, (when, self._number, callback))
        if when < self._armed and self._alarm is not None:
            self._armed = when
            self._alarm.set(when)

    def overdue(self, now: float) -> float:
        """Return an upper bound of the time for which the event loop did not get to its work before `now`, in seconds.

        In a turn of the loop, timers may come before the requests that waited with them. So the lateness of the last
        timers counts as long as that turn may last: until the next heartbeat is due, and while it is overdue.
        """
        overdue = max(0.0, now - self._heap[0][0]) if self._heap else 0.0
        since = now - self._ticked_at
        if self._lateness > _HEARTBEAT_SECONDS and (overdue or since < _HEARTBEAT_SECONDS):
            return self._lateness + since
        return overdue

    def _tick(self) -> None:
        heap = self._heap
        self._armed = float("inf")
        self._ticked_at = time.monotonic()
        self._lateness = max(0.0, self._ticked_at - heap[0][0]) if heap else 0.0
        self.longest_lateness = max(self.longest_lateness, self._lateness)
        for _ in range(_AT_ONCE):
            if not heap or heap[0][0] > time.monotonic():
                break
            when, _, callback = heapq.heappop(heap)
            callback(when)
        if heap and self._alarm is not None and heap[0][0] < self._armed:
            self._armed = heap[0][0]
            self._alarm.set(self._armed)

    def _beat(self, _: float) -> None:
        self.at(time.monotonic() + _HEARTBEAT_SECONDS, self._beat)


class _Alarm:
    """One timer, which can be set again."""

    def set(self, when: float) -> None:
        """Ring at a time of the monotonic clock."""

    def close(self) -> None:
        """Do not ring any more."""


class _KernelAlarm(_Alarm):
    def __init__(self, ring: Callable[[], None]) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._file = self._libc.timerfd_create(_MONOTONIC, _NONBLOCK_CLOEXEC)
        if self._file < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed")
        self._setting = _Setting()
        self._reference = ctypes.byref(self._setting)
        self._ring = ring
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._file, self._on_expiration)

    def set(self, when: float) -> None:
        # A time of zero would disarm the timer.
        nanoseconds = max(1, int(when * 1e9))
        self._setting.seconds, self._setting.nanoseconds = divmod(nanoseconds, 1_000_000_000)
        self._libc.timerfd_settime(self._file, _ABSOLUTE, self._reference, None)

    def close(self) -> None:
        self._loop.remove_reader(self._file)
        os.close(self._file)

    def _on_expiration(self) -> None:
        try:
            os.read(self._file, 8)
        except BlockingIOError:
            # It was set again after the expiration.
            return
        self._ring()


class _LoopAlarm(_Alarm):
    """A timer of the event loop, for systems without timerfd."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._loop = asyncio.get_running_loop()
        self._handle: asyncio.TimerHandle | None = None

    def set(self, when: float) -> None:
        self.close()
        self._handle = self._loop.call_later(max(0.0, when - time.monotonic()), self._ring)

    def close(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
