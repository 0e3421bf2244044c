"""The side door of one sidecar, however many processes carry its traffic: models, metrics, status, probes."""

from __future__ import annotations

import functools
import socket
import time
from collections.abc import Awaitable, Callable

from llmendpoint_common.contracts.sidecar import RequestRecord, SidecarConfig, SidecarStatus, Totals
from llmendpoint_common.process.version import VERSION
from llmendpoint_sidecar.admin.gauges import Gauges
from llmendpoint_sidecar.admin.server import admin_server
from llmendpoint_sidecar.agent.model_agent import ModelAgent
from llmendpoint_sidecar.config import watch_config
from llmendpoint_sidecar.proxy.service import Job
from llmendpoint_sidecar.runtime import Runtime
from llmendpoint_sidecar.settings import Settings

_GOOD = frozenset({"ok", "length", "load", "unload"})


class AdminService:
    """Serves what a runtime knows, and brings the models that are declared.

    `refresh` is awaited before numbers are shown, `find` looks up a request's record.
    """

    def __init__(
        self,
        settings: Settings,
        runtime: Runtime,
        config: SidecarConfig,
        refresh: Callable[[], Awaitable[None]],
        find: Callable[[str], Awaitable[RequestRecord | None]],
    ) -> None:
        self._settings = settings
        self._runtime = runtime
        self.draining = False
        self.agent = ModelAgent(runtime.ollama, runtime.watch, time.monotonic)
        self.agent.configure(config)
        runtime.metrics.registry.register(Gauges(runtime.meter, runtime.watch, self.agent))
        self._server = admin_server(runtime.metrics, self.status, find, refresh)

    async def start(self, sockets: list[socket.socket]) -> list[Job]:
        """Serve; return what is to run beside it."""
        await self._server.start(sockets)
        jobs: list[Job] = [self._runtime.watch.run, self.agent.run]
        if self._settings.config is not None:
            jobs.append(functools.partial(watch_config, self._settings.config, self.agent.configure))
        return jobs

    async def stop(self) -> None:
        """Stop serving."""
        await self._server.stop()
        await self._runtime.ollama.close()

    def status(self) -> SidecarStatus:
        """Return what `/status` shows."""
        runtime = self._runtime
        outcomes = runtime.metrics.totals_by("requests", "outcome")
        return SidecarStatus(
            version=VERSION,
            ready=runtime.watch.up and self.agent.ready and not self.draining,
            draining=self.draining,
            upstream_up=runtime.watch.up,
            upstream_version=runtime.watch.version,
            models=self.agent.statuses(),
            totals=Totals(
                requests=sum(outcomes.values()),
                errors=sum(count for outcome, count in outcomes.items() if outcome not in _GOOD),
                prompt_tokens=runtime.metrics.total("prompt_tokens"),
                generation_tokens=runtime.metrics.total("generation_tokens"),
                running=sum(runtime.meter.in_flight.running().values()),
                waiting=sum(runtime.meter.in_flight.waiting().values()),
            ),
        )
