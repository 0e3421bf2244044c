"""The status of an endpoint as a table, and conditions whose transition time tells the truth."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from llmendpoint_common.api.endpoint import parse_spec
from llmendpoint_common.contracts.sidecar import ModelPhase, ModelStatus, SidecarStatus, Totals
from llmendpoint_operator.endpoint.observe import Observation, PodView, trouble
from llmendpoint_operator.endpoint.status import endpoint_status
from llmendpoint_operator.kube.conditions import Condition, merge
from llmendpoint_operator.kube.owner import Owner

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
OWNER = Owner("LLMEndpoint", "ns", "assistant", "uid-1")


def view(*models: ModelStatus, ready: bool = False, trouble: str = "") -> PodView:
    status = SidecarStatus("1", ready, False, True, "0.17.4", models, Totals())
    return PodView("assistant-0", ready, status, trouble)


def model(phase: ModelPhase = ModelPhase.READY, **facts: Any) -> ModelStatus:
    return ModelStatus("tiny:latest", phase, **facts)


READY = model(present=True, loaded=True, digest="sha256:1", loaded_bytes=10, vram_bytes=10, progress_percent=100)
ON_CPU = model(present=True, loaded=True, loaded_bytes=10, vram_bytes=4)
MISSING = model(ModelPhase.FAILED, reason="ModelNotFound", message="no such model")
PULLING = model(ModelPhase.PULLING, progress_percent=40, message="pulled 4 MB of 10 MB")


def conditions(seen: Observation, **spec: Any) -> dict[str, tuple[str, str]]:
    parsed = parse_spec({"spec": {"models": [{"name": "tiny:latest"}], **spec}})
    manifest = {"metadata": {"generation": 3}}
    status = endpoint_status(manifest, OWNER, parsed, seen, NOW)
    assert all(row["observedGeneration"] == 3 and row["message"] for row in status["conditions"])
    return {row["type"]: (row["status"], row["reason"]) for row in status["conditions"]}


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (Observation(1, 1, True, (view(READY, ready=True),)),
         {"Ready": ("True", "ModelsAnswer"), "Progressing": ("False", "Settled"), "ModelsAvailable": ("True", "AllPresent"),
          "ModelsLoaded": ("True", "AllLoaded"), "GPUOffloaded": ("True", "WhollyOnGPU"), "Degraded": ("False", "AsWanted")}),
        (Observation(0, 0, False, ()), {"Ready": ("False", "Starting"), "ModelsAvailable": ("Unknown", "Starting")}),
        (Observation(1, 0, True, (view(PULLING),)), {"Ready": ("False", "ModelPulling"), "ModelsAvailable": ("False", "Pulling")}),
        (Observation(1, 0, True, (view(MISSING),)), {"Ready": ("False", "ModelNotFound"), "ModelsAvailable": ("False", "ModelNotFound")}),
        (Observation(1, 1, True, (view(ON_CPU, ready=True),)), {"Ready": ("True", "ModelsAnswer"), "GPUOffloaded": ("False", "PartlyOnCPU")}),
        (Observation(1, 1, True, (view(model(present=True), ready=True),)), {"Ready": ("True", "ModelsAnswer"), "ModelsLoaded": ("False", "Loading")}),
        (Observation(1, 0, True, (view(trouble="no GPU"),)), {"Ready": ("False", "PodNotRunning")}),
        (Observation(1, 0, True, (), ("Service/assistant",)), {"Ready": ("False", "NameConflict"), "Degraded": ("True", "NameConflict")}),
        (Observation(1, 1, True, (), (), "unknown kind"), {"MonitoringReady": ("False", "ServiceMonitorUnknown")}),
    ],
)  # fmt: skip
def test_conditions_follow_what_is_seen(seen: Observation, expected: dict[str, tuple[str, str]]) -> None:
    assert expected.items() <= conditions(seen).items()


def test_an_endpoint_of_no_replicas_is_not_ready_and_says_why() -> None:
    found = conditions(Observation(0, 0, True, ()), replicas=0)
    assert found["Ready"] == ("False", "ScaledToZero")
    assert found["Degraded"] == ("False", "AsWanted")


def test_a_cpu_endpoint_has_no_gpu_condition() -> None:
    assert "GPUOffloaded" not in conditions(Observation(1, 1, True, ()), gpu={"count": 0})


def test_the_transition_time_moves_only_with_the_status() -> None:
    old = [
        {"type": "Ready", "status": "True", "reason": "A", "message": "m", "lastTransitionTime": "2020-01-01T00:00:00Z"}
    ]
    same = merge(old, [Condition("Ready", True, "B", "n")], 2, NOW)
    assert same[0]["lastTransitionTime"] == "2020-01-01T00:00:00Z"
    assert (same[0]["reason"], same[0]["observedGeneration"]) == ("B", 2)
    assert merge(old, [Condition("Ready", None, "C", "o")], 2, NOW)[0]["lastTransitionTime"] == "2026-01-02T03:04:05Z"


def test_why_a_pod_does_not_run_is_kubernetes_own_words() -> None:
    unscheduled = {
        "metadata": {"name": "p"},
        "status": {"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes"}]},
    }
    assert trouble(unscheduled) == "p: 0/1 nodes"
    waiting = {"name": "ollama", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}
    assert (
        trouble({"metadata": {"name": "p"}, "status": {"initContainerStatuses": [waiting]}})
        == "p, container ollama: ImagePullBackOff: no such image"
    )
    starting = {"name": "ollama", "state": {"waiting": {"reason": "ContainerCreating"}}}
    assert not trouble({"metadata": {"name": "p"}, "status": {"initContainerStatuses": [starting]}})
