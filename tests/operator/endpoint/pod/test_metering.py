"""The container of the metering sidecar."""

from __future__ import annotations

from typing import Any

from llmendpoint_sidecar.settings import parse_settings
from support.in_memory.endpoints import pod


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


def test_an_endpoint_with_several_workers_starts_a_sidecar_with_them() -> None:
    container = metering(metering={"workers": 3, "stall": {"after": "90s", "restart": True}})
    settings = parse_settings(container["args"])
    assert settings.workers == 3
    # The supervisor detects a hung Ollama over all workers, and requests its restart.
    assert str(settings.stall_restart_file).startswith("/run/llmendpoint/")


def test_one_worker_is_the_default_and_no_argument() -> None:
    # So the pods of an endpoint are not restarted by an upgrade of the operator.
    assert metering(metering={"workers": 1}) == metering()
    assert parse_settings(metering()["args"]).workers == 1


def test_default_resources_are_those_of_each_worker() -> None:
    given = metering(metering={"workers": 2})["resources"]
    assert given == {
        "requests": {"cpu": "200m", "memory": "192Mi", "ephemeral-storage": "64Mi"},
        "limits": {"memory": "1024Mi"},
    }
    memory = metering(metering={"workers": 2, "resources": {"limits": {"memory": "300Mi"}}})["resources"]
    assert (memory["requests"]["memory"], memory["limits"]) == ("192Mi", {"memory": "300Mi"})


def test_resources_override_the_defaults_one_by_one() -> None:
    requests = {"cpu": "100m", "memory": "96Mi", "ephemeral-storage": "64Mi"}
    assert metering()["resources"] == {"requests": requests, "limits": {"memory": "512Mi"}}
    given = metering(metering={"resources": {"requests": {"cpu": "1"}}})["resources"]
    assert given == {"requests": {**requests, "cpu": "1"}, "limits": {"memory": "512Mi"}}
