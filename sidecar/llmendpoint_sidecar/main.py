"""The process of the sidecar. It creates the parts, runs them, and drains them."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import sys
from collections.abc import Sequence
from dataclasses import asdict

from llmendpoint_common.contracts.sidecar import RequestRecord, SidecarConfig, SidecarStatus
from llmendpoint_common.process import exit_codes, exposition, lifecycle
from llmendpoint_common.process.errors import ConfigError
from llmendpoint_common.process.logs import configure_logs
from llmendpoint_common.process.reasons import reason_of
from llmendpoint_common.process.sockets import bind_sockets, names_of, port_of
from llmendpoint_sidecar.admin.server import Records
from llmendpoint_sidecar.admin.service import AdminService
from llmendpoint_sidecar.budget import raise_file_limit
from llmendpoint_sidecar.config import read_config
from llmendpoint_sidecar.exposure import log_exposure
from llmendpoint_sidecar.inputs.files import InputFiles, Inputs
from llmendpoint_sidecar.inputs.watch import InputWatch
from llmendpoint_sidecar.meter.traffic import Traffic
from llmendpoint_sidecar.proxy.service import Job, ProxyService
from llmendpoint_sidecar.runtime import Runtime, tune_garbage_collector
from llmendpoint_sidecar.settings import Settings, parse_settings
from llmendpoint_sidecar.stall.watch import DataPath, StallWatch
from llmendpoint_sidecar.workers.supervisor import Supervisor

log = logging.getLogger(__name__)


class Sidecar:
    """A sidecar without workers: proxy, admin server and model agent in one process."""

    def __init__(self, settings: Settings, config: SidecarConfig) -> None:
        self._settings = settings
        files = InputFiles(settings)
        self.inputs = InputWatch(files, files.load(config), self._configure)
        self.runtime = Runtime(settings)
        self.proxy_service = ProxyService(settings, self.runtime, self.inputs.current)
        records = Records(self._find, self._last)
        self.admin_service = AdminService(self.runtime, self.inputs.current, exposition.no_refresh, records)
        self.stall_watch = StallWatch(
            settings,
            self.runtime,
            self.admin_service.agent,
            self.admin_service.health,
            DataPath(self._traffic, self.proxy_service.note_hung),
            self.runtime.metrics.count,
        )
        self.stall_watch.configure(config)
        self._tasks: list[asyncio.Task[None]] = []
        self.sockets: list[socket.socket] = []
        self.admin_sockets: list[socket.socket] = []
        self.port = self.admin_port = 0

    async def start(self) -> None:
        """Listen, and start the background tasks. Raises OSError if a port is in use."""
        jobs: list[Job] = [self.inputs.run]
        self.admin_sockets = bind_sockets(self._settings.admin_listen)
        self.admin_port = port_of(self.admin_sockets)
        try:
            if not self._settings.exporter:
                self.sockets = bind_sockets(self._settings.listen)
                self.port = port_of(self.sockets)
                jobs += [*await self.proxy_service.start(self.sockets), self.stall_watch.run]
        except OSError:
            for sock in self.admin_sockets:
                sock.close()
            raise
        jobs += await self.admin_service.start(self.admin_sockets)
        self._tasks = [asyncio.create_task(job()) for job in jobs]

    def configure(self, inputs: Inputs) -> None:
        """Apply new inputs to the proxy, its admission and the model agent, in one step of the event loop."""
        self.proxy_service.configure(inputs)
        self.stall_watch.configure(inputs.config)
        self.admin_service.configure(inputs)

    async def drain(self) -> None:
        """Report not ready, keep serving for `--drain-delay`, then let streams finish for up to `--drain-timeout`."""
        self.admin_service.health.draining = True
        await self.proxy_service.drain()

    async def stop(self) -> None:
        """Stop immediately and close every connection."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.proxy_service.close()
        await self.admin_service.stop()
        if self.proxy_service.telemetry is not None:
            await asyncio.to_thread(self.proxy_service.telemetry.close)

    def status(self) -> SidecarStatus:
        """Return the content of `/status`."""
        return self.admin_service.status()

    async def _configure(self, inputs: Inputs) -> None:
        self.configure(inputs)

    async def _traffic(self) -> Traffic:
        return self.proxy_service.traffic()

    async def _find(self, request_id: str, tenant: str | None) -> list[RequestRecord]:
        return self.runtime.meter.find(request_id, tenant)

    async def _last(self, after: float, limit: int) -> list[RequestRecord]:
        return self.runtime.meter.last(after, limit)


async def serve(settings: Settings, config: SidecarConfig, arguments: Sequence[str], stopping: asyncio.Event) -> int:
    """Serve until `stopping` is set, drain, and return the exit code. `arguments` are passed to the workers."""
    sidecar: Sidecar | Supervisor
    try:
        sidecar = Supervisor(settings, config, arguments) if settings.workers > 1 else Sidecar(settings, config)
    except OSError as error:
        log.error("%s", reason_of(error))
        return exit_codes.ERROR
    try:
        await sidecar.start()
        metrics = names_of(sidecar.admin_sockets)
        if settings.exporter:
            log.info("exporter without proxy: upstream %s, metrics on %s", settings.upstream, metrics)
        else:
            log.info("proxy on %s, upstream %s, metrics on %s", names_of(sidecar.sockets), settings.upstream, metrics)
        bounds = ", ".join(f"{name}={value}" for name, value in asdict(sidecar.runtime.budget).items())
        log.debug("bounds of each process that carries requests: %s", bounds)
        log_exposure(settings, config, sidecar.sockets, sidecar.admin_sockets)
        await stopping.wait()
        log.info("draining")
        await sidecar.drain()
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        log.error("%s%s", reason_of(error), "; choose another port with --listen or --admin-listen" if taken else "")
        return exit_codes.ERROR
    finally:
        await sidecar.stop()
    return exit_codes.OK


def main(arguments: Sequence[str] | None = None, program: str = "llmendpoint_sidecar") -> int:
    """Run the sidecar. Returns 0 after a drain, 1 if it failed, and 2 for an invalid setting or configuration file.

    If `arguments` is None, the command line of the process is used. `program` is the name in messages.
    """
    settings = parse_settings(arguments, program)
    configure_logs(settings.log_level)
    try:
        config = read_config(settings.config) if settings.config else SidecarConfig()
    except ConfigError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return error.exit_code
    tune_garbage_collector()
    raise_file_limit()
    given = sys.argv[1:] if arguments is None else arguments
    return lifecycle.run(lambda stopping: serve(settings, config, given, stopping))
