"""All children of an endpoint, in the order in which they are applied: what pods need comes before the pods."""

from __future__ import annotations

from dataclasses import dataclass

from llmendpoint_common.api.endpoint.monitoring import MonitoringMode
from llmendpoint_common.api.endpoint.spec import LLMEndpointSpec
from llmendpoint_operator.endpoint import replicas
from llmendpoint_operator.endpoint.resources.autoscaler import autoscaler
from llmendpoint_operator.endpoint.resources.client_service import client_service
from llmendpoint_operator.endpoint.resources.config_map import config_map
from llmendpoint_operator.endpoint.resources.disruption_budget import disruption_budget
from llmendpoint_operator.endpoint.resources.headless_service import headless_service
from llmendpoint_operator.endpoint.resources.service_account import service_account
from llmendpoint_operator.endpoint.resources.service_monitor import service_monitor
from llmendpoint_operator.endpoint.resources.statefulset import statefulset
from llmendpoint_operator.kube.owner import Manifest, Owner
from llmendpoint_operator.settings import ChildSettings


@dataclass(frozen=True)
class Present:
    """What children depend on besides the spec: the present state of the pods.

    `replicas` is the number of pods in the spec of the StatefulSet; it is None if there is no StatefulSet. `loading` is
    whether a pod loads its models.
    """

    replicas: int | None = None
    loading: bool = False


def desired(
    owner: Owner, spec: LLMEndpointSpec, settings: ChildSettings, present: Present = Present()
) -> list[Manifest]:
    """Return the manifests of all children. A child of the table's kinds that is not among them is pruned."""
    scaler = autoscaler(owner, spec, settings)
    budget = spec.disruption_budget
    manifests = [
        service_account(owner),
        config_map(owner, spec),
        headless_service(owner),
        client_service(owner, spec),
        *([disruption_budget(owner, budget, loading=present.loading)] if budget else []),
        statefulset(owner, spec, settings, replicas.to_write(spec, present.replicas, settings.actuator)),
        *([scaler] if scaler else []),
    ]
    if spec.monitoring.mode is not MonitoringMode.NONE:
        manifests.append(service_monitor(owner, spec, settings.monitor_labels))
    return manifests
