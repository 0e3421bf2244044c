"""The operator process. Watches keep the inventory up to date, and a work queue reconciles changed resources."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from kubernetes.aio.config import ConfigException

from llmendpoint_common.process import exit_codes, lifecycle
from llmendpoint_common.process.logs import configure_logs
from llmendpoint_common.process.sockets import bind_sockets
from llmendpoint_operator.cluster.client import ApiServer, load_configuration
from llmendpoint_operator.cluster.discovery import Discovery
from llmendpoint_operator.cluster.inventory import Inventory
from llmendpoint_operator.cluster.keys import Key
from llmendpoint_operator.cluster.objects import Objects
from llmendpoint_operator.cluster.pod_status import PodStatuses
from llmendpoint_operator.endpoint.controller import EndpointController
from llmendpoint_operator.health import health_server
from llmendpoint_operator.loadtest.controller import LoadTestController
from llmendpoint_operator.reconcile.controller import Cluster, Controller
from llmendpoint_operator.reconcile.workqueue import WorkQueue
from llmendpoint_operator.settings import Settings, parse_settings
from llmendpoint_operator.watching.watches import Access, Watches, WatchesError

log = logging.getLogger(__name__)

#: Loggers of kopf that log every object, or signals, which the operator handles itself.
_NOISY = {
    "kopf.objects": logging.WARNING,
    "kopf.activities": logging.WARNING,
    "kopf._core.engines.activities": logging.WARNING,
    # The operator reports with its own words why kopf ended.
    "kopf._core.reactor.running": logging.CRITICAL,
    "kopf._core.reactor.orchestration": logging.CRITICAL,
}


class Operator:
    """Creates the components of the operator and connects them."""

    def __init__(self, settings: Settings, server: ApiServer) -> None:
        self._pods = PodStatuses()
        inventory, discovery = Inventory(), Discovery()
        cluster = Cluster(Objects(server), inventory, discovery, self._pods, _now)
        endpoints = EndpointController(cluster, settings.images, settings.policy)
        loadtests = LoadTestController(cluster, settings.images, settings.own_namespace, settings.policy)
        self._controllers: dict[str, Controller[Any]] = {item.kind: item for item in (endpoints, loadtests)}
        self.queue = WorkQueue(self._reconcile)
        access = Access(server, discovery)
        self.watches = Watches(inventory, access, self.queue.mark, settings.namespaces, lambda *_: None)

    async def close(self) -> None:
        """Stop the work queue and close the connections to pods."""
        await self.queue.close()
        await self._pods.close()

    async def _reconcile(self, key: Key) -> float | None:
        return await self._controllers[key.kind].reconcile(key)


async def serve(settings: Settings, stopping: asyncio.Event) -> int:
    """Run until `stopping` is set; return the exit code."""
    try:
        server = ApiServer(await load_configuration())
    except ConfigException as error:
        log.error("%s; set KUBECONFIG, or run the operator in a pod with a ServiceAccount", error)
        return exit_codes.ERROR
    operator = Operator(settings, server)
    health = health_server(operator.queue)
    try:
        await health.start(bind_sockets(settings.health_listen))
    except OSError as error:
        log.error("%s; choose another address with --health-listen", error)
        await server.close()
        return exit_codes.ERROR
    try:
        await operator.watches.run(stopping)
    except WatchesError as error:
        log.critical("%s", error)
        return exit_codes.ERROR
    finally:
        await operator.close()
        await health.stop()
        await server.close()
    return exit_codes.OK


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the operator and return its exit code."""
    settings = parse_settings(arguments)
    # Without POD_ID, kopf looks up the name of the user, and the numeric user of a container does not have one.
    os.environ.setdefault("POD_ID", socket.gethostname())
    configure_logs(settings.log_level)
    for name, level in _NOISY.items():
        logging.getLogger(name).setLevel(max(level, logging.getLogger().level))
    return lifecycle.run(lambda stopping: serve(settings, stopping))


def _now() -> datetime:
    return datetime.now(UTC)
