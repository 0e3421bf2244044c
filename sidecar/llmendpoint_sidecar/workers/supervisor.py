"""The supervisor of several workers. It restarts them, sums their metrics, and drains them."""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
import socket
from collections.abc import Sequence

from llmendpoint_common.contracts.sidecar import RequestRecord, SidecarConfig
from llmendpoint_common.process.sockets import bind_sockets, port_of
from llmendpoint_sidecar.admin.service import AdminService
from llmendpoint_sidecar.config import watch_config
from llmendpoint_sidecar.meter.metrics import Metrics
from llmendpoint_sidecar.meter.model_labels import MAX_MODELS, OTHER
from llmendpoint_sidecar.proxy.service import Job, certificate_of
from llmendpoint_sidecar.runtime import Runtime
from llmendpoint_sidecar.settings import Settings
from llmendpoint_sidecar.workers.process import WorkerProcess

log = logging.getLogger(__name__)

#: Interval at which the metrics of the workers are refreshed. If a worker dies, what it counted since the last refresh
#: is lost.
_REFRESH_SECONDS = 2.0
_FIRST_RESTART_SECONDS = 0.5
_LAST_RESTART_SECONDS = 30.0


class Supervisor:
    """A sidecar in which worker processes carry the requests."""

    def __init__(self, settings: Settings, config: SidecarConfig, arguments: Sequence[str]) -> None:
        self._settings = settings
        self._config = config
        self._arguments = tuple(arguments)
        self._runtime = Runtime(settings)
        # Loaded here only to detect errors: with an invalid certificate, every worker would fail again and again.
        certificate_of(settings)
        self._admin_service = AdminService(self._runtime, config, self.refresh, self.find)
        #: Last metrics of the workers that have ended. They stay part of the sum, so that counters never decrease.
        self._past = Metrics()
        self._labels: set[str] = set()
        self._sockets: list[list[socket.socket]] = []
        self._workers: list[WorkerProcess | None] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._restarters: list[asyncio.Task[None]] = []
        self.port = self.admin_port = 0

    async def start(self) -> None:
        """Listen, and start every worker. Raises OSError if a port is in use or a worker does not start."""
        settings = self._settings
        admin_sockets = bind_sockets(settings.admin_listen)
        self.admin_port = port_of(admin_sockets)
        address = settings.listen
        # With SO_REUSEPORT, bind() succeeds even if another sidecar uses the port. Therefore the port is first bound
        # without it, to detect this.
        for sock in bind_sockets(address):
            sock.close()
        for _ in range(settings.workers):
            # The supervisor keeps the sockets open. If a worker dies, the next one serves the waiting connections.
            sockets = bind_sockets(address, reuse_port=True)
            self._sockets.append(sockets)
            self.port = port_of(sockets)
            address = address._replace(port=self.port)
        starting = (WorkerProcess.start(self._arguments, sockets) for sockets in self._sockets)
        self._workers = list(await asyncio.gather(*starting))
        watch = functools.partial(watch_config, settings.config, self._config, self._admin_service.agent.configure)
        jobs: list[Job] = [*await self._admin_service.start(admin_sockets), self._refresh_regularly, watch]
        self._tasks = [asyncio.create_task(job()) for job in jobs]
        self._restarters = [asyncio.create_task(self._restart_when_dead(index)) for index in range(settings.workers)]

    async def drain(self) -> None:
        """Report not ready, drain every worker, and wait until all have ended."""
        self._admin_service.draining = True
        for worker in self._workers:
            if worker is not None:
                worker.drain()
        await asyncio.gather(*self._restarters)

    async def stop(self) -> None:
        """Kill the workers and stop the admin server."""
        self._admin_service.draining = True
        for task in (*self._tasks, *self._restarters):
            task.cancel()
        await asyncio.gather(*self._tasks, *self._restarters, return_exceptions=True)
        for worker in self._workers:
            if worker is not None:
                worker.kill()
                await worker.process.wait()
        for sock in (sock for sockets in self._sockets for sock in sockets):
            sock.close()
        await self._admin_service.stop()

    async def refresh(self) -> None:
        """Fetch the metrics of every worker, and sum them."""
        workers = [worker for worker in self._workers if worker is not None]
        await asyncio.gather(*(worker.refresh() for worker in workers))
        self._sum()

    async def find(self, request_id: str, tenant: str | None) -> list[RequestRecord]:
        """Return the records of a request ID, at most one for each tenant: the first one of all workers."""
        workers = [worker for worker in self._workers if worker is not None]
        answers = await asyncio.gather(*(worker.find(request_id, tenant) for worker in workers))
        first: dict[str, RequestRecord] = {}
        for record in sorted(itertools.chain.from_iterable(answers), key=lambda record: record.time):
            first.setdefault(record.tenant, record)
        return list(first.values())

    def _sum(self) -> None:
        known = [worker.latest for worker in self._workers if worker is not None and worker.latest is not None]
        metrics = self._runtime.metrics
        metrics.clear()
        for snapshot in (self._past.snapshot(), *(latest.metrics for latest in known)):
            metrics.add(snapshot, self._label)
        self._runtime.meter.in_flight.replace(latest.in_flight for latest in known)

    def _label(self, model: str) -> str:
        """Return a worker's model label, or `other` if the workers together have more than MAX_MODELS labels."""
        if model not in self._labels:
            if len(self._labels) >= MAX_MODELS:
                return OTHER
            self._labels.add(model)
        return model

    async def _refresh_regularly(self) -> None:
        while True:
            await asyncio.sleep(_REFRESH_SECONDS)
            await self.refresh()

    async def _restart_when_dead(self, index: int) -> None:
        """Replace a worker each time it dies, until the drain.

        The delay starts at 0.5 s, doubles up to 30 s, and is reset after a worker has run for more than 30 s.
        """
        pause = _FIRST_RESTART_SECONDS
        while True:
            worker = self._workers[index]
            if worker is not None:
                began = asyncio.get_running_loop().time()
                code = await worker.process.wait()
                self._keep_metrics(index, worker)
                if self._admin_service.draining:
                    return
                if asyncio.get_running_loop().time() - began > _LAST_RESTART_SECONDS:
                    pause = _FIRST_RESTART_SECONDS
                log.error("worker %d ended with exit code %d; restarting it in %g s", index, code, pause)
            await asyncio.sleep(pause)
            pause = min(_LAST_RESTART_SECONDS, 2 * pause)
            try:
                self._workers[index] = await WorkerProcess.start(self._arguments, self._sockets[index])
            except OSError as error:
                log.error("worker %d: %s", index, error)

    def _keep_metrics(self, index: int, worker: WorkerProcess) -> None:
        """Add the last metrics of a worker that has ended to those of its predecessors."""
        self._workers[index] = None
        worker.kill()
        if worker.latest is not None:
            self._past.add(worker.latest.metrics, self._label)
            self._sum()
