"""Translates the spec of an LLMEndpoint into the sidecar's configuration file (`--config`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from llmendpoint_common.api import defaults
from llmendpoint_common.api.endpoint.metering import Metering, MeteringMode, TenantLimits
from llmendpoint_common.api.endpoint.models import Model
from llmendpoint_common.api.endpoint.spec import LLMEndpointSpec
from llmendpoint_common.contracts import sidecar
from llmendpoint_common.contracts.sidecar import DeclaredModel, Registry, SidecarConfig, StallConfig, TenantConfig


def sidecar_config(spec: LLMEndpointSpec, service_hosts: Sequence[str] = ()) -> SidecarConfig:
    """Return the sidecar's configuration for an endpoint.

    `service_hosts` are the host names of the endpoint's own Service, Ingress and HTTPRoute. If `allowedHosts` is set,
    these names are allowed in addition to it.
    """
    return SidecarConfig(
        models=tuple(_declared(model) for model in spec.models),
        require_full_offload=spec.wanted_gpu.require_full_offload,
        **_policy(spec.metering, service_hosts),
    )


def config_text(config: SidecarConfig) -> str:
    """Return the text of the configuration file. The JSON is indented, because people read it too."""
    document = msgspec.to_builtins(config)
    if config.stall is None:
        # An older sidecar, whose image a spec can choose, refuses a field that it does not know.
        del document["stall"]
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n"


def _policy(metering: Metering, service_hosts: Sequence[str]) -> dict[str, Any]:
    """Return tenants, limits and settings of admission. Empty for an exporter, which does not carry requests."""
    if metering.mode is MeteringMode.EXPORTER:
        return {}
    return {
        "tenants": tuple(TenantConfig(name=tenant.name, **_limits(tenant)) for tenant in metering.tenants or ()),
        "default_tenant": sidecar.TenantLimits(**_limits(metering.default_tenant or TenantLimits())),
        "max_waiting": metering.max_waiting or defaults.MAX_WAITING,
        "model_management": metering.model_management or defaults.MODEL_MANAGEMENT,
        "include_usage": metering.include_usage or defaults.INCLUDE_USAGE,
        "stall": None if metering.stall is None else StallConfig(metering.stall.after),
        "allowed_hosts": tuple(dict.fromkeys((*metering.allowed_hosts, *service_hosts)))
        if metering.allowed_hosts
        else (),
    }


def _limits(tenant: TenantLimits) -> dict[str, Any]:
    return {
        "requests_per_minute": tenant.requests_per_minute,
        "tokens_per_minute": tenant.tokens_per_minute,
        "max_concurrent": tenant.max_concurrent,
        "allowed_models": None if tenant.allowed_models is None else tuple(tenant.allowed_models),
    }


def _declared(model: Model) -> DeclaredModel:
    source = model.source.registry if model.source else None
    registry = Registry(source.host, source.repository, source.insecure) if source else None
    return DeclaredModel(model.name, model.load, model.digest, registry)
