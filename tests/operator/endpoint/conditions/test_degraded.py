"""The condition Degraded."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmendpoint_common.contracts.sidecar import ModelPhase
from llmendpoint_operator.endpoint.conditions.degraded import degraded
from llmendpoint_operator.endpoint.observe import Observation, PodView
from llmendpoint_operator.pods.trouble import Trouble
from support.in_memory.endpoints import endpoint_spec
from support.in_memory.observations import (
    CONFLICT,
    FORBIDDEN,
    HUNG,
    NO_MONITORS,
    NO_PODS,
    NO_ROUTES,
    READY,
    SILENT,
    UNWATCHED,
    model,
    observed,
    outcome,
    view,
)


@pytest.mark.parametrize(
    ("replicas", "seen", "expected"),
    [
        (1, observed(view(READY, ready=True)), (False, "AsWanted")),
        (2, observed(view(READY, ready=True)), (True, "ReplicasUnavailable")),
        (1, NO_PODS, (True, "ReplicasUnavailable")),
        (0, NO_PODS, (False, "AsWanted")),
        (1, observed(view(READY, ready=True), refused=(FORBIDDEN,)), (True, "Forbidden")),
        (1, Observation(1, 0, True, (), (CONFLICT,)), (True, "NameConflict")),
        (1, observed(view(READY, ready=True), refused=(FORBIDDEN, CONFLICT)), (True, "NameConflict")),
        # Also if another replica is ready.
        (2, observed(HUNG, view(READY, ready=True)), (True, "OllamaHung")),
        # This kind is optional. MonitoringReady reports that it is missing.
        (1, observed(view(READY, ready=True), refused=(NO_MONITORS,)), (False, "AsWanted")),
        # This kind is optional too, but the spec asks for it.
        (1, observed(view(READY, ready=True), refused=(NO_ROUTES,)), (True, "UnknownKind")),
    ],
)
def test_status_and_reason(replicas: int, seen: Observation, expected: tuple[bool | None, str]) -> None:
    assert outcome(degraded(endpoint_spec(replicas=replicas), seen)) == expected


def test_replicas_count_against_the_number_that_the_autoscaler_has_set() -> None:
    spec = endpoint_spec(autoscaling={"minReplicas": 1, "maxReplicas": 5})
    seen = observed(view(READY, ready=True))
    assert outcome(degraded(spec, replace(seen, scaled_to=1))) == (False, "AsWanted")
    condition = degraded(spec, replace(seen, scaled_to=3))
    assert outcome(condition) == (True, "ReplicasUnavailable")
    assert condition.message.startswith("1 of 3 replicas are ready")


def test_replicas_without_a_cause_are_looked_for_in_events() -> None:
    assert degraded(endpoint_spec(), NO_PODS).message == (
        "0 of 1 replicas are ready to serve requests. If this does not change, check the events of the StatefulSet and "
        "of its pods."
    )


def test_an_autoscaler_that_does_not_work_is_told_after_the_replicas() -> None:
    seen = replace(observed(view(READY, ready=True)), autoscaling="Install KEDA.")
    assert outcome(degraded(endpoint_spec(), seen)) == (True, "AutoscalingUnavailable")
    assert degraded(endpoint_spec(), seen).message == "Install KEDA."
    assert outcome(degraded(endpoint_spec(replicas=2), seen)) == (True, "ReplicasUnavailable")


def test_the_cause_of_a_replica_that_is_not_ready_is_the_reason() -> None:
    no_gpu = replace(SILENT, name="assistant-1", trouble=Trouble("Unschedulable", "assistant-1: no free GPU."))
    seen = Observation(
        2, 1, True, (view(READY, ready=True), no_gpu), absent=(Trouble("Evicted", "assistant-2: full."),)
    )
    condition = degraded(endpoint_spec(replicas=3), seen)
    assert outcome(condition) == (True, "Unschedulable")
    assert condition.message == (
        "1 of 3 replicas are ready to serve requests. assistant-1: no free GPU. assistant-2: full."
    )


def test_only_the_first_causes_are_told() -> None:
    pods = tuple(replace(SILENT, name=f"p-{i}", trouble=Trouble("Evicted", f"p-{i} is full.")) for i in range(9))
    message = degraded(endpoint_spec(replicas=9), Observation(9, 0, True, pods)).message
    assert message.endswith("p-0 is full. p-1 is full. p-2 is full. (6 more)")


def test_the_message_names_every_refused_child() -> None:
    seen = observed(view(READY, ready=True), refused=(FORBIDDEN, CONFLICT, NO_MONITORS))
    assert degraded(endpoint_spec(), seen).message == f"{CONFLICT.message}; {FORBIDDEN.message}"


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("Service", (True, "NotWatched")),
        ("ConfigMap", (True, "NotWatched")),
        # Without the right to list it, nobody knows whether the cluster has this kind. MonitoringReady reports this.
        ("ServiceMonitor", (False, "AsWanted")),
    ],
)
def test_a_kind_that_cannot_be_watched(kind: str, expected: tuple[bool, str]) -> None:
    seen = replace(observed(view(READY, ready=True)), unwatched=(UNWATCHED[kind],))
    assert outcome(degraded(endpoint_spec(), seen)) == expected


def test_a_refused_child_is_told_beside_a_kind_that_cannot_be_watched() -> None:
    seen = replace(observed(view(READY, ready=True), refused=(FORBIDDEN,)), unwatched=(UNWATCHED["Service"],))
    message = degraded(endpoint_spec(), seen).message
    assert message.startswith("The operator cannot watch Service in the cluster: Service is forbidden. Give its")
    assert message.endswith(FORBIDDEN.message)


OTHER = model(present=True, loaded=True, digest="sha256:2")


@pytest.mark.parametrize(
    ("pods", "expected"),
    [
        ((view(READY, ready=True), view(OTHER, ready=True, name="assistant-1")), (True, "DigestsDiffer")),
        ((view(READY, ready=True), view(READY, ready=True, name="assistant-1")), (False, "AsWanted")),
        # While models change, replicas differ for a time.
        (
            (view(READY, ready=True), replace(view(OTHER, ready=True, name="assistant-1"), outdated=True)),
            (False, "AsWanted"),
        ),
        (
            (
                view(READY, ready=True),
                view(model(ModelPhase.PULLING, digest="sha256:2", serving=False), ready=True, name="assistant-1"),
            ),
            (False, "AsWanted"),
        ),
    ],
)
def test_different_versions_of_a_model_are_told(pods: tuple[PodView, ...], expected: tuple[bool, str]) -> None:
    condition = degraded(endpoint_spec(replicas=2), observed(*pods))
    assert outcome(condition) == expected
    if expected[0]:
        assert "tiny:latest has the digests sha256:1 and sha256:2" in condition.message
