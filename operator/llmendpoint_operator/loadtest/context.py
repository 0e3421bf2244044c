"""What the steps of a run share: its objects in the inventory, its status, and its Events."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from typing import Any, Protocol, TypeAlias

from kubernetes.aio.client.exceptions import ApiException

from llmendpoint_common.api.loadtest.spec import LoadTestSpec
from llmendpoint_common.contracts.cluster import LLMENDPOINT
from llmendpoint_operator.cluster.faults import describe
from llmendpoint_operator.cluster.inventory import Child
from llmendpoint_operator.kube.owner import Manifest
from llmendpoint_operator.kube.unwatched import Unwatched, sentence
from llmendpoint_operator.loadtest import phases
from llmendpoint_operator.loadtest.observe import RunView
from llmendpoint_operator.loadtest.resources.job import job_name
from llmendpoint_operator.loadtest.result_map import ResultMaps
from llmendpoint_operator.reconcile.controller import Cluster, Resource
from llmendpoint_operator.settings import ChildSettings

Run: TypeAlias = Resource[LoadTestSpec]

#: Time until the next reconcile, which checks whether the endpoint is Ready (in the inventory), or polls the load pods.
#: Neither sends a request to the API server.
POLL_SECONDS = 2.0
#: Statuses with which the API server refuses a status for its content or size.
_REFUSED_CONTENT = (HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY)


class Emit(Protocol):
    """Writes an Event about a run."""

    def __call__(self, run: Run, reason: str, message: str, /, *, warning: bool = False) -> Awaitable[None]: ...


@dataclass(frozen=True)
class Context:
    """The cluster, and the ways to write the status and the Events of runs."""

    cluster: Cluster
    settings: ChildSettings
    #: The namespace of the default questions.
    own_namespace: str
    maps: ResultMaps
    write_status: Callable[[Manifest, dict[str, Any]], Awaitable[None]]
    emit: Emit
    #: UIDs of the Jobs that this process has released.
    released: set[str] = field(default_factory=set)

    def now(self) -> datetime:
        """Return the time of the wall clock."""
        return self.cluster.now()

    # Status and Events

    def manifest(self, run: Run) -> Manifest:
        """Return the LoadTest as it is now.

        `run.manifest` may be outdated, because a reconcile that starts a run writes the status more than once.
        """
        return self.cluster.inventory.resource(run.key) or run.manifest

    def status(self, run: Run) -> dict[str, Any]:
        """Return the status as it is now."""
        return self.manifest(run).get("status") or {}

    def has_started(self, run: Run) -> bool:
        """Return whether the start time is in the status."""
        return "startTime" in self.status(run)

    async def write(self, run: Run, phase: phases.Phase) -> None:
        """Write the status of a phase."""
        manifest = self.manifest(run)
        await self.write_status(manifest, phases.loadtest_status(manifest, phase, self.now()))

    async def warn(self, run: Run, phase: phases.Phase) -> None:
        """Write an Event about a problem, unless its reason is in the status already."""
        await self._tell(run, phase, warning=True)

    async def tell(self, run: Run, phase: phases.Phase) -> None:
        """Write an Event about what somebody asked for, unless its reason is in the status already."""
        await self._tell(run, phase, warning=False)

    async def _tell(self, run: Run, phase: phases.Phase, *, warning: bool) -> None:
        conditions = self.status(run).get("conditions") or []
        if all(condition["reason"] != phase.reason for condition in conditions):
            await self.emit(run, phase.reason, phase.message, warning=warning)

    async def finish(self, run: Run, phase: phases.Phase) -> float:
        """Write the last phase of a run, and an Event with its verdict."""
        try:
            await self.write(run, phase)
        except ApiException as error:
            if error.status not in _REFUSED_CONTENT:
                raise
            # A status that is refused once is refused each time.
            phase = phases.failed(f"The API server refused the result of this run: {describe(error)}", self.now())
            await self.write(run, phase)
        await self.emit(run, str(phase.fields["verdict"]), f"{phase.reason}: {phase.message}", warning=phase.stalled)
        return 0.0

    async def report_unwatched(self, run: Run) -> float:
        """Say what cannot be watched. Without seeing its objects, a run is neither started nor ended."""
        message = f"The state of the run is not known. {sentence(self.unwatched(run))}"
        phase = phases.unwatched(message, has_started=self.has_started(run))
        await self.warn(run, phase)
        await self.write(run, phase)
        return POLL_SECONDS

    # Objects

    def job(self, run: Run) -> Child | None:
        """Return the Job of a run, or None if it does not exist."""
        return self.cluster.inventory.own_child(run.key, "Job", job_name(run.owner), run.owner.uid)

    def view(self, run: Run) -> RunView:
        """Return the Job of a run and its pods."""
        job, inventory = self.job(run), self.cluster.inventory
        wanted, canceled = run.spec.load.parallelism, run.spec.suspend
        if job is not None:
            return RunView(job.key.name, job, inventory.pods(run.key, job.uid), wanted, canceled)
        # Pods of a Job that has been deleted are known by their labels alone. They are only waited for.
        children = inventory.seen(run.key).children
        pods = [child.body for name, child in children.items() if name.kind == "Pod"]
        return RunView(job_name(run.owner), None, pods, wanted, canceled)

    def is_listed(self, run: Run) -> bool:
        """Return whether a Job or pod that the inventory does not have does not exist."""
        return all(self.cluster.inventory.is_listed(kind, run.key.namespace) for kind in ("Job", "Pod"))

    def unwatched(self, run: Run) -> tuple[Unwatched, ...]:
        """Return the kinds that the operator may not watch, and without which it can neither start nor judge a run."""
        target = () if self.has_started(run) or run.spec.endpoint_ref is None else (LLMENDPOINT,)
        return self.cluster.inventory.unwatched(run.key.namespace, (*target, "ConfigMap", "Job", "Pod"))

    async def stop(self, run: Run, job: Child) -> None:
        """Delete the Job. Kubernetes then deletes its pods, which write their partial results."""
        await self.cluster.objects.delete("Job", run.key.namespace, job.key.name, job.uid)
        self.cluster.inventory.deleting(run.key, job.key)
