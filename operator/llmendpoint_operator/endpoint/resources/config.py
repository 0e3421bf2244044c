"""What the sidecar reads, and the ServiceAccount without token that the pods run as."""

from __future__ import annotations

import msgspec

from llmendpoint_operator.endpoint.resources.statefulset import CONFIG_FILE
from llmendpoint_operator.endpoint.spec import LLMEndpointSpec, Model
from llmendpoint_operator.names import ENDPOINT_LABEL, child_labels
from llmendpoint_operator.owner import Manifest, Owner
from llmendpoint_sidecar.contract import DeclaredModel, Registry, SidecarConfig


def config_map(owner: Owner, spec: LLMEndpointSpec) -> Manifest:
    """Return the ConfigMap with the sidecar's file; the sidecar watches it, so no pod restarts for a new model."""
    config = SidecarConfig(
        models=tuple(_declared(model) for model in spec.models),
        require_full_offload=spec.wanted_gpu.require_full_offload,
    )
    text = msgspec.json.format(msgspec.json.encode(config), indent=2).decode()
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": owner.metadata(owner.name, child_labels(ENDPOINT_LABEL, owner.name, "config")),
        "data": {CONFIG_FILE: text + "\n"},
    }


def service_account(owner: Owner) -> Manifest:
    """Return the ServiceAccount."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": owner.metadata(owner.name, child_labels(ENDPOINT_LABEL, owner.name, "identity")),
        "automountServiceAccountToken": False,
    }


def _declared(model: Model) -> DeclaredModel:
    source = model.source.registry if model.source else None
    registry = Registry(source.host, source.repository, source.insecure) if source else None
    return DeclaredModel(model.name, model.load, model.digest, registry)
