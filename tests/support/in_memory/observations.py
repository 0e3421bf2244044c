"""Observations of endpoints without a cluster: models, pods and refused children."""

from __future__ import annotations

from typing import Any

from llmendpoint_common.contracts.cluster import FaultReason, PodReason
from llmendpoint_common.contracts.sidecar import ModelPhase, ModelStatus, SidecarStatus, Stall, Totals
from llmendpoint_operator.cluster.kinds import KINDS
from llmendpoint_operator.endpoint.observe import Observation, PodView
from llmendpoint_operator.kube.conditions import Condition
from llmendpoint_operator.kube.fault import Fault
from llmendpoint_operator.kube.unwatched import Unwatched
from llmendpoint_operator.pods.trouble import Trouble


def model(phase: ModelPhase = ModelPhase.READY, name: str = "tiny:latest", **facts: Any) -> ModelStatus:
    """Return the status of a model, as in `/status`."""
    return ModelStatus(name, phase, **facts)


def view(*models: ModelStatus, ready: bool = False, trouble: str = "", name: str = "assistant-0") -> PodView:
    """Return a pod whose sidecar reports these models. `trouble` is the message of a pod that does not run."""
    status = SidecarStatus("1", ready, False, True, "0.17.4", models, Totals())
    return PodView(name, ready, status, Trouble(PodReason.POD_NOT_RUNNING, trouble) if trouble else None)


def observed(*pods: PodView, refused: tuple[Fault, ...] = (), up_to_date: bool = True) -> Observation:
    """Return the observation of an endpoint with these pods."""
    return Observation(len(pods), sum(pod.ready for pod in pods), up_to_date, pods, refused)


def outcome(condition: Condition | None) -> tuple[bool | None, str]:
    """Return status and reason of a condition."""
    assert condition is not None
    assert condition.message
    return condition.status, condition.reason


READY = model(present=True, loaded=True, digest="sha256:1", loaded_bytes=10, vram_bytes=10, progress_percent=100)
ON_CPU = model(present=True, loaded=True, loaded_bytes=10, vram_bytes=4)
EVICTED = model(present=True)
MISSING = model(ModelPhase.FAILED, reason="ModelNotFound", message="no such model")
PULLING = model(ModelPhase.PULLING, progress_percent=40, message="pulled 4 MB of 10 MB")

_STALL = Stall(9.0, "Ollama is hung: no byte.")
HUNG = PodView(
    "assistant-0",
    False,
    SidecarStatus("1", False, False, True, "0.17.4", (READY,), Totals(), _STALL, _STALL),
)
NO_PODS = Observation(0, 0, False, ())
SILENT = PodView("assistant-0", False, None)
UNREACHABLE = PodView("assistant-0", True, None, silence="The operator cannot reach port 8001 of pod assistant-0.")
CONFLICT = Fault(FaultReason.NAME_CONFLICT, "Service/assistant", "Service/assistant is not ours")
BUDGET_CONFLICT = Fault(FaultReason.NAME_CONFLICT, "PodDisruptionBudget/assistant", "PodDisruptionBudget is not ours")
MONITOR_CONFLICT = Fault(FaultReason.NAME_CONFLICT, "ServiceMonitor/assistant", "ServiceMonitor/assistant is not ours")
INVALID = Fault(FaultReason.INVALID, "StatefulSet/assistant", "StatefulSet/assistant: bad value")
INVALID_MONITOR = Fault(FaultReason.INVALID, "ServiceMonitor/assistant", "ServiceMonitor/assistant: bad value")
FORBIDDEN = Fault(FaultReason.FORBIDDEN, "StatefulSet/assistant", "StatefulSet/assistant: no rights")
QUOTA = Fault(FaultReason.QUOTA_EXCEEDED, "Service/assistant", "Service/assistant: exceeded quota")
UNWATCHED = {kind: Unwatched(kind, "", f"{kind} is forbidden") for kind in KINDS}
NO_ROUTES = Fault(FaultReason.UNKNOWN_KIND, "HTTPRoute/assistant", "HTTPRoute/assistant: 404")
NO_MONITORS = Fault(FaultReason.UNKNOWN_KIND, "ServiceMonitor/assistant", "404")
