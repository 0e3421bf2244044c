"""The sidecar process: put together, run, drain."""

from __future__ import annotations

import asyncio
import errno
import functools
import gc
import logging
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, TypeAlias

from llmendpoint_process import lifecycle, listeners
from llmendpoint_process.logs import configure_logs
from llmendpoint_sidecar.admin.access import AccessLog
from llmendpoint_sidecar.admin.gauges import Gauges
from llmendpoint_sidecar.admin.server import admin_server
from llmendpoint_sidecar.admin.version import VERSION
from llmendpoint_sidecar.agent.config import ConfigError, read_config, watch_config
from llmendpoint_sidecar.agent.models import ModelAgent
from llmendpoint_sidecar.agent.ollama import Ollama
from llmendpoint_sidecar.agent.watch import UpstreamWatch
from llmendpoint_sidecar.contract import SidecarConfig, SidecarStatus, Totals
from llmendpoint_sidecar.meter.meter import Meter
from llmendpoint_sidecar.meter.metrics import Metrics
from llmendpoint_sidecar.meter.models import ModelDirectory
from llmendpoint_sidecar.proxy.admission import Admission
from llmendpoint_sidecar.proxy.exchange import Timeouts
from llmendpoint_sidecar.proxy.listener import Proxy
from llmendpoint_sidecar.proxy.tenants import Keyring
from llmendpoint_sidecar.proxy.tls import Certificate
from llmendpoint_sidecar.settings import Settings, parse_settings

if TYPE_CHECKING:
    from llmendpoint_sidecar.admin.telemetry import Telemetry

log = logging.getLogger(__name__)

_WATCH_SECONDS = 2.0
Job: TypeAlias = Callable[[], Coroutine[None, None, None]]
_GOOD = frozenset({"ok", "length", "load", "unload"})


class Sidecar:
    """All parts of one process. Everything that has state is made here and nowhere else."""

    def __init__(self, settings: Settings, config: SidecarConfig) -> None:
        self.settings = settings
        self._metrics = Metrics()
        directory = ModelDirectory(lambda: self._metrics.count("series_overflow", ()))
        self._meter = Meter(self._metrics, directory, time.monotonic, settings.parallel)
        self._ollama = Ollama(f"http://{settings.upstream}")
        self._watch = UpstreamWatch(self._ollama, directory, _WATCH_SECONDS)
        self._agent = ModelAgent(self._ollama, self._watch, time.monotonic)
        self._keyring = Keyring(settings.keys)
        self._admission = Admission(self._meter, self._keyring, time.monotonic, settings.parallel)
        self.configure(config)
        timeouts = Timeouts(settings.connect_timeout, settings.first_byte_timeout, settings.idle_timeout)
        self._proxy = Proxy(settings.upstream, timeouts, self._meter.begin, self._admission, time.monotonic)
        self._metrics.registry.register(Gauges(self._meter, self._watch, self._agent))
        self._admin = admin_server(self._metrics, self.status, self._meter.find)
        self._telemetry = telemetry(settings.otlp_endpoint) if settings.otlp_endpoint else None
        if self._telemetry is not None:
            self._meter.journal.listeners.append(self._telemetry.take)
        self._tasks: list[asyncio.Task[None]] = []
        self.port = self.admin_port = 0

    async def start(self) -> None:
        """Listen and begin to look after the models; OSError where a port is taken."""
        settings = self.settings
        jobs: list[Job] = [self._watch.run, self._agent.run, self._meter.run]
        admin_sockets = listeners.bind(settings.admin_listen)
        self.admin_port = listeners.port_of(admin_sockets)
        try:
            if not settings.exporter:
                jobs += await self._start_proxy()
        except OSError:
            for sock in admin_sockets:
                sock.close()
            raise
        await self._admin.start(admin_sockets)
        if settings.config is not None:
            jobs.append(functools.partial(watch_config, settings.config, self.configure))
        if settings.access_log:
            access = AccessLog()
            self._meter.journal.listeners.append(access.take)
            jobs.append(access.run)
        self._tasks = [asyncio.create_task(job()) for job in jobs]

    async def _start_proxy(self) -> list[Job]:
        """Listen for clients; return what is to run beside it."""
        settings = self.settings
        jobs: list[Job] = []
        tls = None
        if settings.tls_cert is not None and settings.tls_key is not None:
            certificate = Certificate(settings.tls_cert, settings.tls_key)
            tls = certificate.context
            jobs.append(certificate.watch)
        if settings.keys:
            jobs.append(self._keyring.watch)
        sockets = listeners.bind(settings.listen)
        self.port = listeners.port_of(sockets)
        await self._proxy.start(sockets, tls)
        return jobs

    def configure(self, config: SidecarConfig) -> None:
        """Take a new configuration."""
        self._agent.configure(config)
        self._admission.configure(config)

    async def drain(self) -> None:
        """Turn unready, serve on for a moment, let streams finish."""
        cut = await self._proxy.drain(self.settings.drain_delay, self.settings.drain_timeout)
        if cut:
            log.warning("%d streams were cut at the end of the drain", cut)

    async def stop(self) -> None:
        """Stop at once."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._proxy.close()
        await self._admin.stop()
        await self._ollama.close()
        if self._telemetry is not None:
            await asyncio.to_thread(self._telemetry.close)

    def status(self) -> SidecarStatus:
        """Return what `/status` shows."""
        outcomes = self._metrics.totals_by("requests", "outcome")
        draining = self._proxy.draining
        return SidecarStatus(
            version=VERSION,
            ready=self._watch.up and self._agent.ready and not draining,
            draining=draining,
            upstream_up=self._watch.up,
            upstream_version=self._watch.version,
            models=self._agent.statuses(),
            totals=Totals(
                requests=sum(outcomes.values()),
                errors=sum(count for outcome, count in outcomes.items() if outcome not in _GOOD),
                prompt_tokens=self._metrics.total("prompt_tokens"),
                generation_tokens=self._metrics.total("generation_tokens"),
                running=sum(self._meter.running().values()),
                waiting=sum(self._meter.waiting().values()),
            ),
        )


def telemetry(endpoint: str) -> Telemetry:
    """Return the OTLP export; OSError where its libraries, which are an extra, are not here."""
    try:
        from llmendpoint_sidecar.admin.telemetry import Telemetry  # noqa: PLC0415
    except ImportError:
        raise OSError("--otlp-endpoint needs more libraries: pip install 'llmendpoint[otlp]'") from None
    return Telemetry(endpoint)


async def serve(settings: Settings, config: SidecarConfig, stopping: asyncio.Event) -> int:
    """Run until asked to stop; return the exit code."""
    try:
        sidecar = Sidecar(settings, config)
    except OSError as error:
        log.error("%s", error)
        return 1
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
        return 1
    finally:
        await sidecar.stop()
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sidecar; the exit code is 0 after a drain, 1 where it could not run, 2 for a wrong setting."""
    settings = parse_settings(arguments)
    configure_logs(settings.log_level)
    try:
        config = read_config(settings.config) if settings.config else SidecarConfig()
    except ConfigError as error:
        print(f"llmendpoint_sidecar: {error}", file=sys.stderr)
        return 2
    # What is loaded now stays, and the data path makes few cycles: collecting after every 700 objects is waste.
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)
    return lifecycle.run(lambda stopping: serve(settings, config, stopping))
