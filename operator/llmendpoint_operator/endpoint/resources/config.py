"""What the sidecar reads, and the ServiceAccount without token that the pods run as."""

from __future__ import annotations

from typing import Any

import msgspec

from llmendpoint_common.api.endpoint import LLMEndpointSpec, Metering, MeteringMode, Model, TenantLimits
from llmendpoint_common.contracts import sidecar
from llmendpoint_common.contracts.sidecar import (
    DeclaredModel,
    IncludeUsage,
    ModelManagement,
    Registry,
    SidecarConfig,
    TenantConfig,
)
from llmendpoint_operator.endpoint.resources.statefulset import CONFIG_FILE
from llmendpoint_operator.kube.owner import Manifest, Owner

_MAX_WAITING = 256


def config_map(owner: Owner, spec: LLMEndpointSpec) -> Manifest:
    """Return the ConfigMap with the sidecar's file; the sidecar watches it, so no pod restarts for a new model."""
    config = SidecarConfig(
        models=tuple(_declared(model) for model in spec.models),
        require_full_offload=spec.wanted_gpu.require_full_offload,
        **_access(owner, spec.metering),
    )
    text = msgspec.json.format(msgspec.json.encode(config), indent=2).decode()
    return {
        **owner.child("ConfigMap", owner.name, "config"),
        "data": {CONFIG_FILE: text + "\n"},
    }


def service_account(owner: Owner) -> Manifest:
    """Return the ServiceAccount."""
    return {
        **owner.child("ServiceAccount", owner.name, "identity"),
        "automountServiceAccountToken": False,
    }


def _access(owner: Owner, metering: Metering) -> dict[str, Any]:
    """Return who may do what; an exporter, which is not in the path, has nothing to say about it."""
    if metering.mode is MeteringMode.EXPORTER:
        return {}
    service = [owner.name, f"{owner.name}.{owner.namespace}", f"{owner.name}.{owner.namespace}.svc"]
    return {
        "tenants": tuple(TenantConfig(name=tenant.name, **_limits(tenant)) for tenant in metering.tenants or ()),
        "default_tenant": sidecar.TenantLimits(**_limits(metering.default_tenant or TenantLimits())),
        "max_waiting": metering.max_waiting or _MAX_WAITING,
        "model_management": metering.model_management or ModelManagement.FORBIDDEN,
        "include_usage": metering.include_usage or IncludeUsage.PASSTHROUGH,
        "allowed_hosts": (*metering.allowed_hosts, *service) if metering.allowed_hosts else (),
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
