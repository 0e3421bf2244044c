"""The sidecar process: put together, run, drain."""

from __future__ import annotations

import asyncio
import errno
import logging
import sys
from collections.abc import Sequence

from llmendpoint_common.contracts.sidecar import RequestRecord, SidecarConfig, SidecarStatus
from llmendpoint_common.process import exit_codes, exposition, lifecycle
from llmendpoint_common.process.errors import ConfigError
from llmendpoint_common.process.logs import configure_logs
from llmendpoint_common.process.sockets import bind_sockets, port_of
from llmendpoint_sidecar.admin.service import AdminService
from llmendpoint_sidecar.config import read_config
from llmendpoint_sidecar.proxy.service import ProxyService
from llmendpoint_sidecar.runtime import Runtime, tune_garbage_collector
from llmendpoint_sidecar.settings import Settings, parse_settings
from llmendpoint_sidecar.workers.supervisor import Supervisor

log = logging.getLogger(__name__)


class Sidecar:
    """A sidecar of one process."""

    def __init__(self, settings: Settings, config: SidecarConfig) -> None:
        self._settings = settings
        self.runtime = Runtime(settings)
        self.proxy_service = ProxyService(settings, self.runtime, config)
        self.admin_service = AdminService(settings, self.runtime, config, exposition.nothing, self._find)
        self._tasks: list[asyncio.Task[None]] = []
        self.port = self.admin_port = 0

    async def start(self) -> None:
        """Listen and begin to look after the models; OSError where a port is taken."""
        admin_sockets = bind_sockets(self._settings.admin_listen)
        self.admin_port = port_of(admin_sockets)
        jobs = []
        try:
            if not self._settings.exporter:
                sockets = bind_sockets(self._settings.listen)
                self.port = port_of(sockets)
                jobs += await self.proxy_service.start(sockets)
        except OSError:
            for sock in admin_sockets:
                sock.close()
            raise
        jobs += await self.admin_service.start(admin_sockets)
        self._tasks = [asyncio.create_task(job()) for job in jobs]

    async def drain(self) -> None:
        """Turn unready, serve on for a moment, let streams finish."""
        self.admin_service.draining = True
        await self.proxy_service.drain()

    async def stop(self) -> None:
        """Stop at once."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.proxy_service.close()
        await self.admin_service.stop()
        if self.proxy_service.telemetry is not None:
            await asyncio.to_thread(self.proxy_service.telemetry.close)

    def status(self) -> SidecarStatus:
        """Return what `/status` shows."""
        return self.admin_service.status()

    async def _find(self, request_id: str) -> RequestRecord | None:
        return self.runtime.meter.find(request_id)


async def serve(settings: Settings, config: SidecarConfig, arguments: Sequence[str], stopping: asyncio.Event) -> int:
    """Run until asked to stop; return the exit code. `arguments` are the command line, for workers."""
    sidecar: Sidecar | Supervisor
    try:
        sidecar = Supervisor(settings, config, arguments) if settings.workers > 1 else Sidecar(settings, config)
    except OSError as error:
        log.error("%s", error)
        return exit_codes.ERROR
    try:
        await sidecar.start()
        if settings.exporter:
            log.info("watching %s, metrics on port %d; no proxy", settings.upstream, sidecar.admin_port)
        else:
            log.info("metering %s on port %d, metrics on port %d", settings.upstream, sidecar.port, sidecar.admin_port)
        await stopping.wait()
        log.info("draining")
        await sidecar.drain()
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        log.error("%s%s", error, "; choose another with --listen or --admin-listen" if taken else "")
        return exit_codes.ERROR
    finally:
        await sidecar.stop()
    return exit_codes.OK


def main(arguments: Sequence[str] | None = None, program: str = "llmendpoint_sidecar") -> int:
    """Run the sidecar. Returns 0 after a drain, 1 if it could not run, 2 for a wrong setting or configuration file.

    `arguments` None is the command line of the process; `program` is the name in messages.
    """
    settings = parse_settings(arguments, program)
    configure_logs(settings.log_level)
    try:
        config = read_config(settings.config) if settings.config else SidecarConfig()
    except ConfigError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return exit_codes.USAGE
    tune_garbage_collector()
    given = sys.argv[1:] if arguments is None else arguments
    return lifecycle.run(lambda stopping: serve(settings, config, given, stopping))
