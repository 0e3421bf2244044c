"""Reconciles LoadTests: waits for the endpoint, copies the questions, starts one Job, and reads its result.

    status of the LoadTest     steps of a reconcile                                        children
    forbidden, not started     say what the policy does not allow, and wait                not changed
    not started                resolve target and questions; if this succeeds, start Job   created
    startTime is set           follow the Job, and finish with its result                  not changed
    Complete is True           delete the LoadTest when its time to live has passed        not changed

The start time is written to the status before the Job is created, so that a started run never gets a second Job.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial
from http import HTTPStatus
from typing import Any

from kubernetes.aio.client.exceptions import ApiException

from llmendpoint_common.api.loadtest import LoadTestSpec, Protocol, parse_spec
from llmendpoint_common.api.translate.run_document import ResolvedTarget
from llmendpoint_common.contracts.cluster import (
    LLMENDPOINT,
    LOADTEST,
    QUESTIONS_LABEL,
    EndpointCondition,
    FaultReason,
    LoadTestCondition,
    LoadTestReason,
)
from llmendpoint_common.contracts.loadrun import Api, Verdict
from llmendpoint_common.process.errors import NotReadyError, RunResultError
from llmendpoint_operator.cluster.faults import describe, name_conflict
from llmendpoint_operator.cluster.inventory import Child
from llmendpoint_operator.cluster.keys import ChildKey, Key
from llmendpoint_operator.kube.conditions import is_true
from llmendpoint_operator.kube.fault import Fault
from llmendpoint_operator.kube.owner import Manifest, Owner, is_controlled_by
from llmendpoint_operator.loadtest import phases
from llmendpoint_operator.loadtest.desired import desired
from llmendpoint_operator.loadtest.resources.job import job_name
from llmendpoint_operator.loadtest.resources.rbac import result_name
from llmendpoint_operator.loadtest.result_map import ResultMaps, Tended
from llmendpoint_operator.loadtest.results import read_result
from llmendpoint_operator.policy.document import ALLOW_ALL, Policy
from llmendpoint_operator.policy.rules import sentences
from llmendpoint_operator.reconcile.controller import Cluster, Controller, Course, Resource
from llmendpoint_operator.settings import ChildSettings

# Time until the next reconcile, which checks whether the endpoint is Ready (in the inventory), or polls the load pod.
# Neither sends a request to the API server.
_WAITING_SECONDS = 2.0
_RUNNING_SECONDS = 2.0
# Objects that are not ours, such as ConfigMaps with questions, are not watched. They are read from the API server.
_READING_SECONDS = 10.0
# Longer than the time from writing the start time until the watch shows the Job.
_YOUNG_SECONDS = 5.0
_LOST_JOB = "The Job of this run was deleted. Create another LoadTest to run it again."
_LOST_MAP = "ConfigMap {}, which receives the result of this run, was deleted or replaced. Create another LoadTest."
#: Statuses with which the API server refuses a status for its content or size.
_REFUSED_CONTENT = (HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY)
_APIS = {Protocol.OLLAMA: Api.OLLAMA_CHAT, Protocol.OPENAI: Api.OPENAI_CHAT}


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
        #: Children of the started runs whose Job could not be created because the API server was unavailable.
        self._unmade: dict[Key, list[Manifest]] = {}

    def parse(self, manifest: Manifest) -> LoadTestSpec:
        """Return the parsed spec."""
        return parse_spec(manifest)

    def invalid_status(self, manifest: Manifest, sentence: str) -> dict[str, Any]:
        """Return the status of a run that ends immediately, because its spec is invalid."""
        return phases.loadtest_status(manifest, phases.failed(sentence, self._now()), self._now())

    async def gone(self, key: Key) -> None:
        """Forget a LoadTest that no longer exists, and remove what would keep its result ConfigMap."""
        self._unmade.pop(key, None)
        await self._maps.release(key)

    async def course(self, resource: Resource[LoadTestSpec]) -> Course:
        """Return the steps for the present state of the run."""
        await self._maps.release(resource.key, successor=resource.owner)
        if is_true(resource.conditions, LoadTestCondition.COMPLETE):
            return Course(None, partial(self._rest, resource))
        if resource.status.get("startTime"):
            return Course(self._unmade.get(resource.key), partial(self._follow, resource))
        if resource.forbidden:
            return Course(None, partial(self._forbid, resource))
        try:
            target = self._target(resource)
        except NotReadyError as reason:
            return Course(None, partial(self._wait, resource, str(reason), _WAITING_SECONDS))
        try:
            sources = await self._sources(resource)
            await self._check_job_name(resource.owner)
        except NotReadyError as reason:
            return Course(None, partial(self._wait, resource, str(reason), _READING_SECONDS))
        children = desired(resource.owner, resource.spec, target, sources, self._settings)
        # The Job comes last. It is created after the start time has been written to the status.
        return Course(children[:-1], partial(self._start, resource, target, children))

    async def _wait(
        self, resource: Resource[LoadTestSpec], reason: str, pause: float | None, _: tuple[Fault, ...] = ()
    ) -> float | None:
        await self._write(resource, phases.waiting(reason))
        return pause

    async def _forbid(self, resource: Resource[LoadTestSpec], _: tuple[Fault, ...]) -> None:
        message = sentences(resource.forbidden)
        is_known = is_true(resource.conditions, LoadTestCondition.STALLED)
        await self._write(resource, phases.forbidden(message))
        if not is_known:
            await self.emit(resource, LoadTestReason.POLICY_VIOLATION, message, warning=True)

    async def _start(
        self,
        resource: Resource[LoadTestSpec],
        target: ResolvedTarget,
        children: list[Manifest],
        refused: tuple[Fault, ...],
    ) -> float | None:
        if refused:
            return await self._wait(resource, "; ".join(fault.message for fault in refused), None)
        result = self._inventory.own_child(resource.key, "ConfigMap", result_name(resource.owner), resource.owner.uid)
        if result is None:
            return _WAITING_SECONDS
        starting = phases.starting(job_name(resource.owner), (result.key.name, result.uid), target, self._now())
        await self._write(resource, starting)
        self._unmade[resource.key] = children
        await self.emit(resource, "Started", f"Sending requests to {target.model} at {target.url}.")
        return await self._created(resource, await self.converge(resource, children))

    async def _created(self, resource: Resource[LoadTestSpec], refused: tuple[Fault, ...]) -> float | None:
        """Process the result of creating the Job. It is retried only if the API server was unavailable."""
        if any(fault.reason is not FaultReason.UNAVAILABLE for fault in refused):
            self._unmade.pop(resource.key, None)
            return await self._finish(resource, phases.failed(refused[0].message, self._now()))
        if not refused:
            self._unmade.pop(resource.key, None)
        return _RUNNING_SECONDS

    async def _follow(self, resource: Resource[LoadTestSpec], refused: tuple[Fault, ...]) -> float | None:
        if resource.key in self._unmade:
            return await self._created(resource, refused)
        tended = await self._tend_map(resource)
        run = self._inventory.own_child(resource.key, "Job", job_name(resource.owner), resource.owner.uid)
        pods = self._inventory.pods(resource.key, run.uid) if run else []
        ending = self._ending(resource, tended.body, run, pods)
        if ending is not None:
            return await self._finish(resource, ending)
        await self._report_progress(resource, pods)
        return _RUNNING_SECONDS

    def _ending(
        self, resource: Resource[LoadTestSpec], result: Manifest | None, run: Child | None, pods: list[Manifest]
    ) -> phases.Phase | None:
        """Return the last phase of a run that has ended, or None if it is still running."""
        try:
            summary = read_result(result)
        except RunResultError as error:
            return phases.failed(f"ConfigMap {result_name(resource.owner)}: {error}. It is not used.", self._now())
        if summary is not None:
            return phases.finished(summary, self._now())
        if result is None and self._inventory.is_listed("ConfigMap", resource.key.namespace):
            return phases.failed(_LOST_MAP.format(result_name(resource.owner)), self._now())
        if run is None:
            is_listed = self._inventory.is_listed("Job", resource.key.namespace)
            is_settled = is_listed and not self._is_young(resource)
            return phases.failed(_LOST_JOB, self._now()) if is_settled else None
        return phases.failed(_last_words(pods), self._now()) if _has_ended(run.body) else None

    async def _report_progress(self, resource: Resource[LoadTestSpec], pods: list[Manifest]) -> None:
        for pod in pods:
            progress = await self._pods.load(pod)
            if progress is not None:
                message = f"{progress.requests} requests, {progress.errors} errors, {progress.output_tokens} tokens"
                await self._write(resource, phases.running(min(99, progress.percent), message))

    async def _tend_map(self, resource: Resource[LoadTestSpec]) -> Tended:
        uid = (resource.status.get("resultConfigMap") or {}).get("uid", "")
        return await self._maps.tend(resource.key, resource.owner, uid)

    async def _rest(self, resource: Resource[LoadTestSpec], _: tuple[Fault, ...]) -> float | None:
        """Keep the objects of a run that has ended in order, and delete the LoadTest when its time has come."""
        pauses = [await self._expire(resource)]
        if resource.status.get("startTime"):
            await self._maps.revoke(resource.key, resource.owner)
            pauses.append((await self._tend_map(resource)).pause)
        return min((pause for pause in pauses if pause is not None), default=None)

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

    def _target(self, resource: Resource[LoadTestSpec]) -> ResolvedTarget:
        """Return the target. Raises NotReadyError if the endpoint is not Ready, or if the model is ambiguous."""
        spec, namespace = resource.spec, resource.owner.namespace
        if spec.target is not None:
            return ResolvedTarget(spec.target.url, _APIS[spec.target.protocol], spec.model or "")
        name = spec.endpoint_ref.name if spec.endpoint_ref else ""
        endpoint = self._inventory.resource(Key(LLMENDPOINT, namespace, name))
        if endpoint is None:
            raise NotReadyError(f"LLMEndpoint {name} does not exist in namespace {namespace}. The run waits for it.")
        status = endpoint.get("status") or {}
        if not is_true(status.get("conditions") or [], EndpointCondition.READY):
            raise NotReadyError(f"LLMEndpoint {name} is not Ready. The run starts when it is Ready.")
        names = [model["name"] for model in endpoint["spec"]["models"]]
        if spec.model is None and len(names) > 1:
            raise NotReadyError(
                f"LLMEndpoint {name} has {len(names)} models: set spec.model to one of {', '.join(names)}"
            )
        model = spec.model or names[0]
        digests = [
            digest for state in status.get("models", []) if state["name"] == model for digest in state["digests"]
        ]
        return ResolvedTarget(status["url"], Api.OLLAMA_CHAT, model, ",".join(digests), status.get("gpu", ""))

    async def _sources(self, resource: Resource[LoadTestSpec]) -> list[Manifest]:
        """Read the ConfigMaps with questions. Raises NotReadyError if one of them, or all of them, do not exist."""
        references = resource.spec.dataset.questions.config_map_refs
        if not references:
            sources = await self._objects.list("ConfigMap", self._own_namespace, {QUESTIONS_LABEL: "true"})
            if not sources:
                raise NotReadyError(
                    f"No ConfigMap in namespace {self._own_namespace} has the label {QUESTIONS_LABEL}=true. Install "
                    "the questions of the chart, or set spec.dataset.questions.configMapRefs."
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
            found.append(source)
        return found

    async def _check_job_name(self, owner: Owner) -> None:
        """Raise NotReadyError if a Job of another owner has the name, because a run with a start time cannot wait."""
        existing = await self._objects.get("Job", owner.namespace, job_name(owner))
        if existing is not None and not is_controlled_by(existing, owner):
            raise NotReadyError(name_conflict(ChildKey("Job", job_name(owner)), LOADTEST).message)

    def _is_young(self, resource: Resource[LoadTestSpec]) -> bool:
        """Return whether the start time is so recent that the watch may not have shown the Job yet."""
        begun = datetime.fromisoformat(resource.status["startTime"])
        return (self._now() - begun).total_seconds() < _YOUNG_SECONDS

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
        warning = verdict not in (Verdict.PASSED, Verdict.NONE)
        await self.emit(resource, verdict, f"{phase.reason}: {phase.message}", warning=warning)
        return 0.0

    async def _write(self, resource: Resource[LoadTestSpec], phase: phases.Phase) -> None:
        # `resource.manifest` may be outdated, because a reconcile that starts a run writes the status more than once.
        manifest = self._inventory.resource(resource.key) or resource.manifest
        await self.write_status(manifest, phases.loadtest_status(manifest, phase, self._now()))


def _has_ended(run: Manifest) -> bool:
    conditions: list[dict[str, Any]] = (run.get("status") or {}).get("conditions") or []
    return any(item["type"] in ("Complete", "Failed") and item["status"] == "True" for item in conditions)


def _last_words(pods: list[Manifest]) -> str:
    """Return the reason why the load pod ended, as Kubernetes reports it."""
    for pod in pods:
        for container in (pod.get("status") or {}).get("containerStatuses") or []:
            ended = (container.get("state") or {}).get("terminated") or {}
            if ended.get("message"):
                return str(ended["message"]).strip()[-900:]
            if ended.get("reason"):
                return f"The load pod ended with {ended['reason']} (exit code {ended.get('exitCode')})."
    return "The Job ended without a result, and its pod does not exist. Check the events of the Job."
