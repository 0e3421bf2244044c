"""Keeps one worker running: replaces it if it has ended, and kills it if it does not answer.

A worker that does not answer may be stopped by a signal, or its event loop may be blocked. The kernel still gives it
new connections, and they would wait forever.

The supervisor pings each worker at an interval of a tenth of `--worker-timeout`, and kills a worker that has left ten
rounds in a row unanswered. Rounds are counted, and not the time since the last answer: if the supervisor itself was
stopped, or the whole container was, one round at most is missed when it continues.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from enum import StrEnum

from llmendpoint_common.process.reasons import reason_of
from llmendpoint_sidecar.workers.process import WorkerProcess

log = logging.getLogger(__name__)

#: Number of pings in a row that a worker may leave unanswered.
ROUNDS = 10
_FIRST_RESTART_SECONDS = 0.5
_LAST_RESTART_SECONDS = 30.0


class RestartReason(StrEnum):
    """Reasons for which a worker is replaced. They are the values of the metric label `reason`."""

    ENDED = "ended"
    NO_ANSWER = "no_answer"


class Keeper:
    """Keeps the worker with the number `number` running. `worker` is None while there is none.

    `launch` starts a worker, and raises OSError if it does not serve. `ended` is called with each worker that has ended
    and the reason for its replacement, which is None in a drain. `timeout` is `--worker-timeout` in seconds.
    """

    def __init__(
        self,
        number: int,
        timeout: float,
        launch: Callable[[], Awaitable[WorkerProcess]],
        ended: Callable[[WorkerProcess, RestartReason | None], None],
    ) -> None:
        self.worker: WorkerProcess | None = None
        self._number = number
        self._timeout = timeout
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
        """Ping the worker until it has ended."""
        clock = asyncio.get_running_loop().time
        began, stuck = clock(), False
        exiting = asyncio.create_task(worker.process.wait())
        try:
            while not (await asyncio.wait((exiting,), timeout=self._timeout / ROUNDS))[0]:
                if not stuck:
                    worker.beat()
                    stuck = worker.missed == ROUNDS
                    if stuck:
                        self._kill(worker)
        finally:
            exiting.cancel()
        if clock() - began > _LAST_RESTART_SECONDS:
            self._pause = _FIRST_RESTART_SECONDS
        self.worker = None
        worker.kill()
        self._ended(worker, self._reason(worker, stuck))

    def _reason(self, worker: WorkerProcess, stuck: bool) -> RestartReason | None:
        if self._draining.is_set():
            return None
        if stuck:
            return RestartReason.NO_ANSWER
        code = worker.process.returncode
        log.error("worker %d ended with exit code %s; restarting it in %g s", self._number, code, self._pause)
        return RestartReason.ENDED

    def _kill(self, worker: WorkerProcess) -> None:
        running = 0 if worker.latest is None else sum(worker.latest.in_flight.values())
        log.error(
            "worker %d has not answered for %g s; replacing it, which cuts off about %d requests in flight",
            self._number, self._timeout, running,
        )  # fmt: skip
        worker.kill()

    async def _restart(self) -> None:
        self._pause = min(_LAST_RESTART_SECONDS, 2 * self._pause)
        try:
            self.worker = await self._launch()
        except OSError as error:
            log.error("worker %d: %s", self._number, reason_of(error))
            return
        if self._draining.is_set():
            self.worker.drain()
