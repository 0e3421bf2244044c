"""Reconciles LoadTests: waits for the endpoint, copies the questions, starts one Job, and reads its result.

    status of the LoadTest     steps of a reconcile                                             children
    suspended, not started     say so, and wait (`beginning.py`)                                not changed
    forbidden, not started     say what the policy does not allow, and wait (`beginning.py`)    not changed
    not started                resolve target and questions; if this succeeds, start Job        created
    startTime is set           follow the Job, and finish with its result (`following.py`)      not changed
    Complete is True           stop what still runs, and delete it in time (`resting.py`)       not changed

The Job is created suspended. A suspended Job has no pod, so if the Job is refused, the run has not started, and the Job
is a refused child like any other. Then the start time is written to the status, and then the Job is released. An
operator that is killed between two of these steps continues with the next. If the start time is set and the Job does
not exist, it was deleted: a run is never started a second time.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from llmendpoint_common.api.loadtest.spec import LoadTestSpec, parse_spec
from llmendpoint_common.contracts.cluster import LOADTEST, LoadTestCondition
from llmendpoint_operator.cluster.keys import Key
from llmendpoint_operator.kube.conditions import is_true
from llmendpoint_operator.kube.owner import Manifest, Owner, owner_of
from llmendpoint_operator.loadtest import phases
from llmendpoint_operator.loadtest.beginning import Beginning
from llmendpoint_operator.loadtest.context import Context
from llmendpoint_operator.loadtest.following import Following
from llmendpoint_operator.loadtest.observe import RunView
from llmendpoint_operator.loadtest.resources.job import job_name
from llmendpoint_operator.loadtest.resting import Resting
from llmendpoint_operator.loadtest.result_map import ResultMaps
from llmendpoint_operator.policy.document import ALLOW_ALL, Policy
from llmendpoint_operator.reconcile.controller import Cluster, Controller, Course, Resource
from llmendpoint_operator.settings import ChildSettings


class LoadTestController(Controller[LoadTestSpec]):
    """Runs each LoadTest once."""

    kind = LOADTEST
    # The questions and the result of a run are kept, even if their sources change later.
    prunes = False

    def __init__(
        self, cluster: Cluster, settings: ChildSettings, own_namespace: str, policy: Policy = ALLOW_ALL
    ) -> None:
        super().__init__(cluster, policy)
        self._maps = ResultMaps(cluster.objects, cluster.inventory)
        context = Context(cluster, settings, own_namespace, self._maps, self.write_status, self.emit)
        self._following = Following(context)
        self._beginning = Beginning(context, self._following)
        self._resting = Resting(context)

    def parse(self, manifest: Manifest) -> LoadTestSpec:
        """Return the parsed spec."""
        return parse_spec(manifest)

    def invalid_status(self, manifest: Manifest, sentence: str) -> dict[str, Any]:
        """Return the status of a run that ends immediately, because its spec is invalid."""
        return phases.loadtest_status(manifest, phases.failed(sentence, self._now()), self._now())

    async def refuse(self, manifest: Manifest, sentence: str) -> None:
        """End a run whose spec is invalid. The verdict of a run that has ended stays."""
        if is_true((manifest.get("status") or {}).get("conditions") or [], LoadTestCondition.COMPLETE):
            await self.write_status(manifest, phases.observed(manifest))
        else:
            await super().refuse(manifest, sentence)

    async def gone(self, key: Key) -> None:
        """Forget a LoadTest that is being deleted or no longer exists, and remove what would keep its ConfigMaps."""
        self._following.forget(key)
        self._cluster.measurements.forget(key)
        await self._maps.release(key)
        manifest = self._inventory.resource(key)
        # Last, because the deletion of the Job can be refused.
        if manifest is not None:
            await self._stop_load(key, owner_of(manifest))

    async def _stop_load(self, key: Key, owner: Owner) -> None:
        """Delete the Job of a LoadTest that is being deleted.

        Kubernetes deletes it only when the LoadTest is gone, and a finalizer of somebody else can prevent that.
        """
        job = self._inventory.own_child(key, "Job", job_name(owner), owner.uid)
        if job is None or job.terminating or RunView(job.key.name, job, ()).has_ended:
            return
        await self._cluster.objects.delete("Job", key.namespace, job.key.name, job.uid)
        self._inventory.deleting(key, job.key)

    async def course(self, resource: Resource[LoadTestSpec]) -> Course:
        """Return the steps for the present state of the run."""
        await self._maps.release(resource.key, successor=resource.owner)
        if is_true(resource.conditions, LoadTestCondition.COMPLETE):
            return Course(None, partial(self._resting.conclude, resource))
        if resource.status.get("startTime"):
            return Course(None, partial(self._following.conclude, resource))
        return await self._beginning.course(resource)
