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
from llmendpoint_sidecar.agent.config import watch_config
from llmendpoint_sidecar.agent.models import ModelAgent
from llmendpoint_sidecar.core import Core
from llmendpoint_sidecar.datapath import Job
from llmendpoint_sidecar.settings import Settings

_GOOD = frozenset({"ok", "length", "load", "unload"})


class SideDoor:
    """Serves what a core knows, and brings the models that are declared.

    `refresh` is awaited before numbers are shown, `find` looks up a request's record.
    """

    def __init__(
        self,
        settings: Settings,
        core: Core,
        config: SidecarConfig,
        refresh: Callable[[], Awaitable[None]],
        find: Callable[[str], Awaitable[RequestRecord | None]],
    ) -> None:
        self._settings = settings
        self._core = core
        self.draining = False
        self.agent = ModelAgent(core.ollama, core.watch, time.monotonic)
        self.agent.configure(config)
        core.metrics.registry.register(Gauges(core.meter, core.watch, self.agent))
        self._server = admin_server(core.metrics, self.status, find, refresh)

    async def start(self, sockets: list[socket.socket]) -> list[Job]:
        """Serve; return what is to run beside it."""
        await self._server.start(sockets)
        jobs: list[Job] = [self._core.watch.run, self.agent.run]
        if self._settings.config is not None:
            jobs.append(functools.partial(watch_config, self._settings.config, self.agent.configure))
        return jobs

    async def stop(self) -> None:
        """Stop serving."""
        await self._server.stop()
        await self._core.ollama.close()

    def status(self) -> SidecarStatus:
        """Return what `/status` shows."""
        core = self._core
        outcomes = core.metrics.totals_by("requests", "outcome")
        return SidecarStatus(
            version=VERSION,
            ready=core.watch.up and self.agent.ready and not self.draining,
            draining=self.draining,
            upstream_up=core.watch.up,
            upstream_version=core.watch.version,
            models=self.agent.statuses(),
            totals=Totals(
                requests=sum(outcomes.values()),
                errors=sum(count for outcome, count in outcomes.items() if outcome not in _GOOD),
                prompt_tokens=core.metrics.total("prompt_tokens"),
                generation_tokens=core.metrics.total("generation_tokens"),
                running=sum(core.meter.running().values()),
                waiting=sum(core.meter.waiting().values()),
            ),
        )
