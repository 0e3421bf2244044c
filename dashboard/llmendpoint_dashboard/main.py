"""The process of the dashboard. It creates the parts, runs them, and stops them."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import aiohttp

from llmendpoint_common.diagnosis.gather import gather
from llmendpoint_common.process import exit_codes, lifecycle
from llmendpoint_common.process.errors import InputError, LLMEndpointError
from llmendpoint_common.process.logs import configure_logs
from llmendpoint_common.process.reasons import reason_of
from llmendpoint_common.process.sockets import are_loopback, bind_sockets, names_of, port_of
from llmendpoint_common.process.version import VERSION
from llmendpoint_dashboard.contract import About, Mode
from llmendpoint_dashboard.loadtests.catalog import Catalog
from llmendpoint_dashboard.loadtests.starter import Starter
from llmendpoint_dashboard.server.api import Api
from llmendpoint_dashboard.server.app import Server, hosts_of
from llmendpoint_dashboard.server.assets import Assets
from llmendpoint_dashboard.server.auth import authenticator_of
from llmendpoint_dashboard.server.events import Events
from llmendpoint_dashboard.server.guard import Sessions
from llmendpoint_dashboard.settings import Settings, parse_settings
from llmendpoint_dashboard.sources.about import AboutWriter
from llmendpoint_dashboard.sources.cluster_link import ClusterLink
from llmendpoint_dashboard.sources.doctor import MachineDoctor, Observe
from llmendpoint_dashboard.sources.history import Histories
from llmendpoint_dashboard.sources.prometheus import Prometheus
from llmendpoint_dashboard.sources.ring import Ring
from llmendpoint_dashboard.sources.runs import Child, RunsFolder
from llmendpoint_dashboard.sources.sidecars import Sidecars
from llmendpoint_dashboard.state import Hub

log = logging.getLogger(__name__)

Job = Callable[[], Awaitable[None]]


class Dashboard:
    """A dashboard with its sources and its server. Raises APIKeyError if the file with the token cannot be used.

    `observe` returns the facts about this machine from which the findings are derived.
    """

    def __init__(self, settings: Settings, observe: Observe = gather) -> None:
        self.settings = settings
        self.hub = Hub()
        self.about = AboutWriter(self.hub, _about(settings))
        self.ring = Ring()
        self.sidecars = Sidecars(self.hub, self.about, self.ring)
        self.sidecars.configure(settings.sidecars)
        self.starter: Starter | None = None
        self.runs: RunsFolder | None = None
        if settings.runs is not None:
            self.runs = RunsFolder(self.hub, settings.runs, self._child)
            if settings.can_start_load_tests:
                self.starter = Starter(settings, settings.runs, self.runs.look)
        self._jobs: list[Job] = [self.hub.run, self.sidecars.run, *([self.runs.run] if self.runs else [])]
        self._cluster: ClusterLink | None = None
        if settings.cluster is None:
            self._jobs.append(MachineDoctor(self.hub, settings, observe).run)
        else:
            self._cluster = ClusterLink(settings.cluster, self.hub, self.about, self.sidecars)
            self._jobs.append(self._cluster.run)
        prometheus = None
        if settings.prometheus is not None:
            namespaces = settings.cluster.namespaces if settings.cluster is not None else ()
            prometheus = Prometheus(settings.prometheus, namespaces)
        sessions = Sessions()
        catalog = Catalog(self.hub, settings, self.runs, self.starter, self._cluster_summary)
        self._api = Api(catalog, Histories(self.ring, prometheus, self.about), settings.load_limits, sessions)
        routes = [*self._api.routes(), *Events(self.hub).routes(), *Assets().routes()]
        self._server = Server(routes, hosts_of(settings), authenticator_of(settings.auth), self._is_ready)
        self._tasks: list[asyncio.Task[None]] = []
        self.sockets: list[socket.socket] = []
        self.port = 0

    async def start(self) -> None:
        """Listen, and start the sources. Raises OSError if the port is in use."""
        self.sockets = bind_sockets(self.settings.listen)
        self.port = port_of(self.sockets)
        self._api.http = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
        await self._server.start(self.sockets)
        self._tasks = [asyncio.create_task(_kept(job)) for job in self._jobs]

    async def stop(self) -> None:
        """Close the connections of browsers, interrupt a load test that was started here, and stop."""
        self.hub.close()
        if self.starter is not None:
            await self.starter.close()
        await self._server.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._api.http is not None:
            await self._api.http.close()
            self._api.http = None

    def _child(self, key: str) -> Child | None:
        return None if self.starter is None else self.starter.child(key)

    def _cluster_summary(self, key: str) -> Any:
        return None if self._cluster is None else self._cluster.summary(key)

    def _is_ready(self) -> bool:
        is_running = bool(self._tasks) and not any(task.done() for task in self._tasks)
        return is_running and (self._cluster is None or self._cluster.is_ready)


async def _kept(job: Job) -> None:
    """Run a job until it is cancelled. An unexpected failure is logged, and the job runs again."""
    while True:
        try:
            await job()
        except Exception:
            log.exception("a part of the dashboard failed; it is started again")
        await asyncio.sleep(1.0)


def _about(settings: Settings) -> About:
    return About(
        version=VERSION,
        mode=Mode.MACHINE if settings.cluster is None else Mode.CLUSTER,
        prometheus=settings.prometheus is not None,
        can_start_load_tests=settings.can_start_load_tests,
        has_load_key=settings.can_start_load_tests and settings.load_api_key_file is not None,
    )


async def serve(settings: Settings, stopping: asyncio.Event, observe: Observe = gather) -> int:
    """Serve until `stopping` is set, and return the exit code."""
    try:
        dashboard = Dashboard(settings, observe)
    except InputError as error:
        log.error("%s", error)
        return error.exit_code
    try:
        await dashboard.start()
        log.info("dashboard on http://%s", names_of(dashboard.sockets))
        if not are_loopback(dashboard.sockets) and settings.allow_unauthenticated:
            log.warning("everyone who can reach %s can use the dashboard", names_of(dashboard.sockets))
        await stopping.wait()
        log.info("stopping")
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        log.error("%s%s", reason_of(error), "; choose another address with --listen" if taken else "")
        return exit_codes.ERROR
    except LLMEndpointError as error:
        log.error("%s", error)
        return error.exit_code
    finally:
        with contextlib.suppress(asyncio.CancelledError):
            await dashboard.stop()
    return exit_codes.OK


def main(
    arguments: Sequence[str] | None = None, program: str = "llmendpoint_dashboard", observe: Observe = gather
) -> int:
    """Run the dashboard. Returns 0 after a signal, 1 if it failed, and 2 for an invalid setting.

    If `arguments` is None, the command line of the process is used. `program` is the name in messages. `observe`
    returns the facts about this machine from which the findings are derived.
    """
    settings = parse_settings(arguments, program)
    configure_logs(settings.log_level)
    return lifecycle.run(lambda stopping: serve(settings, stopping, observe))


if __name__ == "__main__":
    sys.exit(main())
