"""Specs of endpoints and the manifests of their children, without a cluster."""

from __future__ import annotations

from typing import Any

from llmendpoint_common.api.endpoint.spec import LLMEndpointSpec, parse_spec
from llmendpoint_operator.endpoint.desired import desired
from llmendpoint_operator.kube.owner import Owner
from llmendpoint_operator.settings import ChildSettings, Images

OWNER = Owner("LLMEndpoint", "ns", "assistant", "uid-1")
SETTINGS = ChildSettings(Images("sidecar:1", "loadjob:1", "ollama:1", pull_secrets=("regcred",)))


def endpoint_spec(**spec: Any) -> LLMEndpointSpec:
    """Return the parsed spec of an endpoint with the model tiny:latest and these fields."""
    return parse_spec({"spec": {"models": [{"name": "tiny:latest"}], **spec}})


def children(settings: ChildSettings = SETTINGS, /, **spec: Any) -> dict[str, dict[str, Any]]:
    """Return the children of the endpoint, by "Kind/name"."""
    manifests = desired(OWNER, endpoint_spec(**spec), settings)
    return {f"{item['kind']}/{item['metadata']['name']}": item for item in manifests}


def pod(**spec: Any) -> dict[str, Any]:
    """Return the spec of the endpoint's pods."""
    return dict(children(**spec)["StatefulSet/assistant"]["spec"]["template"]["spec"])
