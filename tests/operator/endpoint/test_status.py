"""The complete status of an endpoint. `conditions/` has the tests of each condition."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from llmendpoint_common.contracts.cluster import EndpointCondition
from llmendpoint_common.contracts.sidecar import ModelPhase
from llmendpoint_operator.endpoint.observe import Observation, Replicas
from llmendpoint_operator.endpoint.status import endpoint_status, gpu_text, unparsed_status
from llmendpoint_operator.policy.rules import Violation
from llmendpoint_operator.policy.use import Use
from support.in_memory.endpoints import OWNER, endpoint_spec
from support.in_memory.observations import (
    CONFLICT,
    FORBIDDEN,
    INVALID,
    MISSING,
    NO_MONITORS,
    ON_CPU,
    PULLING,
    QUOTA,
    READY,
    UNWATCHED,
    model,
    view,
)

VIOLATION = Violation("serviceTypes", Use("spec.service.type", "NodePort"), ())

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def status(seen: Observation, **spec: Any) -> dict[str, Any]:
    return endpoint_status({"metadata": {"generation": 3}}, OWNER, endpoint_spec(**spec), seen, NOW)


def conditions(seen: Observation, **spec: Any) -> dict[str, tuple[str, str]]:
    rows = status(seen, **spec)["conditions"]
    assert all(row["observedGeneration"] == 3 and row["message"] for row in rows)
    return {row["type"]: (row["status"], row["reason"]) for row in rows}


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (Observation(1, 1, True, (view(READY, ready=True),)),
         {"Ready": ("True", "ModelsAnswer"), "Reconciling": ("False", "Settled"), "ModelsAvailable": ("True", "AllPresent"),
          "ModelsLoaded": ("True", "AllLoaded"), "GPUOffloaded": ("True", "WhollyOnGPU"), "Degraded": ("False", "AsWanted")}),
        (Observation(0, 0, False, ()), {"Ready": ("False", "Starting"), "ModelsAvailable": ("Unknown", "Starting")}),
        (Observation(1, 0, True, (view(PULLING),)), {"Ready": ("False", "ModelPulling"), "ModelsAvailable": ("False", "Pulling")}),
        (Observation(1, 0, True, (view(MISSING),)), {"Ready": ("False", "ModelNotFound"), "ModelsAvailable": ("False", "ModelNotFound")}),
        (Observation(1, 1, True, (view(ON_CPU, ready=True),)), {"Ready": ("True", "ModelsAnswer"), "GPUOffloaded": ("False", "PartlyOnCPU")}),
        (Observation(1, 1, True, (view(model(present=True), ready=True),)), {"Ready": ("True", "ModelsAnswer"), "ModelsLoaded": ("False", "Loading")}),
        (Observation(1, 0, True, (view(trouble="no GPU"),)), {"Ready": ("False", "PodNotRunning")}),
        (Observation(1, 0, True, (), (CONFLICT,)), {"Ready": ("False", "NameConflict"), "Degraded": ("True", "NameConflict")}),
        (Observation(1, 1, True, (), (NO_MONITORS,)), {"MonitoringReady": ("False", "ServiceMonitorUnknown")}),
    ],
)  # fmt: skip
def test_conditions_follow_what_is_seen(seen: Observation, expected: dict[str, tuple[str, str]]) -> None:
    assert expected.items() <= conditions(seen).items()


def test_an_endpoint_of_no_replicas_is_settled_and_says_why() -> None:
    found = conditions(Observation(0, 0, True, ()), replicas=0)
    assert "Ready" not in found
    assert found["Reconciling"] == ("False", "ScaledToZero")
    assert found["Stalled"] == ("False", "NotStalled")
    assert found["Degraded"] == ("False", "AsWanted")
    assert found["ModelsAvailable"] == ("Unknown", "ScaledToZero")
    assert found["ModelsLoaded"] == ("Unknown", "ScaledToZero")


def test_no_message_of_an_endpoint_without_replicas_counts_or_expects_any() -> None:
    for seen in (Observation(0, 0, True, ()), Observation(2, 1, True, ()), Observation(0, 0, False, ())):
        messages = [row["message"] for row in status(seen, replicas=0)["conditions"]]
        for words in ("0 of 0", "All desired replicas", "as soon as its sidecar runs", "latest pod template"):
            assert not any(words in message for message in messages), words


def test_a_model_has_no_sizes_until_a_replica_reports_it() -> None:
    (state,) = status(Observation(1, 0, True, ()))["models"]
    assert not state.keys() & {"sizeBytes", "vramBytes"}
    (state,) = status(Observation(1, 1, True, (view(READY, ready=True),)))["models"]
    assert state.keys() >= {"sizeBytes", "vramBytes"}


def test_a_cpu_endpoint_has_no_gpu_condition() -> None:
    assert "GPUOffloaded" not in conditions(Observation(1, 1, True, ()), gpu={"count": 0})


def test_an_endpoint_has_all_documented_conditions() -> None:
    assert set(conditions(Observation(1, 1, True, ()))) == set(EndpointCondition)


def test_models_are_summed_over_replicas() -> None:
    other = model(present=True, loaded=True, digest="sha256:2", size_bytes=7, vram_bytes=20, progress_percent=100)
    (row,) = status(Observation(3, 2, True, (view(READY), view(other), view(PULLING))))["models"]
    assert row == {
        "name": "tiny:latest",
        "readyReplicas": 2,
        "digests": ["sha256:1", "sha256:2"],
        "sizeBytes": 7,
        "vramBytes": 20,
        "progressPercent": 40,
        "message": "pulled 4 MB of 10 MB",
    }


def test_a_pull_has_a_speed_and_a_remaining_time() -> None:
    pulling = model(ModelPhase.PULLING, progress_percent=40, bytes_per_second=1000, remaining_seconds=60)
    (row,) = status(Observation(2, 1, True, (view(READY), view(pulling))))["models"]
    assert (row["bytesPerSecond"], row["remainingSeconds"]) == (1000, 60)


SETTLED = Observation(1, 1, True, (view(READY, ready=True),))


@pytest.mark.parametrize(
    ("seen", "is_applied"),
    [
        (SETTLED, True),
        (Observation(1, 0, False, ()), True),
        (replace(SETTLED, refused=(NO_MONITORS,)), True),
        (replace(SETTLED, refused=(FORBIDDEN,)), False),
        (replace(SETTLED, refused=(INVALID,)), False),
        (replace(SETTLED, forbidden=(VIOLATION,)), False),
        (replace(SETTLED, invalid="spec.replicas: two"), False),
        (replace(SETTLED, deleting=("StatefulSet/assistant",)), False),
        (replace(SETTLED, unwatched=(UNWATCHED["ConfigMap"],)), False),
        (replace(SETTLED, unwatched=(UNWATCHED["ServiceMonitor"],)), True),
    ],
)
def test_the_observed_generation_is_the_last_one_that_was_applied(seen: Observation, is_applied: bool) -> None:
    def observed(before: dict[str, Any]) -> Any:
        manifest = {"metadata": {"generation": 3}, "status": before}
        return endpoint_status(manifest, OWNER, endpoint_spec(), seen, NOW).get("observedGeneration")

    assert observed({"observedGeneration": 2}) == (3 if is_applied else 2)
    for unseen in ({}, {"observedGeneration": -1}):
        assert observed(unseen) == (3 if is_applied else None)
    # Each condition is about the present spec, whether or not it is applied.
    assert {row["observedGeneration"] for row in status(seen)["conditions"]} == {3}


def test_there_is_no_url_without_a_client_service_of_our_own() -> None:
    assert "url" in status(SETTLED)
    assert "url" not in status(replace(SETTLED, reachable=False))


def test_a_spec_that_cannot_be_parsed_hides_nothing_that_runs() -> None:
    before = status(SETTLED)
    manifest = {"metadata": {"generation": 4}, "status": before}
    after = unparsed_status(manifest, "spec.replicas: many", Replicas(1, 1, True), NOW)
    rows = {row["type"]: (row["status"], row["reason"], row["observedGeneration"]) for row in after["conditions"]}
    assert rows["Ready"] == ("True", "ModelsAnswer", 3)
    assert rows["ModelsLoaded"] == ("True", "AllLoaded", 3)
    assert rows["Stalled"] == ("True", "InvalidSpec", 4)
    assert rows["Reconciling"] == ("False", "Stalled", 4)
    assert (after["observedGeneration"], after["url"], after["models"]) == (3, before["url"], before["models"])
    stopped = unparsed_status(manifest, "spec.replicas: many", Replicas(1, 0, True), NOW)
    assert stopped["readyReplicas"] == 0
    assert {"Ready": ("False", "InvalidSpec")}.items() <= {
        row["type"]: (row["status"], row["reason"]) for row in stopped["conditions"]
    }.items()


@pytest.mark.parametrize(
    ("spec", "present", "expected"),
    [
        ({"replicas": 0}, 0, False),
        ({"replicas": 1}, 0, True),
        ({}, None, True),
        # The autoscaler has stopped all pods.
        ({"replicas": 1, "autoscaling": {"maxReplicas": 3}}, 0, False),
        ({"replicas": 0, "autoscaling": {"maxReplicas": 3}}, 1, True),
    ],
)
def test_a_spec_that_cannot_be_parsed_and_wants_no_pods_is_not_unready(
    spec: dict[str, Any], present: int | None, expected: bool
) -> None:
    """Nobody is meant to be served, so no alert about an outage has to fire."""
    row = {"type": "Ready", "status": "False", "reason": "InvalidSpec", "message": "wrong", "lastTransitionTime": "x"}
    manifest = {"metadata": {"generation": 4}, "spec": spec, "status": {"conditions": [row]}}
    found = unparsed_status(manifest, "wrong", Replicas(0, 0, True), NOW, present=present)
    types = {row["type"] for row in found["conditions"]}
    assert ("Ready" in types) is expected
    assert "Stalled" in types


def test_what_clients_and_kubectl_scale_need() -> None:
    found = status(Observation(2, 1, True, ()), service={"port": 80})
    assert found["url"] == "http://assistant.ns.svc:80"
    assert found["selector"] == "app.kubernetes.io/component=endpoint,llmendpoint.dev/endpoint=assistant"
    assert (found["observedGeneration"], found["replicas"], found["readyReplicas"]) == (3, 2, 1)


@pytest.mark.parametrize(
    ("gpu", "text"),
    [
        ({}, "1 x nvidia.com/gpu"),
        ({"count": 0}, "none"),
        ({"count": 2, "products": ["A", "B"]}, "2 x A/B"),
        ({"resource": "amd.com/gpu"}, "1 x amd.com/gpu"),
    ],
)
def test_gpus_in_words(gpu: dict[str, Any], text: str) -> None:
    assert gpu_text(endpoint_spec(gpu=gpu).wanted_gpu) == text


def test_ready_replicas_of_an_older_spec_do_not_make_the_newest_generation_ready() -> None:
    manifest = {"metadata": {"generation": 3}, "status": {"observedGeneration": 2}}
    seen = Observation(1, 1, True, (view(READY, ready=True),), (QUOTA,))
    rows = endpoint_status(manifest, OWNER, endpoint_spec(), seen, NOW)["conditions"]
    judged = {row["type"]: (row["status"], row["observedGeneration"]) for row in rows}
    assert judged["Ready"] == ("True", 2)
    assert judged["Degraded"] == judged["Reconciling"] == ("True", 3)


def test_a_spec_that_cannot_be_parsed_and_replicas_that_cannot_be_seen() -> None:
    manifest = {"metadata": {"generation": 4}, "status": status(SETTLED)}
    lost = unparsed_status(manifest, "spec.replicas: many", Replicas(1, 1, True), NOW, (UNWATCHED["Pod"],))
    assert _ready(lost) == ("Unknown", "NotWatched")
    found = unparsed_status({**manifest, "status": lost}, "spec.replicas: many", Replicas(1, 1, True), NOW)
    assert _ready(found) == ("True", "ModelsAnswer")


def _ready(found: dict[str, Any]) -> tuple[str, str]:
    return next((row["status"], row["reason"]) for row in found["conditions"] if row["type"] == "Ready")
