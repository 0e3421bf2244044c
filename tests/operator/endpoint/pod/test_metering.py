"""The container of the metering sidecar."""

from __future__ import annotations

from typing import Any

from llmendpoint_sidecar.settings import parse_settings
from support.endpoints import pod


def metering(**spec: Any) -> dict[str, Any]:
    (container,) = pod(**spec)["containers"]
    return dict(container)


def test_an_exporter_is_out_of_the_path() -> None:
    exporter = metering(metering={"mode": "Exporter"})
    assert "--exporter" in exporter["args"]
    assert not [flag for flag in exporter["args"] if flag.startswith("--listen")]
    assert [port["name"] for port in exporter["ports"]] == ["metrics"]


def test_ports_are_those_of_the_arguments() -> None:
    settings = parse_settings(metering()["args"])
    ports = {port["name"]: port["containerPort"] for port in metering()["ports"]}
    assert ports == {"proxy": settings.listen.port, "metrics": settings.admin_listen.port}


def test_keys_are_mounted_where_the_sidecar_reads_them() -> None:
    container = metering(metering={"auth": {"secretRefs": [{"name": "keys"}, {"name": "new-keys"}]}})
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    assert "--keys=/etc/llmendpoint-keys/0" in container["args"]
    assert "--keys=/etc/llmendpoint-keys/1" in container["args"]
    for index in range(2):
        assert mounts[f"/etc/llmendpoint-keys/{index}"]["name"] == f"keys-{index}"
        assert mounts[f"/etc/llmendpoint-keys/{index}"]["readOnly"] is True


def test_resources_override_the_defaults_one_by_one() -> None:
    requests = {"cpu": "100m", "memory": "96Mi", "ephemeral-storage": "64Mi"}
    assert metering()["resources"] == {"requests": requests, "limits": {"memory": "512Mi"}}
    given = metering(metering={"resources": {"requests": {"cpu": "1"}}})["resources"]
    assert given == {"requests": {**requests, "cpu": "1"}, "limits": {"memory": "512Mi"}}
