"""Translates the spec of an LLMEndpoint into the sidecar's configuration file (`--config`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from llmendpoint_common.api import defaults
from llmendpoint_common.api.endpoint.metering import Metering, MeteringMode, TenantLimits
from llmendpoint_common.api.endpoint.models import Model, registry_of
from llmendpoint_common.api.endpoint.spec import LLMEndpointSpec
from llmendpoint_common.api.endpoint.storage import RetentionAction
from llmendpoint_common.contracts import sidecar
from llmendpoint_common.contracts.sidecar import DeclaredModel, Gguf, SidecarConfig, StallConfig, TenantConfig


def sidecar_config(spec: LLMEndpointSpec, own_hosts: Sequence[str] = (), *, gguf_root: str = "") -> SidecarConfig:
    """Return the sidecar's configuration for an endpoint. All its Modelfiles must be inline (`translate.modelfiles`).

    `own_hosts` are the host names of the endpoint's own Service, Ingress and HTTPRoute. If `allowedHosts` is set,
    these names are allowed in addition to it. `gguf_root` is the folder below which the sidecar sees the GGUF files.
    """
    return SidecarConfig(
        models=tuple(_declared(model, gguf_root) for model in spec.models),
        remove_undeclared=spec.storage.retention_policy.when_model_removed is RetentionAction.DELETE,
        require_full_offload=spec.wanted_gpu.require_full_offload,
        **_policy(spec.metering, own_hosts),
    )


def config_text(config: SidecarConfig) -> str:
    """Return the text of the configuration file. The JSON is indented, because people read it too."""
    document = msgspec.to_builtins(config)
    # An older sidecar, whose image a spec can choose, refuses a field that it does not know.
    _drop_unset(document, "stall", "removeUndeclared")
    for model in document["models"]:
        _drop_unset(model, "gguf", "modelfile")
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n"


def _drop_unset(document: dict[str, Any], *names: str) -> None:
    for name in names:
        if not document[name]:
            del document[name]


def _policy(metering: Metering, own_hosts: Sequence[str]) -> dict[str, Any]:
    """Return tenants, limits and settings of admission. Empty for an exporter, which does not carry requests."""
    if metering.mode is MeteringMode.EXPORTER:
        return {}
    hosts = (*metering.allowed_hosts, *own_hosts) if metering.allowed_hosts else ()
    return {
        "tenants": tuple(TenantConfig(name=tenant.name, **_limits(tenant)) for tenant in metering.tenants or ()),
        "default_tenant": sidecar.TenantLimits(**_limits(metering.default_tenant or TenantLimits())),
        "max_waiting": metering.max_waiting or defaults.MAX_WAITING,
        "model_management": metering.model_management or defaults.MODEL_MANAGEMENT,
        "include_usage": metering.include_usage or defaults.INCLUDE_USAGE,
        "stall": None if metering.stall is None else StallConfig(metering.stall.after),
        "allowed_hosts": tuple(dict.fromkeys(hosts)),
    }


def _limits(tenant: TenantLimits) -> dict[str, Any]:
    return {
        "requests_per_minute": tenant.requests_per_minute,
        "tokens_per_minute": tenant.tokens_per_minute,
        "max_concurrent": tenant.max_concurrent,
        "allowed_models": None if tenant.allowed_models is None else tuple(tenant.allowed_models),
    }


def _declared(model: Model, gguf_root: str) -> DeclaredModel:
    registry = model.source.registry if model.source else None
    gguf = model.source.gguf if model.source else None
    return DeclaredModel(
        model.name,
        model.load,
        model.digest,
        registry_of(registry) if registry else None,
        Gguf(gguf.path, gguf_root) if gguf else None,
        _modelfile(model),
    )


def _modelfile(model: Model) -> str | None:
    if model.modelfile is None or model.modelfile.inline is not None:
        return model.modelfile.inline if model.modelfile else None
    raise ValueError(f"{model.name}: the ConfigMap with the Modelfile has not been read")
