"""The supervisor of several workers. It keeps them running, configures them, sums their metrics, and drains them."""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
import socket
from collections.abc import Sequence

from llmendpoint_common.contracts.sidecar import RequestRecord, SidecarConfig
from llmendpoint_common.process.sockets import bind_sockets, port_of
from llmendpoint_sidecar.admin.server import Records
from llmendpoint_sidecar.admin.service import AdminService
from llmendpoint_sidecar.inputs.files import InputFiles, Inputs
from llmendpoint_sidecar.inputs.watch import InputWatch
from llmendpoint_sidecar.meter.traffic import Traffic, merged
from llmendpoint_sidecar.policy.hung import HungNotice
from llmendpoint_sidecar.proxy.service import Job
from llmendpoint_sidecar.runtime import Runtime
from llmendpoint_sidecar.settings import Settings
from llmendpoint_sidecar.stall.watch import DataPath, StallWatch
from llmendpoint_sidecar.workers.keeper import Keeper, RestartReason
from llmendpoint_sidecar.workers.process import WorkerProcess
from llmendpoint_sidecar.workers.totals import Totals

log = logging.getLogger(__name__)

#: Interval at which the metrics of the workers are refreshed. If a worker dies, what it counted since the last refresh
#: is lost.
_REFRESH_SECONDS = 2.0
#: Time for the workers to confirm new inputs. It is normally over after a few milliseconds.
_CONFIRM_SECONDS = 2.0
#: Interval at which the number of workers that answer is checked, and the number of checks in a row without any after
#: which `/livez` fails.
_CHECK_SECONDS = 1.0
_MAX_FAILED_CHECKS = 60


class Supervisor:
    """A sidecar in which worker processes carry the requests."""

    def __init__(self, settings: Settings, config: SidecarConfig, arguments: Sequence[str]) -> None:
        self._settings = settings
        self._arguments = tuple(arguments)
        self.runtime = Runtime(settings)
        files = InputFiles(settings)
        self._inputs = InputWatch(files, files.load(config), self.configure)
        records = Records(self.find, self.last)
        self._admin_service = AdminService(self.runtime, self._inputs.current, self.refresh, records)
        self._totals = Totals(self.runtime.meter)
        self._stall_watch = StallWatch(
            settings,
            self.runtime,
            self._admin_service.agent,
            self._admin_service.health,
            DataPath(self._traffic, self._note_hung),
            self._totals.count,
        )
        self._stall_watch.configure(config)
        self._keepers: list[Keeper] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._keeping: list[asyncio.Task[None]] = []
        #: The listening sockets of each worker.
        self._sockets: list[list[socket.socket]] = []
        self.admin_sockets: list[socket.socket] = []

    @property
    def sockets(self) -> list[socket.socket]:
        """The sockets that clients connect to. Those of all workers have the same addresses."""
        return self._sockets[0]

    async def start(self) -> None:
        """Listen, and start every worker. Raises OSError if a port is in use or a worker does not start."""
        settings = self._settings
        self.admin_sockets = bind_sockets(settings.admin_listen)
        self._listen()
        for number, sockets in enumerate(self._sockets):
            launch = functools.partial(self._launch, sockets)
            self._keepers.append(Keeper(number, settings.worker_timeout, launch, self._worker_ended))
        await asyncio.gather(*(keeper.start() for keeper in self._keepers))
        jobs: list[Job] = [*await self._admin_service.start(self.admin_sockets), self._refresh_regularly]
        jobs += [self._check_regularly, self._inputs.run, self._stall_watch.run]
        self._tasks = [asyncio.create_task(job()) for job in jobs]
        self._keeping = [asyncio.create_task(keeper.run()) for keeper in self._keepers]

    async def configure(self, inputs: Inputs) -> None:
        """Send new inputs to every worker, and apply them here at the same moment.

        A worker that is stuck is replaced, and its successor starts with these inputs.
        """
        answers = [worker.configure(inputs) for worker in self._workers()]
        self._admin_service.configure(inputs)
        self._stall_watch.configure(inputs.config)
        if answers:
            await asyncio.wait(answers, timeout=_CONFIRM_SECONDS)
        late = sum(not answer.done() or answer.result() is None for answer in answers)
        if late:
            log.warning(
                "%d of %d workers do not use the changed files yet; one that does not answer for %g s is replaced",
                late, len(answers), self._settings.worker_timeout,
            )  # fmt: skip

    async def drain(self) -> None:
        """Report not ready, drain every worker, and wait until all have ended."""
        self._admin_service.health.draining = True
        for keeper in self._keepers:
            keeper.drain()
        await asyncio.gather(*self._keeping)

    async def stop(self) -> None:
        """Kill the workers and stop the admin server."""
        self._admin_service.health.draining = True
        for task in (*self._tasks, *self._keeping):
            task.cancel()
        await asyncio.gather(*self._tasks, *self._keeping, return_exceptions=True)
        await asyncio.gather(*(keeper.stop() for keeper in self._keepers))
        for sock in (sock for sockets in self._sockets for sock in sockets):
            sock.close()
        await self._admin_service.stop()

    async def refresh(self) -> None:
        """Fetch the metrics of every worker, and sum them."""
        await asyncio.gather(*(worker.refresh() for worker in self._workers()))
        self._sum()

    async def find(self, request_id: str, tenant: str | None) -> list[RequestRecord]:
        """Return the records of a request ID, at most one for each tenant: the first one of all workers."""
        answers = await asyncio.gather(*(worker.find(request_id, tenant) for worker in self._workers()))
        first: dict[str, RequestRecord] = {}
        for record in sorted(itertools.chain.from_iterable(answers), key=lambda record: record.time):
            first.setdefault(record.tenant, record)
        return list(first.values())

    async def last(self, after: float, limit: int) -> list[RequestRecord]:
        """Return the last records of requests that ended after a Unix time, of all workers.

        Those of a worker that has ended are lost.
        """
        answers = await asyncio.gather(*(worker.last(after, limit) for worker in self._workers()))
        return sorted(itertools.chain.from_iterable(answers), key=lambda record: record.time)[-limit:]

    def _workers(self) -> list[WorkerProcess]:
        return [keeper.worker for keeper in self._keepers if keeper.worker is not None]

    def _listen(self) -> None:
        """Bind the sockets of all workers.

        The supervisor keeps them open. If a worker ends, the next one serves the waiting connections.
        """
        address = self._settings.listen
        # With SO_REUSEPORT, bind() succeeds even if another sidecar uses the port. Therefore the port is first bound
        # without it, to detect this.
        for sock in bind_sockets(address):
            sock.close()
        for _ in range(self._settings.workers):
            sockets = bind_sockets(address, reuse_port=True)
            self._sockets.append(sockets)
            address = address._replace(port=port_of(sockets))

    async def _launch(self, sockets: list[socket.socket]) -> WorkerProcess:
        hung = self._stall_watch.notice
        worker = await WorkerProcess.start(self._arguments, sockets, self._inputs.current, hung)
        # The files may have changed meanwhile. The answer is not awaited: a worker that does not answer is replaced.
        if worker.inputs is not self._inputs.current:
            worker.configure(self._inputs.current)
        if self._stall_watch.notice is not hung:
            worker.note_hung(self._stall_watch.notice)
        return worker

    async def _traffic(self) -> Traffic | None:
        """Return the requests in flight of all workers. None if one of them does not answer."""
        parts = await asyncio.gather(*(worker.traffic() for worker in self._workers()))
        known = [part for part in parts if part is not None]
        return merged(known) if len(known) == len(parts) else None

    def _note_hung(self, notice: HungNotice | None) -> None:
        for worker in self._workers():
            worker.note_hung(notice)

    def _worker_ended(self, worker: WorkerProcess, reason: RestartReason | None) -> None:
        self._totals.keep(worker.latest, reason)
        self._sum()

    def _sum(self) -> None:
        self._totals.update(worker.latest for worker in self._workers() if worker.latest is not None)

    async def _refresh_regularly(self) -> None:
        while True:
            await asyncio.sleep(_REFRESH_SECONDS)
            await self.refresh()

    async def _check_regularly(self) -> None:
        """Set what the probes report. Checks are counted, and not time, as for the answers of a worker."""
        failed = 0
        while True:
            await asyncio.sleep(_CHECK_SECONDS)
            serving = any(worker.answers for worker in self._workers())
            failed = 0 if serving else failed + 1
            self._admin_service.health.serving = serving
            self._admin_service.health.alive = failed < _MAX_FAILED_CHECKS
