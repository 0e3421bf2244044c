"""Memory of the simulator: which weights are in it, how much of the GPU they take, and when they leave it.

Like Ollama's scheduler (server/sched.go): models are loaded one after the other. If a model does not fit beside the
others, the idle one with the shortest keep-alive is evicted; if all are busy, the load waits for the one with the
shortest. A model that is alone and does not fit is loaded in part, and the rest runs on the CPU.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

import msgspec

from llmendpoint_common.process.errors import QueueFullError

#: As long as Ollama's own.
FOREVER = timedelta(days=36500)


class Runner(msgspec.Struct):
    """Weights in memory: the model that loaded them, and when they leave memory. Sizes are in bytes.

    While `users` requests use them, they stay.
    """

    weights: str
    name: str
    digest: str
    size: int
    vram: int
    keep_alive: timedelta
    until: datetime
    users: int = 0

    @property
    def cpu_share(self) -> float:
        """Share of the weights that is not on the GPU."""
        return 1 - self.vram / self.size if self.size else 0.0


class Wanted(msgspec.Struct, frozen=True):
    """A model to load. Without a keep-alive, one in memory keeps its own, and another gets the default."""

    weights: str
    name: str
    digest: str
    size: int
    keep_alive: timedelta | None


class Limits(msgspec.Struct, frozen=True):
    """Size of the GPU's memory in bytes, or None for no limit, and the default keep-alive.

    `waiting` is the number of requests that may wait for loads.
    """

    memory: int | None
    keep_alive: timedelta
    waiting: int


class Memory:
    """Weights in memory, by digest."""

    def __init__(self, now: Callable[[], datetime], limits: Callable[[], Limits]) -> None:
        self.loads = 0
        self.evictions = 0
        self._now = now
        self._limits = limits
        self._runners: dict[str, Runner] = {}
        self._loading = asyncio.Lock()
        self._waiting = 0
        self._released = asyncio.Event()

    def runners(self) -> list[Runner]:
        """Return what is in memory, the longest remaining time first, as in Ollama."""
        now = self._now()
        for weights, runner in tuple(self._runners.items()):
            if not runner.users and runner.until <= now:
                del self._runners[weights]
        return sorted(self._runners.values(), key=lambda runner: runner.until, reverse=True)

    def find(self, weights: str) -> Runner | None:
        """Return weights that are in memory, or None."""
        runner = self._runners.get(weights)
        return runner if runner is not None and (runner.users or runner.until > self._now()) else None

    def place(self, wanted: Wanted) -> Runner:
        """Put weights into memory immediately, in what is free of the GPU, or use those that are there."""
        runner = self.find(wanted.weights)
        if runner is None:
            free = self._free()
            vram = wanted.size if free is None else min(wanted.size, max(0, free))
            self.loads += 1
            runner = self._runners[wanted.weights] = Runner(
                wanted.weights, wanted.name, wanted.digest, wanted.size, vram, self._limits().keep_alive, self._now()
            )
        runner.keep_alive = runner.keep_alive if wanted.keep_alive is None else wanted.keep_alive
        runner.until = self._now() + runner.keep_alive
        return runner

    async def use(self, wanted: Wanted, load: Callable[[], float]) -> tuple[Runner, float]:
        """Use weights until `release`. Returns them, and the seconds of waiting and loading.

        `load` returns the seconds of a load. Raises QueueFullError if too many requests wait for loads.
        """
        if self.find(wanted.weights) is not None:
            return self._used(wanted), 0.0
        if self._waiting >= self._limits().waiting:
            raise QueueFullError
        clock = asyncio.get_running_loop().time
        begun = clock()
        self._waiting += 1
        try:
            async with self._loading:
                if self.find(wanted.weights) is None:
                    await self._make_room(wanted.size)
                    await asyncio.sleep(load())
                runner = self._used(wanted)
        finally:
            self._waiting -= 1
        return runner, clock() - begun

    def release(self, runner: Runner) -> None:
        """End a use. The keep-alive begins with the end of the last one."""
        runner.users -= 1
        runner.until = self._now() + runner.keep_alive
        self._released.set()

    def unload(self, weights: str) -> None:
        """Remove weights, or if they are in use, let them leave memory after that."""
        runner = self._runners.get(weights)
        if runner is None:
            return
        if runner.users:
            runner.keep_alive = timedelta()
        else:
            del self._runners[weights]
        self._released.set()

    def _used(self, wanted: Wanted) -> Runner:
        runner = self.place(wanted)
        runner.users += 1
        return runner

    def _free(self) -> int | None:
        limit = self._limits().memory
        return None if limit is None else limit - sum(runner.vram for runner in self.runners())

    async def _make_room(self, size: int) -> None:
        while True:
            free = self._free()
            loaded = self.runners()
            if free is None or size <= free or not loaded:
                return
            # As ByDurationAndName in Ollama, but idle ones first.
            victim = min(loaded, key=lambda runner: (runner.users > 0, runner.keep_alive, runner.name))
            self._released.clear()
            if victim.users:
                victim.keep_alive = timedelta()
                await self._released.wait()
            elif self._runners.pop(victim.weights, None) is not None:
                self.evictions += 1
