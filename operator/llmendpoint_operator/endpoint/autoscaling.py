"""Tells whether the autoscaler of an endpoint works, from its conditions."""

from __future__ import annotations

from llmendpoint_common.api.endpoint.spec import LLMEndpointSpec
from llmendpoint_operator.kube.owner import Manifest
from llmendpoint_operator.settings import Actuator

#: The kind of the autoscaler, by actuator.
KINDS_OF_ACTUATORS = {Actuator.KEDA: "ScaledObject", Actuator.HPA: "HorizontalPodAutoscaler"}
#: The conditions that are False if an autoscaler does not work, by kind.
_CONDITIONS = {"ScaledObject": ("Ready", "HPAActive"), "HorizontalPodAutoscaler": ("AbleToScale", "ScalingActive")}
#: Reasons for which they are False for a while: without pods, and before the first look.
_EXPECTED = frozenset({"ScalingDisabled", ""})

_STAYS = "so the number of pods does not follow the load."
_NO_ACTUATOR = (
    f"spec.autoscaling is set, but the operator was installed without an autoscaler, {_STAYS} Set the value "
    "autoscaling.actuator of the operator's chart to KEDA or HPA, or replace spec.autoscaling by spec.replicas."
)
_FAILS = (
    "{kind} {name} does not work, so the number of pods does not follow the load: {condition} is False with reason "
    "{reason}: {message}. {advice}"
)
_ADVICE = {
    "ScaledObject": "Check that KEDA reaches Prometheus (value prometheus.url of the operator's chart), and that "
    "Prometheus scrapes the endpoint (condition MonitoringReady).",
    "HorizontalPodAutoscaler": "Check that an adapter serves the metrics of docs/scaling.md "
    "(kubectl get --raw /apis/external.metrics.k8s.io/v1beta1), and that Prometheus scrapes the endpoint (condition "
    "MonitoringReady).",
}


def autoscaling_trouble(spec: LLMEndpointSpec, actuator: Actuator | None, autoscaler: Manifest | None) -> str:
    """Return a sentence if the number of pods does not follow the load, or nothing.

    `autoscaler` is the child, with its conditions. It is None if the child does not exist; a fault then says why.
    """
    if spec.autoscaling is None:
        return ""
    if actuator is None:
        return _NO_ACTUATOR
    return "" if autoscaler is None else _failure(KINDS_OF_ACTUATORS[actuator], autoscaler)


def _failure(kind: str, autoscaler: Manifest) -> str:
    rows = {row["type"]: row for row in (autoscaler.get("status") or {}).get("conditions") or []}
    for name in _CONDITIONS[kind]:
        row = rows.get(name, {})
        if row.get("status") == "False" and row.get("reason", "") not in _EXPECTED:
            return _FAILS.format(
                kind=kind,
                name=autoscaler["metadata"]["name"],
                condition=name,
                reason=row["reason"],
                message=str(row.get("message", "")).rstrip(". "),
                advice=_ADVICE[kind],
            )
    return ""
