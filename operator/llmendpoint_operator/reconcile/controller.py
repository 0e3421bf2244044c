"""Reconciles one resource: get, parse, plan, apply, observe, status. Once for all kinds of resources.

A reconcile is level-based and idempotent: it reads what exists from the inventory, whatever the reason to look was. A
kind of resource supplies what differs: how its spec is parsed, which children it wants, and what its status says.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any, Generic, TypeVar

from kubernetes.aio.client.exceptions import ApiException
from pydantic import ValidationError

from llmendpoint_operator.cluster.discovery import Discovery
from llmendpoint_operator.cluster.events import emit
from llmendpoint_operator.cluster.inventory import Inventory
from llmendpoint_operator.cluster.keys import Key
from llmendpoint_operator.cluster.kinds import children_of
from llmendpoint_operator.cluster.objects import Objects
from llmendpoint_operator.cluster.pod_status import PodStatuses
from llmendpoint_operator.kube.fault import Fault
from llmendpoint_operator.kube.owner import Manifest, Owner, owner_of
from llmendpoint_operator.reconcile.executor import Executor

log = logging.getLogger(__name__)

Spec = TypeVar("Spec")


@dataclass(frozen=True)
class Cluster:
    """The cluster as controllers use it. `now` is the wall clock, for times in statuses and Events."""

    objects: Objects
    inventory: Inventory
    discovery: Discovery
    pods: PodStatuses
    now: Callable[[], datetime]


@dataclass(frozen=True)
class Resource(Generic[Spec]):
    """One of our resources during a reconcile: as it was read, and parsed."""

    key: Key
    manifest: Manifest
    owner: Owner
    spec: Spec

    @property
    def status(self) -> dict[str, Any]:
        """The status as it was read."""
        return self.manifest.get("status") or {}

    @property
    def conditions(self) -> list[dict[str, Any]]:
        """The conditions as they were read."""
        return self.status.get("conditions") or []


@dataclass(frozen=True)
class Course:
    """What a reconcile does with a resource in its present state.

    `children` are the manifests of all children, or None if the children are left alone in this state. `conclude` gets
    the faults of the children that were refused, observes, and writes the status. It returns in how many seconds to
    look again, or None if only an event is a reason to.
    """

    children: Sequence[Manifest] | None
    conclude: Callable[[tuple[Fault, ...]], Awaitable[float | None]]


class Controller(ABC, Generic[Spec]):
    """Reconciles the resources of one kind."""

    kind: str
    #: Whether children that are no longer desired are deleted.
    prunes = True

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._inventory = cluster.inventory
        self._now = cluster.now
        self._executor = Executor(cluster.objects, cluster.inventory, cluster.discovery)
        self._prune = frozenset(kind.name for kind in children_of(self.kind)) if self.prunes else frozenset()

    @abstractmethod
    def parse(self, manifest: Manifest) -> Spec:
        """Return the spec; `pydantic.ValidationError` names the field."""

    @abstractmethod
    def invalid_status(self, manifest: Manifest, sentence: str) -> dict[str, Any]:
        """Return the status of a resource whose spec cannot be used."""

    @abstractmethod
    async def course(self, resource: Resource[Spec]) -> Course:
        """Return what to do with a resource in its present state."""

    def gone(self, key: Key) -> None:
        """Forget a resource that no longer exists."""

    async def reconcile(self, key: Key) -> float | None:
        """Reconcile once. Return in how many seconds to look again, or None if only an event is a reason to."""
        manifest = self._inventory.resource(key)
        if manifest is None or manifest["metadata"].get("deletionTimestamp"):
            self._inventory.accept_all(key)
            self.gone(key)
            return None
        try:
            spec = self.parse(manifest)
        except ValidationError as error:
            await self.write_status(manifest, self.invalid_status(manifest, sentence_of(error)))
            return None
        resource = Resource(key, manifest, owner_of(manifest), spec)
        course = await self.course(resource)
        if course.children is None:
            self._inventory.accept_all(key)
        refused = () if course.children is None else await self.converge(resource, course.children)
        pause = await course.conclude(refused)
        times = (pause, self._inventory.seconds_to_retry(key))
        return min((seconds for seconds in times if seconds is not None), default=None)

    async def converge(self, resource: Resource[Spec], children: Sequence[Manifest]) -> tuple[Fault, ...]:
        """Write what differs from these children and return what was refused."""
        return await self._executor.converge(resource.owner, children, self._prune)

    async def write_status(self, manifest: Manifest, status: dict[str, Any]) -> None:
        """Write the status, if it differs from what was read."""
        if manifest.get("status") == status:
            return
        try:
            written = await self._cluster.objects.apply_status(manifest, status)
        except ApiException as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            self._inventory.gone(manifest["kind"], manifest)
        else:
            self._inventory.wrote_resource(written)

    async def emit(self, resource: Resource[Spec], reason: str, message: str, *, warning: bool = False) -> None:
        """Write an Event about a resource."""
        await emit(self._cluster.objects, resource.manifest, reason, message, self._now(), warning=warning)


def sentence_of(error: ValidationError) -> str:
    """Return the first error of a spec, with the path of its field."""
    first = error.errors()[0]
    return f"spec.{'.'.join(map(str, first['loc']))}: {first['msg']}"
