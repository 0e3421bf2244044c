"""ConfigMap with the sidecar's configuration file. The sidecar reloads it on change, so no pod restarts."""

from __future__ import annotations

from llmendpoint_common.api.endpoint.spec import LLMEndpointSpec
from llmendpoint_common.api.translate.sidecar_config import config_text, sidecar_config
from llmendpoint_operator.endpoint import layout
from llmendpoint_operator.kube.owner import Manifest, Owner


def config_map(owner: Owner, spec: LLMEndpointSpec) -> Manifest:
    """Return the ConfigMap."""
    config = sidecar_config(spec, (*layout.client_hosts(owner), *layout.outer_hosts(spec)))
    return {
        **owner.child("ConfigMap", layout.config_map_name(owner), "config"),
        "data": {layout.CONFIG_FILE: config_text(config)},
    }
