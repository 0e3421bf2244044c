"""The parent of several workers: it starts them anew when they die, adds up what they count, and drains them."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Sequence

from llmendpoint_common.contracts.sidecar import RequestRecord, SidecarConfig
from llmendpoint_common.process.sockets import bind_sockets, port_of
from llmendpoint_sidecar.admin.service import AdminService
from llmendpoint_sidecar.meter.metrics import Metrics
from llmendpoint_sidecar.meter.model_labels import MAX_MODELS, OTHER
from llmendpoint_sidecar.proxy.service import certificate_of
from llmendpoint_sidecar.runtime import Runtime
from llmendpoint_sidecar.settings import Settings
from llmendpoint_sidecar.workers.process import WorkerProcess

log = logging.getLogger(__name__)

#: What a worker that dies has counted since the last look is lost.
_LOOK_SECONDS = 2.0
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0


class Supervisor:
    """A sidecar whose traffic is carried by worker processes."""

    def __init__(self, settings: Settings, config: SidecarConfig, arguments: Sequence[str]) -> None:
        self._settings = settings
        self._arguments = tuple(arguments)
        self._runtime = Runtime(settings)
        # Read once here for its errors: a wrong certificate is one sentence, not a worker that comes and goes.
        certificate_of(settings)
        self._admin_service = AdminService(settings, self._runtime, config, self.refresh, self.find)
        self._past = Metrics()
        self._labels: set[str] = set()
        self._sockets: list[list[socket.socket]] = []
        self._workers: list[WorkerProcess | None] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._keepers: list[asyncio.Task[None]] = []
        self.port = self.admin_port = 0

    async def start(self) -> None:
        """Listen and start every worker; OSError where a port is taken or a worker does not come up."""
        settings = self._settings
        admin_sockets = bind_sockets(settings.admin_listen)
        self.admin_port = port_of(admin_sockets)
        address = settings.listen
        # A shared port is not refused to another sidecar that shares it as well; one that is taken is, here.
        for sock in bind_sockets(address):
            sock.close()
        for _ in range(settings.workers):
            # Held open here as well: a connection that waits for a worker that died is served by the next one.
            sockets = bind_sockets(address, reuse_port=True)
            self._sockets.append(sockets)
            self.port = port_of(sockets)
            address = address._replace(port=self.port)
        starting = (WorkerProcess.start(self._arguments, sockets) for sockets in self._sockets)
        self._workers = list(await asyncio.gather(*starting))
        jobs = [*await self._admin_service.start(admin_sockets), self._look]
        self._tasks = [asyncio.create_task(job()) for job in jobs]
        self._keepers = [asyncio.create_task(self._keep(index)) for index in range(settings.workers)]

    async def drain(self) -> None:
        """Turn unready; every worker lets its streams finish."""
        self._admin_service.draining = True
        for worker in self._workers:
            if worker is not None:
                worker.drain()
        await asyncio.gather(*self._keepers)

    async def stop(self) -> None:
        """Stop at once."""
        self._admin_service.draining = True
        for task in (*self._tasks, *self._keepers):
            task.cancel()
        await asyncio.gather(*self._tasks, *self._keepers, return_exceptions=True)
        for worker in self._workers:
            if worker is not None:
                worker.kill()
                await worker.process.wait()
        for sock in (sock for sockets in self._sockets for sock in sockets):
            sock.close()
        await self._admin_service.stop()

    async def refresh(self) -> None:
        """Take the numbers of every worker, and add them up."""
        workers = [worker for worker in self._workers if worker is not None]
        await asyncio.gather(*(worker.refresh() for worker in workers))
        self._add_up()

    async def find(self, request_id: str) -> RequestRecord | None:
        """Return the record of a request, whichever worker carried it."""
        workers = [worker for worker in self._workers if worker is not None]
        answers = await asyncio.gather(*(worker.find(request_id) for worker in workers))
        return next((record for record in answers if record is not None), None)

    def _add_up(self) -> None:
        known = [worker.numbers for worker in self._workers if worker is not None and worker.numbers is not None]
        metrics = self._runtime.metrics
        metrics.clear()
        for snapshot in (self._past.snapshot(), *(numbers.metrics for numbers in known)):
            metrics.add(snapshot, self._label)
        self._runtime.meter.in_flight.replace(numbers.in_flight for numbers in known)

    def _label(self, model: str) -> str:
        """Return a worker's label of a model, within one bound for all workers together."""
        if model not in self._labels:
            if len(self._labels) >= MAX_MODELS:
                return OTHER
            self._labels.add(model)
        return model

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            await self.refresh()

    async def _keep(self, index: int) -> None:
        """Replace a worker whenever it dies, until the drain."""
        pause = _FIRST_PAUSE_SECONDS
        while True:
            worker = self._workers[index]
            if worker is not None:
                began = asyncio.get_running_loop().time()
                code = await worker.process.wait()
                self._bury(index, worker)
                if self._admin_service.draining:
                    return
                log.error("worker %d ended with %d; another takes its place", index, code)
                if asyncio.get_running_loop().time() - began > _LONGEST_PAUSE_SECONDS:
                    pause = _FIRST_PAUSE_SECONDS
            await asyncio.sleep(pause)
            pause = min(_LONGEST_PAUSE_SECONDS, 2 * pause)
            try:
                self._workers[index] = await WorkerProcess.start(self._arguments, self._sockets[index])
            except OSError as error:
                log.error("worker %d: %s", index, error)

    def _bury(self, index: int, worker: WorkerProcess) -> None:
        """Keep what a worker has counted: counters never go back."""
        self._workers[index] = None
        worker.kill()
        if worker.numbers is not None:
            self._past.add(worker.numbers.metrics, self._label)
            self._add_up()
