"""The ConfigMap with the sidecar's configuration."""

from __future__ import annotations

from typing import Any

import msgspec

from llmendpoint_common.contracts.sidecar import ModelManagement, SidecarConfig, TenantConfig, TenantLimits
from support.in_memory.endpoints import children, pod


def sidecar_config(**metering: Any) -> SidecarConfig:
    text = children(metering=metering)["ConfigMap/assistant"]["data"]["models.json"]
    return msgspec.json.decode(text, type=SidecarConfig)


def test_an_endpoint_bounds_its_queue_and_forbids_management_by_default() -> None:
    config = sidecar_config()
    assert config.max_waiting == 256
    assert config.model_management is ModelManagement.FORBIDDEN
    assert not config.tenants
    assert sidecar_config(modelManagement="Allowed").model_management is ModelManagement.ALLOWED


def test_limits_reach_the_sidecar_by_its_file_so_that_no_pod_restarts() -> None:
    limits = {
        "tenants": [{"name": "a", "requestsPerMinute": 5, "allowedModels": ["tiny:latest"]}],
        "defaultTenant": {"maxConcurrent": 2},
    }
    auth = {"auth": {"secretRefs": [{"name": "keys"}]}}
    config = sidecar_config(**auth, **limits)
    assert config.tenants == (TenantConfig(name="a", requests_per_minute=5, allowed_models=("tiny:latest",)),)
    assert config.default_tenant == TenantLimits(max_concurrent=2)
    assert pod(metering=auth) == pod(metering={**auth, **limits})


def test_own_service_names_are_always_allowed_hosts() -> None:
    hosts = sidecar_config(allowedHosts=["llm.example.org"]).allowed_hosts
    assert hosts == ("llm.example.org", "assistant", "assistant.ns", "assistant.ns.svc")
    assert sidecar_config().allowed_hosts == ()


def test_hosts_of_an_ingress_and_an_http_route_are_allowed_if_others_are_not() -> None:
    outside = {
        "ingress": {"host": "llm.example.org"},
        "httpRoute": {"parentRefs": [{"name": "public"}], "hostnames": ["llm.example.org", "*.llm.example.com"]},
    }
    text = children(metering={"allowedHosts": ["mine.example"]}, **outside)["ConfigMap/assistant"]["data"][
        "models.json"
    ]
    hosts = msgspec.json.decode(text, type=SidecarConfig).allowed_hosts
    assert hosts[0] == "mine.example"
    assert hosts[-2:] == ("llm.example.org", "*.llm.example.com")
    assert len(set(hosts)) == len(hosts)
    text = children(**outside)["ConfigMap/assistant"]["data"]["models.json"]
    assert msgspec.json.decode(text, type=SidecarConfig).allowed_hosts == ()


def test_the_sidecar_finds_the_file_where_the_volume_is_mounted() -> None:
    (metering,) = pod()["containers"]
    (mount,) = [mount for mount in metering["volumeMounts"] if mount["name"] == "config"]
    (file,) = children()["ConfigMap/assistant"]["data"]
    assert f"--config={mount['mountPath']}/{file}" in metering["args"]
    assert {"name": "config", "configMap": {"name": "assistant"}} in pod()["volumes"]
