"""Keeps one worker running: replaces it if it has ended."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from llmendpoint_sidecar.workers.process import WorkerProcess

log = logging.getLogger(__name__)

_FIRST_RESTART_SECONDS = 0.5
_LAST_RESTART_SECONDS = 30.0


class Keeper:
    """Keeps the worker with the number `number` running. `worker` is None while there is none.

    `launch` starts a worker, and raises OSError if it does not serve. `ended` is called with a worker that has ended.
    """

    def __init__(
        self,
        number: int,
        launch: Callable[[], Awaitable[WorkerProcess]],
        ended: Callable[[WorkerProcess], None],
    ) -> None:
        self.worker: WorkerProcess | None = None
        self._number = number
        self._launch = launch
        self._ended = ended
        self._draining = asyncio.Event()
        self._pause = _FIRST_RESTART_SECONDS

    async def start(self) -> None:
        """Start the first worker. Raises OSError if it does not serve."""
        self.worker = await self._launch()

    async def run(self) -> None:
        """Replace the worker each time it ends, until the drain.

        The delay starts at 0.5 s, doubles up to 30 s, and is reset after a worker has run for more than 30 s.
        """
        while self.worker is not None or not self._draining.is_set():
            if self.worker is not None:
                await self._attend(self.worker)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._draining.wait(), self._pause)
            if not self._draining.is_set():
                await self._restart()

    def drain(self) -> None:
        """Let the worker finish its requests. `run` returns when it has ended."""
        self._draining.set()
        if self.worker is not None:
            self.worker.drain()

    async def stop(self) -> None:
        """Kill the worker."""
        worker, self.worker = self.worker, None
        if worker is not None:
            worker.kill()
            await worker.process.wait()

    async def _attend(self, worker: WorkerProcess) -> None:
        """Wait until the worker has ended."""
        clock = asyncio.get_running_loop().time
        began = clock()
        code = await worker.process.wait()
        if clock() - began > _LAST_RESTART_SECONDS:
            self._pause = _FIRST_RESTART_SECONDS
        self.worker = None
        worker.kill()
        if not self._draining.is_set():
            log.error("worker %d ended with exit code %d; restarting it in %g s", self._number, code, self._pause)
        self._ended(worker)

    async def _restart(self) -> None:
        self._pause = min(_LAST_RESTART_SECONDS, 2 * self._pause)
        try:
            self.worker = await self._launch()
        except OSError as error:
            log.error("worker %d: %s", self._number, error)
            return
        if self._draining.is_set():
            self.worker.drain()
