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
from llmendpoint_operator.endpoint.resources.http_route import http_route
from llmendpoint_operator.endpoint.resources.ingress import ingress
from llmendpoint_operator.endpoint.resources.network_policy import network_policy
from llmendpoint_operator.endpoint.resources.pod_monitor import pod_monitor
from llmendpoint_operator.endpoint.resources.service_account import service_account
from llmendpoint_operator.endpoint.resources.service_monitor import service_monitor
from llmendpoint_operator.endpoint.resources.statefulset import statefulset
from llmendpoint_operator.kube.capabilities import ALL_KINDS, Capabilities
from llmendpoint_operator.kube.owner import Manifest, Owner
from llmendpoint_operator.kube.scraping import scrape_mode
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
    owner: Owner,
    spec: LLMEndpointSpec,
    settings: ChildSettings,
    capabilities: Capabilities = ALL_KINDS,
    present: Present = Present(),
) -> list[Manifest]:
    """Return the manifests of all children. A child of the table's kinds that is not among them is pruned.

    `capabilities` are the optional kinds that the cluster has.
    """
    mode = scrape_mode(spec.monitoring.mode, capabilities)
    budget, scaler = spec.disruption_budget, autoscaler(owner, spec, settings)
    manifests = [
        *([] if spec.pod.service_account_name else [service_account(owner)]),
        config_map(owner, spec),
        headless_service(owner, annotated=mode is MonitoringMode.ANNOTATIONS),
        client_service(owner, spec),
        *([network_policy(owner, spec, settings.metrics_access)] if spec.network_policy.enabled else []),
        *([disruption_budget(owner, budget, loading=present.loading)] if budget else []),
        statefulset(owner, spec, settings, replicas.to_write(spec, present.replicas, settings.actuator)),
        *([scaler] if scaler else []),
    ]
    if spec.ingress:
        manifests.append(ingress(owner, spec, spec.ingress))
    if spec.http_route:
        manifests.append(http_route(owner, spec, spec.http_route))
    if mode is MonitoringMode.SERVICE_MONITOR:
        manifests.append(service_monitor(owner, spec, settings.monitor_labels))
    if mode is MonitoringMode.POD_MONITOR:
        manifests.append(pod_monitor(owner, spec, settings.monitor_labels))
    return manifests
