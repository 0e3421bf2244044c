"""Reconciles one LoadTest: wait for the endpoint, snapshot the questions, start one Job, read its result."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError

from llmendpoint_common.api.loadtest import LoadTestSpec, Protocol, parse_spec
from llmendpoint_common.api.translate.run_document import ResolvedTarget, run_document
from llmendpoint_common.contracts.cluster import LOADTEST_LABEL, QUESTIONS_LABEL
from llmendpoint_common.contracts.loadrun import Api
from llmendpoint_common.process.errors import NotReadyError
from llmendpoint_operator.cluster.events import emit
from llmendpoint_operator.cluster.objects import Objects
from llmendpoint_operator.cluster.pod_status import PodStatuses
from llmendpoint_operator.kube.conditions import is_true
from llmendpoint_operator.kube.owner import Manifest, Owner, is_controlled_by, owner_of
from llmendpoint_operator.loadtest import phases
from llmendpoint_operator.loadtest.resources.job import job, job_name
from llmendpoint_operator.loadtest.resources.questions import snapshot
from llmendpoint_operator.loadtest.resources.rbac import access, result_name
from llmendpoint_operator.loadtest.resources.run import run_config_map
from llmendpoint_operator.loadtest.results import read_result
from llmendpoint_operator.reconcile.workqueue import Key
from llmendpoint_operator.settings import Images

KIND = "LoadTest"
_WAITING_SECONDS = 2.0
_RUNNING_SECONDS = 2.0
_APIS = {Protocol.OLLAMA: Api.OLLAMA_CHAT, Protocol.OPENAI: Api.OPENAI_CHAT}


class LoadTestController:
    """Runs each LoadTest once."""

    def __init__(
        self, objects: Objects, pods: PodStatuses, images: Images, own_namespace: str, now: Callable[[], datetime]
    ) -> None:
        self._objects = objects
        self._pods = pods
        self._images = images
        self._own_namespace = own_namespace
        self._now = now

    async def reconcile(self, key: Key) -> float | None:
        """Reconcile once; return when to look again."""
        manifest = await self._objects.get(KIND, key.namespace, key.name)
        if manifest is None or manifest["metadata"].get("deletionTimestamp"):
            return None
        status = manifest.get("status") or {}
        try:
            spec = parse_spec(manifest)
        except ValidationError as error:
            first = error.errors()[0]
            sentence = f"spec.{'.'.join(map(str, first['loc']))}: {first['msg']}"
            await self._write(manifest, phases.failed(sentence, self._now()))
            return None
        if is_true(status.get("conditions") or [], "Complete"):
            return await self._expire(manifest, spec)
        if status.get("startTime"):
            return await self._follow(manifest)
        try:
            return await self._start(manifest, spec)
        except NotReadyError as reason:
            await self._write(manifest, phases.waiting(str(reason)))
            return _WAITING_SECONDS

    async def _start(self, manifest: Manifest, spec: LoadTestSpec) -> float:
        owner = owner_of(manifest)
        target = await self._target(owner, spec)
        sources = await self._sources(owner, spec)
        questions = snapshot(owner, sources)
        run = run_config_map(owner, run_document(spec, target))
        conflicts = await self._objects.apply_children(owner, [run, *questions, *access(owner)])
        existing = await self._objects.get("Job", owner.namespace, job_name(owner))
        if existing is not None and not is_controlled_by(existing, owner):
            conflicts = (*conflicts, f"Job/{job_name(owner)}")
        if conflicts:
            raise NotReadyError(f"{', '.join(conflicts)} exists and is not this LoadTest's; delete or rename it")
        # The start is written down before the Job is made: a Job that was started is never made again.
        begun = phases.running(0, "the Job is being made")
        fields = {**phases.started(job_name(owner), target, self._now()), **begun.fields}
        await self._write(manifest, phases.Phase(False, None, begun.reason, begun.message, fields))
        names = [question["metadata"]["name"] for question in questions]
        await self._objects.apply(job(owner, spec, names, self._images))
        await emit(self._objects, manifest, "Started", f"driving {target.model} at {target.url}", self._now())
        return _RUNNING_SECONDS

    async def _follow(self, manifest: Manifest) -> float | None:
        owner = owner_of(manifest)
        summary = read_result(await self._objects.get("ConfigMap", owner.namespace, result_name(owner)))
        if summary is not None:
            await self._finish(manifest, phases.finished(summary, self._now()))
            return 0.0
        run = await self._objects.get("Job", owner.namespace, job_name(owner))
        if run is None:
            if self._is_young(manifest):
                return _RUNNING_SECONDS
            await self._finish(manifest, phases.failed("its Job is gone; make another LoadTest", self._now()))
            return 0.0
        pods = await self._objects.list("Pod", owner.namespace, {LOADTEST_LABEL: owner.name})
        if _has_ended(run):
            await self._finish(manifest, phases.failed(_why(pods), self._now()))
            return 0.0
        for pod in pods:
            progress = await self._pods.load(pod)
            if progress is not None:
                message = f"{progress.requests} requests, {progress.errors} errors, {progress.output_tokens} tokens"
                await self._write(manifest, phases.running(min(99, progress.percent), message))
        return _RUNNING_SECONDS

    async def _expire(self, manifest: Manifest, spec: LoadTestSpec) -> float | None:
        if spec.ttl_seconds_after_finished is None:
            return None
        ended = datetime.fromisoformat(manifest["status"]["completionTime"])
        left = (ended + timedelta(seconds=spec.ttl_seconds_after_finished) - self._now()).total_seconds()
        if left > 0:
            return left
        metadata = manifest["metadata"]
        await self._objects.delete(KIND, metadata["namespace"], metadata["name"])
        return None

    async def _target(self, owner: Owner, spec: LoadTestSpec) -> ResolvedTarget:
        if spec.target is not None:
            return ResolvedTarget(spec.target.url, _APIS[spec.target.protocol], spec.model or "")
        name = spec.endpoint_ref.name if spec.endpoint_ref else ""
        endpoint = await self._objects.get("LLMEndpoint", owner.namespace, name)
        if endpoint is None:
            raise NotReadyError(
                f"LLMEndpoint {name} is not in namespace {owner.namespace}; the run begins when it is Ready"
            )
        status = endpoint.get("status") or {}
        if not is_true(status.get("conditions") or [], "Ready"):
            raise NotReadyError(f"LLMEndpoint {name} is not Ready; the run begins when it is")
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

    async def _sources(self, owner: Owner, spec: LoadTestSpec) -> list[Manifest]:
        references = spec.dataset.questions.config_map_refs
        if not references:
            sources = await self._objects.list("ConfigMap", self._own_namespace, {QUESTIONS_LABEL: "true"})
            if not sources:
                raise NotReadyError(f"namespace {self._own_namespace} has no ConfigMap labelled {QUESTIONS_LABEL}=true")
            return sorted(sources, key=lambda source: str(source["metadata"]["name"]))
        found = []
        for reference in references:
            source = await self._objects.get("ConfigMap", owner.namespace, reference.name)
            if source is None:
                raise NotReadyError(f"ConfigMap {reference.name} of dataset.questions.configMapRefs does not exist")
            found.append(source)
        return found

    def _is_young(self, manifest: Manifest) -> bool:
        """The start was written, the Job perhaps not yet: another try is due before it counts as gone."""
        begun = datetime.fromisoformat(manifest["status"]["startTime"])
        return (self._now() - begun).total_seconds() < 5

    async def _finish(self, manifest: Manifest, phase: phases.Phase) -> None:
        await self._write(manifest, phase)
        verdict = str(phase.fields["verdict"])
        warning = verdict not in ("Passed", "None")
        await emit(self._objects, manifest, verdict, f"{phase.reason}: {phase.message}", self._now(), warning=warning)

    async def _write(self, manifest: Manifest, phase: phases.Phase) -> None:
        await self._objects.apply_status(manifest, phases.loadtest_status(manifest, phase, self._now()))


def _has_ended(run: Manifest) -> bool:
    conditions: list[dict[str, Any]] = (run.get("status") or {}).get("conditions") or []
    return any(item["type"] in ("Complete", "Failed") and item["status"] == "True" for item in conditions)


def _why(pods: list[Manifest]) -> str:
    """Return what the load pod said last."""
    for pod in pods:
        for container in (pod.get("status") or {}).get("containerStatuses") or []:
            ended = (container.get("state") or {}).get("terminated") or {}
            if ended.get("message"):
                return str(ended["message"]).strip()[-900:]
            if ended.get("reason"):
                return f"the load pod ended with {ended['reason']} (exit code {ended.get('exitCode')})"
    return "the Job ended without a result and without a pod; see its events"
