"""All children of an endpoint, in the order in which they are applied."""

from __future__ import annotations

from llmendpoint_common.api.endpoint import LLMEndpointSpec, MonitoringMode
from llmendpoint_operator.endpoint.resources.config import config_map, service_account
from llmendpoint_operator.endpoint.resources.monitoring import service_monitor
from llmendpoint_operator.endpoint.resources.services import client_service, headless_service
from llmendpoint_operator.endpoint.resources.statefulset import statefulset
from llmendpoint_operator.kube.owner import Manifest, Owner
from llmendpoint_operator.settings import Images


def desired(owner: Owner, spec: LLMEndpointSpec, images: Images) -> list[Manifest]:
    """Return the manifests that should be there, and no others of these kinds."""
    manifests = [
        service_account(owner),
        config_map(owner, spec),
        headless_service(owner),
        client_service(owner, spec),
        statefulset(owner, spec, images),
    ]
    if spec.monitoring.mode is not MonitoringMode.NONE:
        manifests.append(service_monitor(owner, spec))
    return manifests
