"""Reconciles LoadTests: waits for the endpoint, copies the questions, starts one Job, and reads its result.

    status of the LoadTest     steps of a reconcile                                        children
    forbidden, not started     say what the policy does not allow, and wait                not changed
    not started                resolve target and questions; if this succeeds, start Job   created
    startTime is set           follow the Job, and finish with its result                  not changed
    Complete is True           stop what still runs, and delete the LoadTest in time       not changed

The Job is created suspended. A suspended Job has no pod, so if the Job is refused, the run has not started, and the Job
is a refused child like any other. Then the start time is written to the status, and then the Job is released. An
operator that is killed between two of these steps goes on with the next one. If the start time is set and the Job does
not exist, it was deleted: a run is never started a second time.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial
from http import HTTPStatus
from typing import Any

from kubernetes.aio.client.exceptions import ApiException

from llmendpoint_common.api.loadtest.spec import LoadTestSpec, parse_spec
from llmendpoint_common.api.translate.run_document import ResolvedTarget
from llmendpoint_common.contracts.cluster import (
    LLMENDPOINT,
    LOADTEST,
    QUESTIONS_LABEL,
    FaultReason,
    LoadTestCondition,
    LoadTestReason,
)
from llmendpoint_common.process.errors import NotReadyError, RunRefusedError, RunResultError
from llmendpoint_operator.cluster.client import API_ERRORS
from llmendpoint_operator.cluster.faults import classify, describe
from llmendpoint_operator.cluster.inventory import Child
from llmendpoint_operator.cluster.keys import Key
from llmendpoint_operator.kube.conditions import is_true
from llmendpoint_operator.kube.fault import Fault, in_words
from llmendpoint_operator.kube.owner import Manifest
from llmendpoint_operator.kube.unwatched import Unwatched, sentence
from llmendpoint_operator.loadtest import phases
from llmendpoint_operator.loadtest.desired import desired
from llmendpoint_operator.loadtest.observe import RunView
from llmendpoint_operator.loadtest.resources.job import RELEASE, job_name
from llmendpoint_operator.loadtest.resources.questions import question_files, require_files
from llmendpoint_operator.loadtest.resources.rbac import result_name
from llmendpoint_operator.loadtest.result_map import ResultMaps, Tended
from llmendpoint_operator.loadtest.results import read_result
from llmendpoint_operator.loadtest.target import resolve
from llmendpoint_operator.policy.document import ALLOW_ALL, Policy
from llmendpoint_operator.policy.rules import sentences
from llmendpoint_operator.reconcile.controller import Cluster, Controller, Course, Resource
from llmendpoint_operator.reconcile.plan import stamp_of, stamped
from llmendpoint_operator.settings import ChildSettings

# Time until the next reconcile, which checks whether the endpoint is Ready (in the inventory), or polls the load pod.
# Neither sends a request to the API server.
_WAITING_SECONDS = 2.0
_RUNNING_SECONDS = 2.0
# Objects that are not ours, such as ConfigMaps with questions, are not watched. They are read from the API server.
_READING_SECONDS = 10.0
#: Time for the partial result of an interrupted run: the grace period of its pod, and a margin. The pod of a node that
#: is lost stays in the API for minutes.
_PARTIAL_SECONDS = 45.0
_LOST_MAP = "ConfigMap {}, which receives the result of this run, was deleted or replaced. Create another LoadTest."
_STARTING = "The pod of the run is starting."
#: Statuses with which the API server refuses a status for its content or size.
_REFUSED_CONTENT = (HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY)


class LoadTestController(Controller[LoadTestSpec]):
    """Runs each LoadTest once."""

    kind = LOADTEST
    # The questions and the result of a run are kept, even if their sources change later.
    prunes = False

    def __init__(
        self, cluster: Cluster, settings: ChildSettings, own_namespace: str, policy: Policy = ALLOW_ALL
    ) -> None:
        super().__init__(cluster, policy)
        self._objects = cluster.objects
        self._pods = cluster.pods
        self._settings = settings
        self._own_namespace = own_namespace
        self._maps = ResultMaps(cluster.objects, cluster.inventory)
        #: UIDs of the Jobs that this process has released.
        self._released: set[str] = set()
        #: The time at which the interruption of a run was seen.
        self._interrupted: dict[Key, datetime] = {}

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
        """Forget a LoadTest that no longer exists, and remove what would keep its result ConfigMap."""
        self._interrupted.pop(key, None)
        self._cluster.measurements.forget(key)
        await self._maps.release(key)

    async def course(self, resource: Resource[LoadTestSpec]) -> Course:
        """Return the steps for the present state of the run."""
        await self._maps.release(resource.key, successor=resource.owner)
        if is_true(resource.conditions, LoadTestCondition.COMPLETE):
            return Course(None, partial(self._rest, resource))
        if resource.status.get("startTime"):
            return Course(None, partial(self._follow, resource))
        if resource.forbidden:
            return Course(None, partial(self._forbid, resource))
        if self._unwatched(resource):
            return Course(None, partial(self._report_unwatched, resource))
        return await self._beginning(resource)

    async def _beginning(self, resource: Resource[LoadTestSpec]) -> Course:
        """Return the steps for a run that has not started."""
        try:
            target = self._target(resource)
        except NotReadyError as reason:
            return Course(None, partial(self._wait, resource, str(reason)))
        except RunRefusedError as error:
            return Course(None, partial(self._hold, resource, error.reason, str(error), stalled=True))
        try:
            sources = await self._sources(resource)
        except NotReadyError as reason:
            return Course(None, partial(self._hold, resource, LoadTestReason.PENDING, str(reason)))
        children = desired(resource.owner, resource.spec, target, sources, self._settings)
        if await self._discarded(resource, children[-1]):
            return Course(None, partial(self._wait, resource, "The Job of an earlier spec is being deleted."))
        return Course(children, partial(self._start, resource, target))

    # Runs that have not started

    async def _wait(self, resource: Resource[LoadTestSpec], reason: str, _: tuple[Fault, ...] = ()) -> float:
        await self._write(resource, phases.waiting(reason))
        return _WAITING_SECONDS

    async def _hold(
        self,
        resource: Resource[LoadTestSpec],
        reason: str,
        message: str,
        _: tuple[Fault, ...] = (),
        *,
        stalled: bool = False,
    ) -> float:
        """Say what keeps the run from starting, or end it if its deadline has passed."""
        now = self._now()
        deadline = phases.deadline_of(resource.status, now, stalled=stalled)
        if datetime.fromisoformat(deadline) <= now:
            return await self._finish(resource, phases.overdue(message, now))
        phase = (phases.refused if stalled else phases.held)(reason, message, deadline)
        await self._warn(resource, phase)
        await self._write(resource, phase)
        left = (datetime.fromisoformat(deadline) - now).total_seconds()
        return min(left, _WAITING_SECONDS if stalled else _READING_SECONDS)

    async def _report_unwatched(self, resource: Resource[LoadTestSpec], _: tuple[Fault, ...] = ()) -> float:
        """Say what cannot be watched. Without seeing its objects, a run is neither started nor ended."""
        message = f"The state of the run is not known. {sentence(self._unwatched(resource))}"
        phase = phases.unwatched(message, has_started=self._has_started(resource))
        await self._warn(resource, phase)
        await self._write(resource, phase)
        return _WAITING_SECONDS

    async def _forbid(self, resource: Resource[LoadTestSpec], _: tuple[Fault, ...]) -> None:
        phase = phases.forbidden(sentences(resource.forbidden))
        await self._warn(resource, phase)
        await self._write(resource, phase)

    async def _discarded(self, resource: Resource[LoadTestSpec], wanted: Manifest) -> bool:
        """Delete a Job that was created for another spec before the run started: its pod cannot be changed."""
        run = self._job(resource)
        if run is None or run.terminating or run.applied_hash == stamp_of(stamped(wanted)):
            return run is not None and run.terminating
        await self._stop(resource, run)
        return True

    async def _start(
        self, resource: Resource[LoadTestSpec], target: ResolvedTarget, refused: tuple[Fault, ...]
    ) -> float:
        if refused:
            # Invalid is what the spec says. Anything else is an object or a rule of the cluster, which can change.
            faults = sorted(refused, key=lambda fault: fault.reason is not FaultReason.INVALID)
            message = in_words(faults)
            stalled = faults[0].reason is FaultReason.INVALID
            return await self._hold(resource, faults[0].reason, message, stalled=stalled)
        result = self._inventory.own_child(resource.key, "ConfigMap", result_name(resource.owner), resource.owner.uid)
        run = self._job(resource)
        if result is None or run is None:
            return _WAITING_SECONDS
        starting = phases.starting(job_name(resource.owner), (result.key.name, result.uid), target, self._now())
        await self._write(resource, starting)
        if not self._has_started(resource):
            # The LoadTest has just been deleted, so nothing was written.
            return _WAITING_SECONDS
        # From now on the pod may change the ConfigMap, so it has to be known.
        await self._maps.tend(resource.key, resource.owner, result.uid)
        return await self._release(resource, run)

    async def _release(self, resource: Resource[LoadTestSpec], run: Child) -> float:
        """Let the Job create its pod. The UID prevents that another Job of this name is released."""
        try:
            body = await self._objects.patch("Job", resource.key.namespace, run.key.name, RELEASE | _only(run.uid))
        except API_ERRORS as error:
            if isinstance(error, ApiException) and error.status == HTTPStatus.NOT_FOUND:
                return _RUNNING_SECONDS
            fault = classify(error, run.key)
            return await self._delay(resource, fault.reason, fault.message)
        self._released.add(run.uid)
        self._inventory.wrote_child(resource.key, body)
        status = self._manifest(resource)["status"]
        await self.emit(resource, "Started", f"Sending requests to {status['model']} at {status['target']}.")
        return _RUNNING_SECONDS

    async def _delay(self, resource: Resource[LoadTestSpec], reason: str, message: str) -> float:
        """Say what keeps the pod of a started run from running, or end the run if its deadline has passed."""
        if phases.is_overdue(self._manifest(resource)["status"], self._now()):
            return await self._finish(resource, phases.overdue(message, self._now()))
        phase = phases.not_running(reason, message)
        if reason != LoadTestReason.PENDING:
            await self._warn(resource, phase)
        await self._write(resource, phase)
        return _RUNNING_SECONDS

    # Runs that have started

    async def _follow(self, resource: Resource[LoadTestSpec], _: tuple[Fault, ...]) -> float:
        tended = await self._tend_map(resource)
        view = self._view(resource)
        ending = await self._ending(resource, tended.body, view)
        if ending is not None:
            return await self._finish(resource, ending)
        if self._unwatched(resource):
            return await self._report_unwatched(resource)
        if not self._is_listed(resource):
            return _RUNNING_SECONDS
        if view.job is not None and not self._is_released(view.job):
            return await self._release(resource, view.job)
        if view.interruption:
            await self._write(resource, phases.running(None, f"{view.interruption} Waiting for its partial result."))
        elif view.has_started:
            await self._report_progress(resource, view)
        else:
            found = view.trouble(self._inventory.warnings(resource.key), self._now())
            reason, message = (found.reason, found.message) if found else (LoadTestReason.PENDING, _STARTING)
            return await self._delay(resource, reason, message)
        return _RUNNING_SECONDS

    async def _ending(
        self, resource: Resource[LoadTestSpec], result: Manifest | None, view: RunView
    ) -> phases.Phase | None:
        """Return the last phase of a run that has ended, or None if it is still running."""
        name, namespace, now = result_name(resource.owner), resource.key.namespace, self._now()
        if result is None and self._inventory.is_listed("ConfigMap", namespace):
            return phases.failed(_LOST_MAP.format(name), now)
        is_over = self._is_over(resource, view)
        if is_over and result is not None:
            # The watches of different kinds are independent: the end of the pod may arrive before its result.
            result = await self._newest(resource, result)
        try:
            summary = read_result(result)
        except RunResultError as error:
            return phases.failed(f"ConfigMap {name}: {error}. It is not used.", now)
        if summary is not None:
            return phases.finished(summary, now, view.interruption)
        if not is_over or (result is None and self._unwatched(resource)):
            return None
        return phases.canceled(view.interruption, now) if view.interruption else phases.failed(view.last_words(), now)

    def _is_over(self, resource: Resource[LoadTestSpec], view: RunView) -> bool:
        """Return whether no load generator will write a result any more."""
        if not self._is_listed(resource):
            return False
        if not view.interruption:
            self._interrupted.pop(resource.key, None)
            return view.has_ended
        since = self._interrupted.setdefault(resource.key, self._now())
        return not view.is_at_work or (self._now() - since).total_seconds() >= _PARTIAL_SECONDS

    async def _newest(self, resource: Resource[LoadTestSpec], known: Manifest) -> Manifest:
        body = await self._objects.get("ConfigMap", resource.key.namespace, known["metadata"]["name"])
        return body if body is not None and body["metadata"]["uid"] == known["metadata"]["uid"] else known

    async def _report_progress(self, resource: Resource[LoadTestSpec], view: RunView) -> None:
        note = self._lost_endpoint(resource)
        for pod in view.pods:
            progress = await self._pods.load(pod)
            if progress is not None:
                message = f"{progress.requests} requests, {progress.errors} errors, {progress.output_tokens} tokens"
                await self._write(resource, phases.running(min(99, progress.percent), message + note))
                return
        await self._write(resource, phases.running(None, f"The load pod runs. Its progress is not known.{note}"))

    def _lost_endpoint(self, resource: Resource[LoadTestSpec]) -> str:
        """Return a sentence if the LLMEndpoint of a run has been deleted, so that its requests fail from now on."""
        reference = resource.spec.endpoint_ref
        if reference is None or not self._inventory.is_listed(LLMENDPOINT, resource.key.namespace):
            return ""
        endpoint = self._inventory.resource(Key(LLMENDPOINT, resource.key.namespace, reference.name))
        return "" if endpoint else f". LLMEndpoint {reference.name} was deleted during the run."

    # Runs that have ended

    async def _rest(self, resource: Resource[LoadTestSpec], _: tuple[Fault, ...]) -> float | None:
        """Keep the objects of a run that has ended in order, and delete the LoadTest when its time has come."""
        await self.write_status(resource.manifest, phases.observed(resource.manifest))
        if resource.spec.endpoint_ref is not None:
            self._cluster.measurements.record(resource.key, resource.spec.endpoint_ref.name, resource.status)
        pauses = [await self._expire(resource)]
        view = self._view(resource)
        if view.job is not None and not view.job.terminating and not view.has_ended and _has_no_result(resource.status):
            # The verdict is final, so nothing must run any more. This includes a pod that has not started yet.
            await self._stop(resource, view.job)
        if resource.status.get("startTime"):
            await self._maps.revoke(resource.key, resource.owner)
            pauses.append((await self._tend_map(resource)).pause)
        return min((pause for pause in pauses if pause is not None), default=None)

    async def _stop(self, resource: Resource[LoadTestSpec], run: Child) -> None:
        await self._objects.delete("Job", resource.key.namespace, run.key.name, run.uid)
        self._inventory.deleting(resource.key, run.key)

    async def _tend_map(self, resource: Resource[LoadTestSpec]) -> Tended:
        uid = (resource.status.get("resultConfigMap") or {}).get("uid", "")
        return await self._maps.tend(resource.key, resource.owner, uid)

    async def _expire(self, resource: Resource[LoadTestSpec]) -> float | None:
        lifetime = resource.spec.ttl_seconds_after_finished
        if lifetime is None:
            return None
        ended = datetime.fromisoformat(resource.status["completionTime"])
        left = (ended + timedelta(seconds=lifetime) - self._now()).total_seconds()
        if left > 0:
            return left
        await self._objects.delete(LOADTEST, resource.owner.namespace, resource.owner.name, resource.owner.uid)
        return None

    # What a run needs

    def _target(self, resource: Resource[LoadTestSpec]) -> ResolvedTarget:
        """Return the target. Raises NotReadyError or RunRefusedError."""
        spec, namespace = resource.spec, resource.owner.namespace
        name = spec.endpoint_ref.name if spec.endpoint_ref else ""
        return resolve(spec, namespace, self._inventory.resource(Key(LLMENDPOINT, namespace, name)))

    async def _sources(self, resource: Resource[LoadTestSpec]) -> list[Manifest]:
        """Read the ConfigMaps with questions. Raises NotReadyError if one of them, or all of them, do not exist."""
        references = resource.spec.dataset.questions.config_map_refs
        if not references:
            labeled = await self._objects.list("ConfigMap", self._own_namespace, {QUESTIONS_LABEL: "true"})
            sources = [source for source in labeled if question_files(source)]
            if not sources:
                raise NotReadyError(
                    f"No ConfigMap in namespace {self._own_namespace} has the label {QUESTIONS_LABEL}=true and an "
                    "entry whose name ends in .yaml or .yml. Install the questions of the chart, or set "
                    "spec.dataset.questions.configMapRefs."
                )
            return sorted(sources, key=lambda source: str(source["metadata"]["name"]))
        found = []
        for reference in references:
            source = await self._objects.get("ConfigMap", resource.owner.namespace, reference.name)
            if source is None:
                raise NotReadyError(
                    f"ConfigMap {reference.name} in spec.dataset.questions.configMapRefs does not exist. The run "
                    "starts when it exists."
                )
            found.append(require_files(source))
        return found

    # Status and Events

    def _job(self, resource: Resource[LoadTestSpec]) -> Child | None:
        return self._inventory.own_child(resource.key, "Job", job_name(resource.owner), resource.owner.uid)

    def _view(self, resource: Resource[LoadTestSpec]) -> RunView:
        run = self._job(resource)
        if run is not None:
            return RunView(run.key.name, run, self._inventory.pods(resource.key, run.uid))
        # Pods of a Job that has been deleted are known by their labels alone. They are only waited for.
        children = self._inventory.seen(resource.key).children
        pods = [child.body for name, child in children.items() if name.kind == "Pod"]
        return RunView(job_name(resource.owner), run, pods)

    def _is_listed(self, resource: Resource[LoadTestSpec]) -> bool:
        """Return whether a Job or pod that the inventory does not have does not exist."""
        return all(self._inventory.is_listed(kind, resource.key.namespace) for kind in ("Job", "Pod"))

    def _unwatched(self, resource: Resource[LoadTestSpec]) -> tuple[Unwatched, ...]:
        """Return the kinds that the operator may not watch, and without which it can neither start nor judge a run."""
        target = () if self._has_started(resource) or resource.spec.endpoint_ref is None else (LLMENDPOINT,)
        return self._inventory.unwatched(resource.key.namespace, (*target, "ConfigMap", "Job", "Pod"))

    def _has_started(self, resource: Resource[LoadTestSpec]) -> bool:
        return "startTime" in (self._manifest(resource).get("status") or {})

    def _is_released(self, run: Child) -> bool:
        """Return whether a Job may create its pod. The release is the first change of its spec."""
        return run.generation > 1 or run.uid in self._released

    async def _finish(self, resource: Resource[LoadTestSpec], phase: phases.Phase) -> float:
        try:
            await self._write(resource, phase)
        except ApiException as error:
            if error.status not in _REFUSED_CONTENT:
                raise
            # A status that is refused once is refused each time.
            phase = phases.failed(f"The API server refused the result of this run: {describe(error)}", self._now())
            await self._write(resource, phase)
        verdict = str(phase.fields["verdict"])
        warning = phase.stalled
        await self.emit(resource, verdict, f"{phase.reason}: {phase.message}", warning=warning)
        return 0.0

    async def _warn(self, resource: Resource[LoadTestSpec], phase: phases.Phase) -> None:
        """Write an Event about a problem, unless its reason is in the status already."""
        if all(condition["reason"] != phase.reason for condition in self._conditions(resource)):
            await self.emit(resource, phase.reason, phase.message, warning=True)

    def _conditions(self, resource: Resource[LoadTestSpec]) -> list[dict[str, Any]]:
        return (self._manifest(resource).get("status") or {}).get("conditions") or []

    def _manifest(self, resource: Resource[LoadTestSpec]) -> Manifest:
        # `resource.manifest` may be outdated, because a reconcile that starts a run writes the status more than once.
        return self._inventory.resource(resource.key) or resource.manifest

    async def _write(self, resource: Resource[LoadTestSpec], phase: phases.Phase) -> None:
        manifest = self._manifest(resource)
        await self.write_status(manifest, phases.loadtest_status(manifest, phase, self._now()))


def _only(uid: str) -> Manifest:
    return {"metadata": {"uid": uid}}


def _has_no_result(status: dict[str, Any]) -> bool:
    return "summary" not in status
