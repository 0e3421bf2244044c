"""The operator process: kopf watches, the queue reconciles.

Only kopf's event handlers are used: its change handlers, timers and daemons write annotations and finalizers into
users' objects, which would break deletion while the operator is down, and silence when idle.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import kopf
from kopf._core.engines.peering import Identity
from lightkube import AsyncClient

from llmendpoint_common.contracts.cluster import (
    ENDPOINT_LABEL,
    FIELD_MANAGER,
    GROUP,
    LOADTEST_LABEL,
    MANAGED_BY,
    MANAGED_BY_LABEL,
    VERSION,
)
from llmendpoint_common.process import exit_codes, lifecycle
from llmendpoint_common.process.logs import configure_logs
from llmendpoint_common.process.sockets import bind_sockets
from llmendpoint_operator.cluster.objects import Objects
from llmendpoint_operator.cluster.pod_status import PodStatuses
from llmendpoint_operator.endpoint.controller import EndpointController
from llmendpoint_operator.health import health_server
from llmendpoint_operator.loadtest.controller import LoadTestController
from llmendpoint_operator.reconcile.workqueue import Key, WorkQueue
from llmendpoint_operator.settings import Settings, parse_settings

log = logging.getLogger(__name__)

_OWNERS = {ENDPOINT_LABEL: "LLMEndpoint", LOADTEST_LABEL: "LoadTest"}
_CHILDREN = (
    ("", "v1", "configmaps"),
    ("", "v1", "pods"),
    ("", "v1", "services"),
    ("", "v1", "serviceaccounts"),
    ("apps", "v1", "statefulsets"),
    ("batch", "v1", "jobs"),
    ("rbac.authorization.k8s.io", "v1", "roles"),
    ("rbac.authorization.k8s.io", "v1", "rolebindings"),
    ("monitoring.coreos.com", "v1", "servicemonitors"),
)


class Operator:
    """The parts of one operator."""

    def __init__(self, settings: Settings, client: AsyncClient) -> None:
        self._objects = Objects(client)
        self._pods = PodStatuses()
        self._endpoints = EndpointController(self._objects, self._pods, settings.images, _now)
        self._loadtests = LoadTestController(self._objects, self._pods, settings.images, settings.own_namespace, _now)
        self.queue = WorkQueue(self._reconcile)

    async def close(self) -> None:
        """Stop all work."""
        await self.queue.close()
        await self._pods.close()

    async def _reconcile(self, key: Key) -> float | None:
        controller = self._endpoints if key.kind == "LLMEndpoint" else self._loadtests
        return await controller.reconcile(key)

    def owner_changed(self, body: dict[str, Any]) -> None:
        """One of our resources was changed, or shown for the first time."""
        if not self._objects.is_echo(body):
            self.queue.mark(Key(body["kind"], body["metadata"]["namespace"], body["metadata"]["name"]))

    def child_changed(self, body: dict[str, Any], kind: str | None) -> None:
        """A child was changed or deleted: unless it is as we left it, its owner is dirty."""
        metadata = body["metadata"]
        if kind == "DELETED":
            self._objects.forget(metadata["uid"])
        elif self._objects.is_echo(body):
            return
        for label, owner in _OWNERS.items():
            name = (metadata.get("labels") or {}).get(label)
            if name:
                self.queue.mark(Key(owner, metadata["namespace"], name))


def registry_for(operator: Operator) -> kopf.OperatorRegistry:
    """Return kopf's handlers: one line each."""
    registry = kopf.OperatorRegistry()

    @kopf.on.startup(registry=registry)
    def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
        settings.posting.enabled = False
        settings.scanning.disabled = True
        for _group, _version, plural in _CHILDREN:
            settings.watching.label_selectors[plural] = f"{MANAGED_BY_LABEL}={MANAGED_BY}"

    @kopf.on.login(registry=registry)
    def login(**kwargs: Any) -> Any:
        return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)

    for plural in ("llmendpoints", "loadtests"):

        @kopf.on.event(GROUP, VERSION, plural, registry=registry, id=plural)
        async def owner_changed(body: kopf.Body, **_: Any) -> None:
            operator.owner_changed(dict(body))

    for group, version, plural in _CHILDREN:

        @kopf.on.event(
            group, version, plural, registry=registry, id=f"child-{plural}", labels={MANAGED_BY_LABEL: MANAGED_BY}
        )
        async def child_changed(body: kopf.Body, type: str | None, **_: Any) -> None:  # noqa: A002 - kopf's name
            operator.child_changed(dict(body), type)

    return registry


async def serve(settings: Settings, stopping: asyncio.Event) -> int:
    """Run until asked to stop; return the exit code."""
    client = AsyncClient()
    operator = Operator(settings, client)
    health = health_server(operator.queue)
    try:
        await health.start(bind_sockets(settings.health_listen))
    except OSError as error:
        log.error("%s; choose another with --health-listen", error)
        return exit_codes.ERROR
    try:
        await kopf.operator(
            registry=registry_for(operator),
            standalone=True,
            # Kopf would ask for the user's name, which a pod's id does not have; it matters for peering only.
            identity=Identity(FIELD_MANAGER),
            clusterwide=not settings.namespaces,
            namespaces=settings.namespaces,
            stop_flag=stopping,
        )
    finally:
        await operator.close()
        await health.stop()
        await client.close()
    return exit_codes.OK


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the operator."""
    settings = parse_settings(arguments)
    configure_logs(settings.log_level)
    # One line for each event and each request would hide what matters.
    for noisy in ("kopf.objects", "kopf.activities", "httpx2"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLogger().level))
    return lifecycle.run(lambda stopping: serve(settings, stopping))


def _now() -> datetime:
    return datetime.now(UTC)
