"""An event loop in virtual time: whenever nothing is left to do, the clock jumps to the next timer.

Hours pass in milliseconds, and the same program always runs the same way. Only timers work in it, not sockets.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")


class _Selector(selectors.DefaultSelector):
    """A selector that does not wait: it lets the time pass instead."""

    now = 1000.0

    def select(self, timeout: float | None = None) -> list[Any]:
        events: list[Any] = super().select(0)
        if not events:
            assert timeout is not None, "the program waits for something that never happens"
            self.now += timeout
        return events


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is virtual."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)
        self._clock_resolution = 1e-9

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self._virtual.now

    def pass_time(self, seconds: float) -> None:
        """Let the time pass."""
        self._virtual.now += seconds


def run_virtually(main: Callable[[Callable[[], float]], Coroutine[Any, Any, T]]) -> T:
    """Run `main(clock)` in virtual time, and return its result."""
    loop = VirtualTimeLoop()
    try:
        return loop.run_until_complete(main(loop.time))
    finally:
        loop.close()


def slowly(items: Iterable[T], seconds: float) -> Iterator[T]:
    """Yield items. Before each, the given number of seconds of virtual time passes in which the program does nothing."""
    for item in items:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        loop.pass_time(seconds)
        yield item
