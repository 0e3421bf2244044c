"""The container of Ollama."""

from __future__ import annotations

from typing import Any

from support.endpoints import pod


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


def test_folders_that_are_written_to_are_volumes() -> None:
    mounts = {mount["mountPath"]: mount["name"] for mount in ollama()["volumeMounts"]}
    variables = environment()
    assert mounts[variables["OLLAMA_MODELS"]] == "models"
    assert mounts[variables["HOME"]] == "home"
    assert "/tmp" in mounts
