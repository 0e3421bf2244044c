"""The operator process. Watches keep the inventory up to date, and a work queue reconciles changed resources.

Leader election decides about which namespaces this process writes. The process ends with 1 if its watches are dead, or
if one of its parts fails. When it ends, it stops its reconciles first and then gives its Leases back.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config import ConfigException

from llmendpoint_common.process import exit_codes, lifecycle
from llmendpoint_common.process.errors import LLMEndpointError
from llmendpoint_common.process.logs import configure_logs
from llmendpoint_common.process.sockets import bind_sockets
from llmendpoint_operator.admin.metrics import OperatorMetrics, Parts
from llmendpoint_operator.admin.probes import Health
from llmendpoint_operator.admin.resources import ResourceSeries
from llmendpoint_operator.admin.server import admin_server
from llmendpoint_operator.cluster.client import ApiServer, load_configuration
from llmendpoint_operator.cluster.discovery import Discovery
from llmendpoint_operator.cluster.events import emit
from llmendpoint_operator.cluster.faults import describe
from llmendpoint_operator.cluster.inventory import Inventory
from llmendpoint_operator.cluster.keys import Key
from llmendpoint_operator.cluster.objects import Objects
from llmendpoint_operator.cluster.pod_status import PodStatuses
from llmendpoint_operator.endpoint.controller import EndpointController
from llmendpoint_operator.leadership.lease import Leadership, candidates
from llmendpoint_operator.leadership.report import Reporter
from llmendpoint_operator.loadtest.controller import LoadTestController
from llmendpoint_operator.reconcile.controller import Cluster, Controller
from llmendpoint_operator.reconcile.measurements import Measurements
from llmendpoint_operator.reconcile.workqueue import WorkQueue
from llmendpoint_operator.schedule.controller import ScheduleController
from llmendpoint_operator.settings import Settings, parse_settings
from llmendpoint_operator.watching.canary import UNHEALTHY_SECONDS
from llmendpoint_operator.watching.watches import Access, Watches

log = logging.getLogger(__name__)

#: Loggers of kopf that log every object, or signals, which the operator handles itself.
_NOISY = {
    "kopf.objects": logging.WARNING,
    "kopf.activities": logging.WARNING,
    "kopf._core.engines.activities": logging.WARNING,
    # The operator reports with its own words why kopf ended.
    "kopf._core.reactor.running": logging.CRITICAL,
    "kopf._core.reactor.orchestration": logging.CRITICAL,
    "kopf._core.reactor.observation": logging.CRITICAL,
    "kopf._cogs.clients.watching": logging.CRITICAL,
}
# Time for each step of the end. Kubernetes kills the process after 30 s.
_STEP_SECONDS = 4.0
_END_SECONDS = 9.0


class Operator:
    """Creates the components of the operator and connects them."""

    def __init__(self, settings: Settings, configuration: Configuration) -> None:
        self._server = server = ApiServer(configuration)
        # Renewals of the Lease must not wait for a connection while hundreds of resources are reconciled.
        self._lease_server = ApiServer(configuration)
        self._settings = settings
        self._pods = PodStatuses()
        self._inventory, discovery = Inventory(), Discovery()
        self._stopping = False
        #: The namespaces with resources that this process served at the last change.
        self._served: frozenset[str] = frozenset()
        self._reports: set[asyncio.Task[None]] = set()
        process = settings.process
        who = candidates(settings.own_namespace, process.installation, process.pod, settings.namespaces)
        self.leadership = Leadership(
            self._lease_server, who if process.leader_election else (), _now, self._leadership_changed
        )
        self._reporter = Reporter(self.leadership, self._warn_about_pod)
        self.queue = WorkQueue(self._reconcile, lambda key: self.leadership.may_write(key.namespace))
        objects, measurements = Objects(server, self.leadership.may_write), Measurements(self.queue.mark)
        cluster = Cluster(objects, self._inventory, discovery, self._pods, _now, measurements, self.queue.mark)
        endpoints = EndpointController(cluster, settings.children, settings.policy)
        loadtests = LoadTestController(cluster, settings.children, settings.own_namespace, settings.policy)
        schedules = ScheduleController(cluster, settings.policy)
        self._controllers: dict[str, Controller[Any]] = {item.kind: item for item in (endpoints, loadtests, schedules)}
        access = Access(server, discovery)
        self.watches = Watches(self._inventory, access, self.queue.mark, settings.namespaces, self.leadership.on_lease)
        self.leadership.sent = self.watches.canary.sent
        parts = Parts(self.queue, (server, self._lease_server), self.leadership, self.watches)
        series = ResourceSeries(self._inventory, self.leadership.may_write)
        self.admin = admin_server(OperatorMetrics(parts), series.render, self.health)

    def health(self) -> Health:
        """Return the state for the probes."""
        times = (server.silent_since for server in (self._server, self._lease_server))
        silent = min((since for since in times if since is not None), default=None)
        return Health(
            canary_seconds=self.watches.canary.overdue(),
            canary_limit=UNHEALTHY_SECONDS,
            listed=self.watches.listed,
            stopping=self._stopping,
            silent_seconds=time.monotonic() - silent if silent is not None else 0.0,
            problems=self.watches.problems(),
            standings=self.leadership.standings(),
        )

    async def run(self, stopping: asyncio.Event) -> int:
        """Work until `stopping` is set or a part fails. Return the exit code."""
        if not self.leadership.is_elected:
            log.warning(
                "leader election is off: make sure that no other operator serves the same namespaces, or start all of "
                "them with --leader-election"
            )
        enough = asyncio.Event()
        watching = asyncio.create_task(self.watches.run(enough))
        electing = asyncio.create_task(self.leadership.run(enough))
        stop = asyncio.create_task(stopping.wait())
        await asyncio.wait([stop, watching, electing], return_when=asyncio.FIRST_COMPLETED)
        code = exit_codes.OK if stop.done() else _failure(watching, electing)
        self._stopping = True
        _end_within(_END_SECONDS, code)
        stop.cancel()
        # The Leases are given back when nothing is written any more.
        await _at_most(self.queue.close())
        enough.set()
        await _at_most(electing)
        await _at_most(watching)
        return code

    async def close(self) -> None:
        """Close all connections."""
        for report in self._reports:
            report.cancel()
        await self._pods.close()
        await self.admin.stop()
        await self._lease_server.close()
        await self._server.close()

    async def _reconcile(self, key: Key) -> float | None:
        return await self._controllers[key.kind].reconcile(key)

    def _leadership_changed(self) -> None:
        self.queue.recheck()
        keys = self._inventory.resources()
        served = frozenset(name for name in {key.namespace for key in keys} if self.leadership.may_write(name))
        for key in keys:
            if key.namespace in served - self._served:
                self.queue.mark(key)
        self._served = served
        self._reporter.report()

    def _warn_about_pod(self, message: str) -> None:
        """Write an Event about this operator's pod. The right to write other objects is not needed for it."""
        process = self._settings.process
        if not process.pod_uid:
            return
        metadata = {"name": process.pod, "namespace": self._settings.own_namespace, "uid": process.pod_uid}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}
        report = asyncio.create_task(
            emit(Objects(self._lease_server), pod, "StandingBack", message, _now(), warning=True)
        )
        self._reports.add(report)
        report.add_done_callback(self._reports.discard)


async def serve(settings: Settings, stopping: asyncio.Event) -> int:
    """Run until `stopping` is set; return the exit code."""
    try:
        configuration = await load_configuration()
    except ConfigException as error:
        log.error("%s; set KUBECONFIG, or run the operator in a pod with a ServiceAccount", error)
        return exit_codes.ERROR
    operator = Operator(settings, configuration)
    try:
        await operator.admin.start(bind_sockets(settings.health_listen))
    except OSError as error:
        log.error("%s; choose another address with --health-listen", error)
        await operator.close()
        return exit_codes.ERROR
    try:
        return await operator.run(stopping)
    finally:
        await operator.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the operator and return its exit code."""
    settings = parse_settings(arguments)
    # Without POD_ID, kopf looks up the name of the user, and the numeric user of a container does not have one.
    os.environ.setdefault("POD_ID", socket.gethostname())
    configure_logs(settings.log_level)
    for name, level in _NOISY.items():
        logging.getLogger(name).setLevel(max(level, logging.getLogger().level))
    return lifecycle.run(lambda stopping: serve(settings, stopping))


def _failure(*tasks: asyncio.Task[None]) -> int:
    """Report why a part of the operator has ended, and return the exit code."""
    for task in tasks:
        error = task.exception() if task.done() else None
        if isinstance(error, LLMEndpointError):
            log.critical("%s", error)
        elif error is not None:
            log.critical("the operator ends because of an internal error: %s", error, exc_info=error)
    return exit_codes.ERROR


async def _at_most(work: Any) -> None:
    """Wait for some work, but not longer than a step of the end may take."""
    try:
        async with asyncio.timeout(_STEP_SECONDS):
            await work
    except Exception as error:
        log.debug("while the operator ended: %s", describe(error))


def _end_within(seconds: float, code: int) -> None:
    """End the process after some seconds, whatever hangs: a thread of kopf, or a connection."""
    timer = threading.Timer(seconds, os._exit, [code])
    timer.daemon = True
    timer.start()


def _now() -> datetime:
    return datetime.now(UTC)
