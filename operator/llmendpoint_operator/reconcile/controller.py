"""The steps of a reconcile that all kinds of resources share: get, parse, plan, apply, observe, and write the status.

A reconcile is level-based and idempotent: it reads the existing objects from the inventory, whichever event caused it.
Each kind of resource supplies the parser of its spec, its desired children, and its status.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from typing import Any, Generic, TypeVar

from kubernetes.aio.client.exceptions import ApiException
from pydantic import ValidationError

from llmendpoint_common.contracts.cluster import EndpointCondition, EndpointReason
from llmendpoint_operator.cluster.discovery import Discovery
from llmendpoint_operator.cluster.events import emit
from llmendpoint_operator.cluster.inventory import Inventory
from llmendpoint_operator.cluster.keys import ChildKey, Key
from llmendpoint_operator.cluster.kinds import children_of
from llmendpoint_operator.cluster.objects import Objects
from llmendpoint_operator.cluster.pod_status import PodStatuses
from llmendpoint_operator.kube.conditions import Condition, merge
from llmendpoint_operator.kube.fault import Fault
from llmendpoint_operator.kube.owner import Manifest, Owner, owner_of
from llmendpoint_operator.policy.document import ALLOW_ALL, Policy
from llmendpoint_operator.policy.rules import Violation, violations
from llmendpoint_operator.reconcile.desired_children import DesiredChildren
from llmendpoint_operator.reconcile.executor import Executor
from llmendpoint_operator.reconcile.measurements import Measurements

log = logging.getLogger(__name__)

Spec = TypeVar("Spec")

# After this time, the status says that a write is slow. The API server waits for a webhook for 10 s by default.
_SLOW_SECONDS = 3.0
#: A condition is cut after 1,024 characters.
_SHOWN_ERRORS = 4
_RECONCILING = EndpointCondition.RECONCILING
_SLOW = (
    "{} is being written, but the API server has not answered for {:g} s. If this lasts, an admission webhook may "
    "hang. Check its configuration (kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations)."
)


@dataclass(frozen=True)
class Cluster:
    """What controllers share: access to the cluster, and the results of load tests.

    `now` is the wall clock, for times in statuses and Events. `mark` marks a resource as dirty.
    """

    objects: Objects
    inventory: Inventory
    discovery: Discovery
    pods: PodStatuses
    now: Callable[[], datetime]
    measurements: Measurements = field(default_factory=Measurements)
    mark: Callable[[Key], None] = lambda _: None


@dataclass(frozen=True)
class Resource(Generic[Spec]):
    """A resource during a reconcile: its manifest from the inventory, and its parsed spec.

    `forbidden` are the values in the spec that the policy does not allow. If there are any, no child is written.
    """

    key: Key
    manifest: Manifest
    owner: Owner
    spec: Spec
    forbidden: tuple[Violation, ...] = ()

    @property
    def status(self) -> dict[str, Any]:
        """The status in the manifest."""
        return self.manifest.get("status") or {}

    @property
    def conditions(self) -> list[dict[str, Any]]:
        """The conditions in the manifest."""
        return self.status.get("conditions") or []


@dataclass(frozen=True)
class Course:
    """The steps of a reconcile that depend on the present state of a resource.

    `initial` has fields of children that are only written when the child is created, and then belong to others.
    `children` are all desired children or their manifests, or None if the children are not changed in this state. If
    `judges` is true then, the step itself has compared them with the inventory.
    `conclude` gets the faults of the refused children, observes the resource, and writes the status. It returns the
    number of seconds until the next reconcile, or None if the next reconcile waits for an event.
    """

    children: DesiredChildren | Sequence[Manifest] | None
    conclude: Callable[[tuple[Fault, ...]], Awaitable[float | None]]
    judges: bool = False
    initial: Mapping[ChildKey, Manifest] = field(default_factory=dict)

    @property
    def desired(self) -> DesiredChildren | None:
        """The desired children, or None if the children are not changed in this state."""
        if self.children is None or isinstance(self.children, DesiredChildren):
            return self.children
        return DesiredChildren.of(self.children)


class Controller(ABC, Generic[Spec]):
    """Reconciles the resources of one kind."""

    kind: str
    #: Whether children that are no longer desired are deleted.
    prunes = True

    def __init__(self, cluster: Cluster, policy: Policy = ALLOW_ALL) -> None:
        self._cluster = cluster
        self._inventory = cluster.inventory
        self._now = cluster.now
        self._policy = policy
        self._executor = Executor(cluster.objects, cluster.inventory, cluster.discovery)
        self._prune = frozenset(kind.name for kind in children_of(self.kind)) if self.prunes else frozenset()

    @abstractmethod
    def parse(self, manifest: Manifest) -> Spec:
        """Return the parsed spec. Raises pydantic.ValidationError, which names the field, if the spec is invalid."""

    @abstractmethod
    def invalid_status(self, manifest: Manifest, sentence: str) -> dict[str, Any]:
        """Return the status of a resource whose spec is invalid. `sentence` describes the error."""

    @abstractmethod
    async def course(self, resource: Resource[Spec]) -> Course:
        """Return the steps for a resource in its present state."""

    def expected(self, manifest: Manifest) -> Iterable[ChildKey]:
        """Return children on which decisions depend, and which the operator has probably written before."""
        return ()

    async def gone(self, key: Key) -> None:
        """Forget a resource that no longer exists or is being deleted. May be called several times for one resource."""

    async def reconcile(self, key: Key) -> float | None:
        """Reconcile a resource once.

        Returns the number of seconds until the next reconcile, or None if the next reconcile waits for an event.
        """
        manifest = self._inventory.resource(key)
        if manifest is None or manifest["metadata"].get("deletionTimestamp"):
            self._inventory.set_aside(key)
            await self.gone(key)
            return None
        await self._executor.look_up(owner_of(manifest), self.expected(manifest))
        try:
            spec = self.parse(manifest)
        except ValidationError as error:
            self._inventory.set_aside(key)
            await self.refuse(manifest, sentence_of(error))
            return None
        forbidden = violations(self._policy, self.kind, spec)
        resource = Resource(key, manifest, owner_of(manifest), spec, forbidden)
        course = await self.course(resource)
        if course.children is None and not course.judges:
            self._inventory.set_aside(key)
        wanted = course.desired
        refused = () if wanted is None else await self._converge_and_tell(resource, wanted, course.initial)
        if refused is None:
            return 0.0
        pause = await course.conclude(refused)
        times = (pause, self._inventory.seconds_to_retry(key))
        return min((seconds for seconds in times if seconds is not None), default=None)

    async def _converge_and_tell(
        self, resource: Resource[Spec], children: DesiredChildren, initial: Mapping[ChildKey, Manifest]
    ) -> tuple[Fault, ...] | None:
        """Write the children. If a write takes long, say so in the status, and return None at the end.

        The status is written before, so that the resource has to be read again.
        """
        telling: list[asyncio.Task[bool]] = []
        # Most reconciles write nothing, and a timer costs less than a task for each of them.
        timer = asyncio.get_running_loop().call_later(
            _SLOW_SECONDS, lambda: telling.append(asyncio.ensure_future(self._tell_slow_write(resource)))
        )
        try:
            refused = await self.converge(resource, children, initial)
            told = any([await task for task in telling])
        finally:
            timer.cancel()
            for task in telling:
                # asyncio logs the error of a task that nobody has asked for it.
                if not task.cancel() and not task.cancelled():
                    task.exception()
        return None if told else refused

    async def _tell_slow_write(self, resource: Resource[Spec]) -> bool:
        """Write to the status which child is being written, unless the status is about this generation already."""
        manifest, name = resource.manifest, self._executor.writing.get(resource.key)
        generation = manifest["metadata"]["generation"]
        rows = {row["type"]: row for row in resource.conditions}
        if name is None or rows.get(_RECONCILING, {}).get("observedGeneration") == generation:
            return False
        wanted = Condition(_RECONCILING, True, EndpointReason.NOT_APPLIED, _SLOW.format(name, _SLOW_SECONDS))
        (row,) = merge(resource.conditions, [wanted], generation, self._now())
        await self.write_status(manifest, {**resource.status, "conditions": [*(rows | {_RECONCILING: row}).values()]})
        return True

    async def converge(
        self, resource: Resource[Spec], children: DesiredChildren, initial: Mapping[ChildKey, Manifest]
    ) -> tuple[Fault, ...]:
        """Write the children that differ from the desired ones, and return the faults of refused writes."""
        return await self._executor.converge(resource.owner, children, self._prune, initial)

    def preview(self, resource: Resource[Spec], children: DesiredChildren) -> tuple[ChildKey, ...]:
        """Return the children that `converge` would write or delete."""
        return self._executor.preview(resource.owner, children, self._prune)

    async def write_status(self, manifest: Manifest, status: dict[str, Any]) -> None:
        """Write the status if it differs from the status in the manifest."""
        if manifest.get("status") == status:
            return
        try:
            written = await self._cluster.objects.apply_status(self._as_it_is_now(manifest), status)
        except ApiException as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            self._inventory.gone(manifest["kind"], manifest)
        else:
            self._inventory.wrote_resource(written)

    def _as_it_is_now(self, manifest: Manifest) -> Manifest:
        """Return the resource as it is now, or `manifest` if another status may belong to it.

        Sidecars that do not answer are polled for seconds. If somebody changes labels or annotations more often than
        that, the API server would refuse each status, because it is for an older version.
        """
        metadata = manifest["metadata"]
        newest = self._inventory.resource(Key(manifest["kind"], metadata["namespace"], metadata["name"]))
        if newest is None or newest.get("status") != manifest.get("status"):
            return manifest
        same = all(newest["metadata"].get(name) == metadata.get(name) for name in ("uid", "generation"))
        return newest if same else manifest

    async def refuse(self, manifest: Manifest, sentence: str) -> None:
        """Write the status of a resource whose spec cannot be parsed, and one Event per sentence."""
        before = manifest.get("status") or {}
        await self.write_status(manifest, self.invalid_status(manifest, sentence))
        if sentence not in {row["message"] for row in before.get("conditions") or []}:
            await emit(self._cluster.objects, manifest, "InvalidSpec", sentence, self._now(), warning=True)

    async def emit(self, resource: Resource[Spec], reason: str, message: str, *, warning: bool = False) -> None:
        """Write an Event about a resource."""
        await emit(self._cluster.objects, resource.manifest, reason, message, self._now(), warning=warning)


def sentence_of(error: ValidationError) -> str:
    """Return the first errors in a spec, each with the path of its field."""
    found = error.errors()
    shown = [_sentence(each["loc"], each["msg"]) for each in found[:_SHOWN_ERRORS]]
    return "; ".join([*shown, *([f"{len(found) - len(shown)} more"] if len(found) > len(shown) else [])])


def _sentence(path: tuple[int | str, ...], message: str) -> str:
    # As Kubernetes writes paths: spec.models[0].name.
    field = "spec" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    # pydantic writes this before the message of an exception.
    return f"{field}: {message.removeprefix('Value error, ')}"
