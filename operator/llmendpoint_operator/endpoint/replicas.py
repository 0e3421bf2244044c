"""The number of pods: which one the operator writes into the StatefulSet, and which one it leaves to an autoscaler.

Without `spec.autoscaling`, the operator writes the number, and restores it. With it, the operator writes the number
only when it creates the StatefulSet, and then gives the field up (`reconcile/handover.py`). A StatefulSet is also
created again: if somebody has deleted it, and if its claim templates have to change. Its pods may still exist then, and
a smaller number would stop some of them, so the number starts from them.
"""

from __future__ import annotations

from collections.abc import Iterable

from llmendpoint_common.api.endpoint.spec import LLMEndpointSpec
from llmendpoint_operator.endpoint import layout
from llmendpoint_operator.kube.owner import Manifest, Owner
from llmendpoint_operator.settings import Actuator


def to_write(spec: LLMEndpointSpec, present: int | None, actuator: Actuator | None) -> int | None:
    """Return the number to write into a StatefulSet that has the number `present`, or None to leave it as it is.

    A HorizontalPodAutoscaler does nothing while the number is 0, so that the operator has to start the first pods:
    https://kubernetes.io/docs/concepts/workloads/autoscaling/horizontal-pod-autoscale/#implicit-maintenance-mode-deactivation
    KEDA starts them itself, unless somebody has paused it.
    """
    if spec.autoscaling is None:
        return spec.wanted_replicas
    return spec.autoscaling.min_replicas if present == 0 and actuator is not Actuator.KEDA else None


def to_start_with(spec: LLMEndpointSpec, owner: Owner, pods: Iterable[Manifest], reported: int) -> int:
    """Return the number for a StatefulSet that is created.

    `pods` are pods with its labels that exist without it. `reported` is the number of pods in the last status.
    """
    if spec.autoscaling is None:
        return spec.wanted_replicas
    return min(max(spec.autoscaling.min_replicas, up_to_highest(owner, pods), reported), spec.autoscaling.max_replicas)


def up_to_highest(owner: Owner, pods: Iterable[Manifest]) -> int:
    """Return the number of pods that a StatefulSet needs so that none of these pods has to stop."""
    prefix = layout.statefulset_name(owner)
    ordinals = (layout.ordinal_of(pod["metadata"]["name"], prefix) for pod in pods)
    return max((ordinal + 1 for ordinal in ordinals if ordinal is not None), default=0)


def wanted(spec: LLMEndpointSpec, present: int | None) -> int:
    """Return the number of pods that should exist, if the StatefulSet has the number `present`."""
    number = scaled_to(spec, present)
    return spec.wanted_replicas if number is None else number


def scaled_to(spec: LLMEndpointSpec, present: int | None) -> int | None:
    """Return the number of pods that should exist, or None if the spec has it."""
    return None if spec.autoscaling is None else present
