"""The container of Ollama."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from llmendpoint_operator.endpoint.pod.ollama import image_problem, ollama_image
from support.in_memory.endpoints import SETTINGS, endpoint_spec, pod


def ollama(**spec: Any) -> dict[str, Any]:
    (container,) = pod(**spec)["initContainers"]
    return dict(container)


def environment(**spec: Any) -> dict[str, str]:
    return {item["name"]: item["value"] for item in ollama(**spec)["env"]}


def test_ollama_starts_first_and_has_the_gpu() -> None:
    assert ollama()["restartPolicy"] == "Always"
    assert ollama()["resources"]["limits"] == {"nvidia.com/gpu": "1"}
    assert "memory" not in ollama()["resources"]["limits"]
    assert "limits" not in ollama(gpu={"count": 0})["resources"]
    assert ollama(gpu={"count": 2, "resource": "amd.com/gpu"})["resources"]["limits"] == {"amd.com/gpu": "2"}


def test_ollamas_settings_become_its_environment() -> None:
    settings = {"numParallel": 4, "contextLength": 8192, "keepAlive": "1h", "flashAttention": True, "kvCacheType": "q8_0",
                "maxQueue": 9, "env": [{"name": "OLLAMA_DEBUG", "value": "1"}]}  # fmt: skip
    assert environment(ollama=settings) == {
        "OLLAMA_HOST": "127.0.0.1:11434", "OLLAMA_MODELS": "/models", "HOME": "/home/ollama", "OLLAMA_NUM_PARALLEL": "4",
        "OLLAMA_MAX_LOADED_MODELS": "32", "OLLAMA_MAX_QUEUE": "9", "OLLAMA_CONTEXT_LENGTH": "8192", "OLLAMA_KEEP_ALIVE": "1h",
        "OLLAMA_FLASH_ATTENTION": "1", "OLLAMA_KV_CACHE_TYPE": "q8_0", "OLLAMA_DEBUG": "1",
    }  # fmt: skip


def test_only_an_exporter_opens_ollama_to_clients() -> None:
    assert "ports" not in ollama()
    exporter = ollama(metering={"mode": "Exporter"})
    assert [port["containerPort"] for port in exporter["ports"]] == [11434]
    assert environment(metering={"mode": "Exporter"})["OLLAMA_HOST"] == "0.0.0.0:11434"


def test_the_probes_of_an_exporter_connect_to_loopback() -> None:
    for name in ("startupProbe", "livenessProbe"):
        command = ollama(metering={"mode": "Exporter"})[name]["exec"]["command"]
        assert command == ["env", "OLLAMA_HOST=127.0.0.1:11434", "ollama", "list"]


@pytest.mark.parametrize(
    ("default", "rocm", "expected"),
    [
        ("docker.io/ollama/ollama:0.17.4", "", "docker.io/ollama/ollama:0.17.4-rocm"),
        ("registry.example:5000/ollama:latest", "", "registry.example:5000/ollama:rocm"),
        ("ollama/ollama:0.17.4-rocm", "", "ollama/ollama:0.17.4-rocm"),
        ("ollama/ollama:0.17.4", "mirror.example/ollama:1", "mirror.example/ollama:1"),
        # A digest names one variant, and without a tag there is nothing to derive from.
        ("ollama/ollama@sha256:1", "", ""),
        ("ollama/ollama:0.17.4@sha256:1", "", ""),
        ("registry.example:5000/ollama", "", ""),
        ("ollama/ollama@sha256:1", "ollama/ollama@sha256:2", "ollama/ollama@sha256:2"),
    ],
)
def test_the_default_image_for_amd(default: str, rocm: str, expected: str) -> None:
    images = replace(SETTINGS.images, ollama=default, ollama_rocm=rocm)
    amd = endpoint_spec(gpu={"resource": "amd.com/gpu"})
    assert ollama_image(amd, images) == expected
    assert bool(image_problem(amd, images)) == (not expected)
    # Neither NVIDIA's GPUs nor an image in the spec depend on it.
    assert ollama_image(endpoint_spec(), images) == default
    own = endpoint_spec(gpu={"resource": "amd.com/gpu"}, ollama={"image": "own:1"})
    assert (ollama_image(own, images), image_problem(own, images)) == ("own:1", "")


def test_a_bundle_is_mounted_where_its_variable_points_to() -> None:
    bundle = {"caBundleRef": {"name": "ca", "key": "ca.crt"}}
    mounts = {mount["mountPath"]: mount for mount in ollama(ollama=bundle)["volumeMounts"]}
    folder = environment(ollama=bundle)["SSL_CERT_DIR"].split(":")[0]
    assert mounts[folder] == {"name": "ca-bundle", "mountPath": folder, "readOnly": True}
    assert "SSL_CERT_DIR" not in environment()


def test_folders_that_are_written_to_are_volumes() -> None:
    mounts = {mount["mountPath"]: mount["name"] for mount in ollama()["volumeMounts"]}
    variables = environment()
    assert mounts[variables["OLLAMA_MODELS"]] == "models"
    assert mounts[variables["HOME"]] == "home"
    assert "/tmp" in mounts


def test_a_restart_of_a_hung_ollama_is_a_file_that_fails_the_liveness_probe() -> None:
    stall = {"stall": {"restart": True}}
    probe = ollama(metering=stall)["livenessProbe"]
    *_, path = probe["exec"]["command"]
    assert probe["exec"]["command"] == ["test", "!", "-e", path]
    # Of the container alone, within seconds.
    assert (probe["periodSeconds"], probe["failureThreshold"], probe["terminationGracePeriodSeconds"]) == (5, 1, 5)
    (sidecar,) = pod(metering=stall)["containers"]
    assert f"--stall-restart-file={path}" in sidecar["args"]
    (volume,) = [volume for volume in pod(metering=stall)["volumes"] if volume["name"] == "signals"]
    assert "emptyDir" in volume
    mounts = [
        next(mount for mount in container["volumeMounts"] if mount["name"] == "signals")
        for container in (ollama(metering=stall), sidecar)
    ]
    assert all(path.startswith(f"{mount['mountPath']}/") for mount in mounts)
    assert [mount.get("readOnly", False) for mount in mounts] == [True, False]


def test_without_a_restart_the_pod_is_the_same_as_without_the_field() -> None:
    assert pod(metering={"stall": {"after": "1h"}}) == pod()
    assert ollama()["livenessProbe"]["exec"]["command"] == ["ollama", "list"]
