"""LLMEndpoints in every state, for `support.documents.gitops_states`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from llmendpoint_common.api.endpoint.spec import parse_spec
from llmendpoint_common.contracts.cluster import LLMENDPOINT, PodReason
from llmendpoint_common.contracts.sidecar import ModelPhase
from llmendpoint_operator.cluster.faults import classify, name_conflict
from llmendpoint_operator.cluster.keys import ChildKey
from llmendpoint_operator.endpoint.observe import Observation, PodView, Replicas
from llmendpoint_operator.endpoint.status import endpoint_status, unparsed_status
from llmendpoint_operator.kube.fault import Fault
from llmendpoint_operator.kube.owner import owner_of
from llmendpoint_operator.pods.trouble import Trouble
from llmendpoint_operator.policy.document import Policy
from llmendpoint_operator.policy.rules import violations
from llmendpoint_operator.reconcile.controller import sentence_of
from support.documents.gitops_states import NOW, Manifest, State, deleting, edited, manifest
from support.in_memory.fakes import refusal
from support.in_memory.observations import MISSING, PULLING, READY, UNWATCHED, model, observed, view

SPEC = {"models": [{"name": "tiny:latest"}]}
QUOTA = (
    '{"kind":"Status","message":"statefulsets.apps \\"assistant\\" is forbidden: exceeded quota: small, requested: '
    'count/statefulsets.apps=1, used: count/statefulsets.apps=1, limited: count/statefulsets.apps=1",'
    '"details":{"name":"assistant"}}'
)
STATEFULSET = ChildKey("StatefulSet", "assistant")
REFUSED = classify(refusal(403, QUOTA), STATEFULSET)
BUSY = classify(
    refusal(429, '{"kind":"Status","message":"too many requests","details":{"name":"assistant"}}'), STATEFULSET
)
TAKEN = name_conflict(ChildKey("Service", "assistant"), LLMENDPOINT)
RUNS = view(READY, ready=True)
NO_GPU = PodView(
    "assistant-1", False, None, Trouble(PodReason.UNSCHEDULABLE, "assistant-1: 3 Insufficient nvidia.com/gpu.")
)
CRASHING = PodView("assistant-1", False, None, Trouble(PodReason.CRASH_LOOP, "assistant-1: exit code 1."))


def endpoint(seen: Observation, generation: int = 1, before: Manifest | None = None, **spec: Any) -> Manifest:
    """Return an endpoint with the status that the operator writes for an observation."""
    body = manifest(LLMENDPOINT, "assistant", {**SPEC, **spec}, generation, before)
    status = endpoint_status(body, owner_of(body), parse_spec(body), seen, NOW)
    return {**body, "status": status}


def refused(fault: Fault, *, running: bool) -> Manifest:
    """Return an endpoint one of whose children was refused: of a new endpoint, or after an edit of a running one."""
    if not running:
        return endpoint(observed(refused=(fault,)))
    before = endpoint(observed(RUNS))["status"]
    return endpoint(observed(RUNS, refused=(fault,)), 2, before, pod={"labels": {"team": "a"}})


def forbidden(*, running: bool) -> Manifest:
    """Return an endpoint that the policy does not allow."""
    spec = {"ollama": {"image": "docker.io/someone/ollama:1"}}
    found = violations(
        Policy(image_prefixes=("registry.example/",)), LLMENDPOINT, parse_spec({"spec": {**SPEC, **spec}})
    )
    pods = (RUNS,) if running else ()
    before = endpoint(observed(RUNS))["status"] if running else None
    return endpoint(Observation(len(pods), len(pods), True, pods, (), found), 2 if running else 1, before, **spec)


def invalid(*, running: bool) -> Manifest:
    """Return an endpoint with an error that the API server did not find."""
    doubled = [{"name": "tiny:latest"}, {"name": "Tiny:latest"}]
    body = manifest(LLMENDPOINT, "assistant", {"models": doubled})
    pods = 1 if running else 0
    if running:
        body = edited(endpoint(observed(RUNS)), models=doubled)
    with pytest.raises(ValidationError) as caught:
        parse_spec(body)
    return {**body, "status": unparsed_status(body, sentence_of(caught.value), Replicas(pods, pods, True), NOW)}


def endpoints() -> Iterator[State]:
    """Yield an endpoint in each state."""
    yield from _on_the_way()
    yield from _settled()
    yield from _in_trouble()


def _on_the_way() -> Iterator[State]:
    loading = view(model(ModelPhase.LOADING, present=True))
    waiting = "Waiting for the operator"
    yield State("new", manifest(LLMENDPOINT, "assistant", SPEC), "InProgress", "Progressing", waiting)
    yield State("starting", endpoint(Observation(0, 0, False, ())), "InProgress", "Progressing", "Ready")
    yield State("pulling", endpoint(observed(view(PULLING))), "InProgress", "Progressing", "Ready")
    yield State("loading", endpoint(observed(loading)), "InProgress", "Progressing", "Ready")
    rolling = endpoint(observed(RUNS, loading, up_to_date=False), 2, replicas=2)
    yield State("rolling-out", rolling, "InProgress", "Progressing", "Degraded")
    yield State("edited", edited(endpoint(observed(RUNS)), replicas=2), "InProgress", "Progressing", waiting)
    stopping = endpoint(observed(RUNS), 2, replicas=0)
    yield State("stopping", stopping, "InProgress", "Progressing", "Reconciling")
    changed = replace(observed(RUNS), paused=True, withheld=("StatefulSet/assistant",))
    yield State("paused-with-changes", endpoint(changed), "InProgress", "Suspended", "Reconciling")
    growing = replace(observed(RUNS), resizing=("PersistentVolumeClaim models-assistant-0 is being resized.",))
    yield State("resizing", endpoint(growing), "InProgress", "Progressing", "Reconciling")
    yield State("refused-for-now", refused(BUSY, running=False), "InProgress", "Progressing", "Ready")


def _settled() -> Iterator[State]:
    yield State("ready", endpoint(observed(RUNS)), "Current", "Healthy", "Ready")
    yield State("paused", endpoint(replace(observed(RUNS), paused=True)), "Current", "Healthy", "Ready")
    zero = endpoint(Observation(0, 0, True, ()), 2, replicas=0)
    yield State("scaled-to-zero", zero, "Current", "Healthy", "Reconciling")


def _in_trouble() -> Iterator[State]:
    """Yield the states that need a person.

    After an edit that is refused, kstatus does not come to the condition Stalled, because the generation that was
    applied is an older one.
    """
    degraded = endpoint(observed(RUNS, CRASHING), replicas=2)
    yield State("degraded", degraded, "InProgress", "Degraded", "Degraded")
    no_gpu = endpoint(observed(RUNS, NO_GPU), replicas=2)
    yield State("no-free-gpu", no_gpu, "InProgress", "Progressing", "Degraded")
    yield State("refused", refused(REFUSED, running=False), "InProgress", "Degraded", "Degraded")
    yield State("refused-after-edit", refused(REFUSED, running=True), "InProgress", "Degraded", "Degraded")
    yield State("name-conflict", refused(TAKEN, running=False), "Failed", "Degraded", "Stalled")
    yield State("name-conflict-after-edit", refused(TAKEN, running=True), "InProgress", "Degraded", "Stalled")
    yield State("policy-violation", forbidden(running=False), "Failed", "Degraded", "Stalled")
    yield State("policy-violation-after-edit", forbidden(running=True), "InProgress", "Degraded", "Stalled")
    yield State("invalid-spec", invalid(running=False), "Failed", "Degraded", "Stalled")
    yield State("invalid-spec-after-edit", invalid(running=True), "InProgress", "Degraded", "Stalled")
    unseen = replace(observed(RUNS), unwatched=(UNWATCHED["StatefulSet"], UNWATCHED["Pod"]))
    before = endpoint(observed(RUNS))["status"]
    yield State("not-watched", endpoint(unseen, 1, before), "InProgress", "Degraded", "Degraded")
    stuck = Observation(1, 0, True, (NO_GPU,), stuck=NO_GPU.trouble)
    yield State("unschedulable-for-long", endpoint(stuck), "Failed", "Degraded", "Stalled")
    yield State("model-not-found", endpoint(observed(view(MISSING))), "Failed", "Degraded", "Stalled")
    yield State("deleting", deleting(endpoint(observed(RUNS))), "Terminating", "Healthy", "Ready")
