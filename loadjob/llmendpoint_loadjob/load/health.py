"""Watches whether the load generator itself keeps up: delays of its event loop, CPU throttling, garbage collection."""

from __future__ import annotations

import asyncio
import gc
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, Self

#: Interval of the timer with which delays of the event loop are measured, in seconds.
LAG_INTERVAL = 0.01
#: Delays that are filled in for one stop of the event loop: 10 s.
_MAX_FILLED = 1000
_RESOLUTION = 0.001
#: A collection of the youngest objects visits those of all requests in flight, because they have replaced the objects
#: of earlier requests: 15 to 30 ms with 1,000 streams, which have about 50,000 objects. So it is rarer than that.
_GC_THRESHOLDS = (200_000, 50, 100)
#: Time for which a thread that computes may keep the event loop waiting, in seconds. Python's default is 5 ms.
_SWITCH_SECONDS = 0.0005


class LagRecording(Protocol):
    """Takes the delays of the event loop."""

    def add_lag(self, seconds: float) -> None:
        """Add a delay."""

    def add_tick(self, due: float, at: float) -> None:
        """Note when a tick of the timer was due, and when it came."""


class LagWatch:
    """Measures the delays of the event loop with a timer, while `run` runs.

    A stop of 1 s delays one tick of the timer, and would count as one of 100. Therefore the delays that the ticks in
    the stop would have had are recorded too, as in HdrHistogram's correction for coordinated omission.
    """

    def __init__(self, clock: Callable[[], float], recorder: LagRecording) -> None:
        self._clock = clock
        self._recorder = recorder
        #: When the next tick is due.
        self._due = math.inf

    async def run(self) -> None:
        """Record the delays until the task is cancelled."""
        self._due = self._clock() + LAG_INTERVAL
        try:
            while True:
                await asyncio.sleep(self._due - self._clock())
                self.notice()
        finally:
            self.notice()
            self._due = math.inf

    def notice(self) -> None:
        """Record the delay of the tick that is due, also if the event loop has not run it yet."""
        now = self._clock()
        lag = now - self._due
        # The timers of an event loop can be early by their resolution.
        if lag < -_RESOLUTION:
            return
        due, self._due = self._due, now + LAG_INTERVAL
        self._recorder.add_tick(due, now)
        self._recorder.add_lag(lag)
        for missed in range(1, min(_MAX_FILLED, int(lag / LAG_INTERVAL)) + 1):
            self._recorder.add_lag(lag - missed * LAG_INTERVAL)


class GarbageWatch:
    """Total and longest pause of the garbage collector, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.total = 0.0
        self.longest = 0.0
        self._clock = clock
        self._begin = 0.0

    def __enter__(self) -> Self:
        """Start watching."""
        gc.callbacks.append(self._note)
        return self

    def __exit__(self, *error: object) -> None:
        """Stop watching."""
        gc.callbacks.remove(self._note)

    def _note(self, phase: str, info: dict[str, Any]) -> None:
        if phase == "start":
            self._begin = self._clock()
            return
        pause = self._clock() - self._begin
        self.total += pause
        self.longest = max(self.longest, pause)


@contextmanager
def rare_collections() -> Iterator[None]:
    """Keep the objects of the start out of garbage collections, and collect rarely.

    Requests free their objects by reference counts. A full collection of the heap after the imports takes 27 ms, which
    would be in the latencies of all streams.
    """
    thresholds = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()


@contextmanager
def short_waits() -> Iterator[None]:
    """Let threads that compute, such as for a partial summary, keep the event loop waiting for a short time only.

    The event loop releases the interpreter whenever it waits for sockets. A thread that has it then does not give it
    back before the switch interval has passed, although responses may have arrived.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def throttled_seconds(root: Path = Path("/sys/fs/cgroup"), process: Path = Path("/proc/self/cgroup")) -> float:
    """Return the time for which CPU limits have throttled this process, or 0 if it is unknown.

    The limits of the parents count too, so the largest value of the cgroup and its parents is returned. It reads cgroup
    v2 (`throttled_usec`) and v1 (`throttled_time`, in nanoseconds).
    """
    folders = [folder for base, path in _cgroups(root, process) for folder in _with_parents(base, path)]
    return max((_throttled_in(folder / "cpu.stat") for folder in folders), default=0.0)


def _cgroups(root: Path, process: Path) -> Iterator[tuple[Path, str]]:
    """Yield the mounted hierarchies that can limit the CPU, with the path of the process in each."""
    try:
        lines = process.read_text().splitlines()
    except OSError:
        lines = ["0::/"]
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            yield root, path
        elif "cpu" in controllers.split(","):
            yield root / controllers, path
            yield root / "cpu", path


def _with_parents(base: Path, path: str) -> Iterator[Path]:
    """Yield the folder of a cgroup and those of its parents.

    In a container without a namespace of cgroups, the path is that of the host and does not exist. The folder itself is
    then at the root.
    """
    folder = base / path.strip("/")
    while True:
        yield folder
        if folder == base or base not in folder.parents:
            return
        folder = folder.parent


def _throttled_in(file: Path) -> float:
    try:
        fields = dict(line.split() for line in file.read_text().splitlines())
        return max(int(fields.get("throttled_usec", 0)) / 1e6, int(fields.get("throttled_time", 0)) / 1e9)
    except (OSError, ValueError):
        return 0.0
