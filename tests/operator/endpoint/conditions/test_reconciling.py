"""The condition Reconciling."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmendpoint_common.contracts.sidecar import ModelPhase
from llmendpoint_operator.endpoint.conditions.reconciling import reconciling
from llmendpoint_operator.endpoint.observe import Observation, PodView
from support.in_memory.endpoints import endpoint_spec
from support.in_memory.observations import (
    CONFLICT,
    FORBIDDEN,
    INVALID,
    MONITOR_CONFLICT,
    NO_MONITORS,
    NO_PODS,
    READY,
    UNWATCHED,
    model,
    observed,
    outcome,
    view,
)

SETTLED = Observation(1, 1, True, ())


@pytest.mark.parametrize(
    ("replicas", "seen", "expected"),
    [
        (1, Observation(1, 1, True, ()), (False, "Settled")),
        (1, Observation(1, 1, False, ()), (True, "RollingOut")),
        (1, Observation(1, 0, True, ()), (True, "RollingOut")),
        (1, Observation(2, 1, True, ()), (True, "RollingOut")),
        (2, Observation(1, 1, True, ()), (True, "RollingOut")),
        (1, NO_PODS, (True, "RollingOut")),
        (0, Observation(0, 0, True, ()), (False, "ScaledToZero")),
        (0, Observation(1, 0, True, ()), (True, "RollingOut")),
        # Pods of the last generation run, but the spec is not applied.
        (1, replace(SETTLED, refused=(FORBIDDEN,)), (True, "NotApplied")),
        (1, replace(SETTLED, refused=(MONITOR_CONFLICT,)), (True, "NotApplied")),
        (1, replace(SETTLED, refused=(NO_MONITORS,)), (False, "Settled")),
        (1, replace(SETTLED, deleting=("StatefulSet/assistant",)), (True, "NotApplied")),
        # A tool must not wait for what needs a person.
        (1, replace(SETTLED, refused=(INVALID,)), (False, "Stalled")),
        (1, replace(NO_PODS, refused=(CONFLICT,)), (False, "Stalled")),
        (1, replace(SETTLED, invalid="spec.replicas: two"), (False, "Stalled")),
    ],
)
def test_status_and_reason(replicas: int, seen: Observation, expected: tuple[bool, str]) -> None:
    assert outcome(reconciling(endpoint_spec(replicas=replicas), seen)) == expected


def test_a_child_that_is_being_deleted_while_paused_is_not_promised_again() -> None:
    condition = reconciling(endpoint_spec(), replace(SETTLED, deleting=("StatefulSet/assistant",), paused=True))
    assert outcome(condition) == (True, "Paused")
    assert "creates it again" not in condition.message
    assert "StatefulSet/assistant is being deleted." in condition.message


def test_pods_count_against_the_number_that_the_autoscaler_has_set() -> None:
    spec = endpoint_spec(autoscaling={"minReplicas": 1, "maxReplicas": 5})
    assert outcome(reconciling(spec, replace(SETTLED, scaled_to=1))) == (False, "Settled")
    assert outcome(reconciling(spec, replace(SETTLED, scaled_to=3))) == (True, "RollingOut")
    paused = reconciling(spec, replace(SETTLED, replicas=0, ready_replicas=0, scaled_to=0))
    assert outcome(paused) == (False, "ScaledToZero")
    assert "If KEDA is paused" in paused.message


def test_the_message_says_that_pods_have_an_old_template() -> None:
    spec = endpoint_spec()
    assert "latest pod template" in reconciling(spec, Observation(1, 1, False, ())).message
    assert "latest pod template" not in reconciling(spec, Observation(1, 0, False, ())).message


@pytest.mark.parametrize(
    ("seen", "sentence"),
    [
        (Observation(2, 1, True, ()), "The endpoint is being scaled to zero: 2 pods still exist."),
        (Observation(1, 0, False, ()), "The endpoint is being scaled to zero: 1 pod still exists."),
        (Observation(0, 0, False, ()), "The endpoint is being scaled to zero: the StatefulSet does not show it yet."),
    ],
)
def test_the_way_to_zero_is_told_in_pods_that_are_left(seen: Observation, sentence: str) -> None:
    found = reconciling(endpoint_spec(replicas=0), seen)
    assert (outcome(found), found.message) == ((True, "RollingOut"), sentence)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("StatefulSet", (True, "NotWatched")),
        ("ServiceAccount", (True, "NotWatched")),
        ("ServiceMonitor", (False, "Settled")),
    ],
)
@pytest.mark.parametrize("replicas", [0, 1])
def test_an_endpoint_is_not_settled_while_its_objects_cannot_be_seen(
    kind: str, expected: tuple[bool, str], replicas: int
) -> None:
    seen = Observation(replicas, replicas, True, (), unwatched=(UNWATCHED[kind],))
    found = outcome(reconciling(endpoint_spec(replicas=replicas), seen))
    assert found == (expected if replicas or expected[0] else (False, "ScaledToZero"))


def test_a_tool_does_not_wait_for_a_spec_that_a_person_has_to_correct() -> None:
    seen = replace(SETTLED, invalid="spec.replicas: two", unwatched=(UNWATCHED["Pod"],))
    assert outcome(reconciling(endpoint_spec(), seen)) == (False, "Stalled")


READ = view(READY, ready=True)


@pytest.mark.parametrize(
    ("pod", "expected", "words"),
    [
        (READ, (False, "Settled"), "match the spec"),
        (replace(READ, outdated=True), (True, "RollingOut"), "assistant-0: the metering sidecar has not read"),
        (
            view(model(ModelPhase.PULLING, present=True, serving=False, message="pulled 1 MB of 2 MB"), ready=True),
            (True, "ChangingModels"),
            "tiny:latest: pulled 1 MB of 2 MB",
        ),
        (
            view(model(ModelPhase.FAILED, reason="LoadFailed", serving=False, message="does not fit"), ready=True),
            (True, "ChangingModels"),
            "does not fit",
        ),
        # An evicted model is loaded again, which is not a change.
        (view(model(ModelPhase.LOADING, present=True), ready=True), (False, "Settled"), ""),
    ],
)
def test_replicas_that_change_their_models_differ_from_the_spec(
    pod: PodView, expected: tuple[bool, str], words: str
) -> None:
    condition = reconciling(endpoint_spec(), observed(pod))
    assert outcome(condition) == expected
    assert words in condition.message
