"""The volumes of an endpoint's pod."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmendpoint_common.contracts.pod import is_own_volume, own_folder
from support.documents.golden import read_spec
from support.in_memory.endpoints import children, pod


@pytest.mark.parametrize(
    ("storage", "templates", "volume"),
    [
        ({"size": "5Gi", "storageClassName": "fast"}, 1, None),
        ({"type": "Ephemeral", "sizeLimit": "2Gi"}, 0, {"name": "models", "emptyDir": {"sizeLimit": "2Gi"}}),
        (
            {"type": "ExistingClaim", "claimName": "c"},
            0,
            {"name": "models", "persistentVolumeClaim": {"claimName": "c"}},
        ),
    ],
)
def test_storage(storage: dict[str, Any], templates: int, volume: dict[str, Any] | None) -> None:
    statefulset = children(storage=storage)["StatefulSet/assistant"]["spec"]
    assert len(statefulset.get("volumeClaimTemplates", [])) == templates
    assert (volume in statefulset["template"]["spec"]["volumes"]) == (volume is not None)


def test_a_claim_has_the_size_and_class_of_the_spec() -> None:
    (default,) = children()["StatefulSet/assistant"]["spec"]["volumeClaimTemplates"]
    assert default["spec"] == {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "50Gi"}}}
    storage = {"size": "5Gi", "storageClassName": "fast"}
    (claim,) = children(storage=storage)["StatefulSet/assistant"]["spec"]["volumeClaimTemplates"]
    assert claim["spec"]["resources"]["requests"] == {"storage": "5Gi"}
    assert claim["spec"]["storageClassName"] == "fast"


def test_a_claim_without_a_class_is_not_one_of_the_default_class() -> None:
    """Kubernetes provisions no volume for a claim with an empty class, and one of the default class without the field."""
    (claim,) = children(storage={"storageClassName": ""})["StatefulSet/assistant"]["spec"]["volumeClaimTemplates"]
    assert claim["spec"]["storageClassName"] == ""


def test_a_missing_secret_of_keys_keeps_no_pod_from_starting() -> None:
    spec = pod(metering={"auth": {"secretRefs": [{"name": "keys"}, {"name": "new-keys"}]}})
    secrets = [volume["secret"] for volume in spec["volumes"] if "secret" in volume]
    assert secrets == [{"secretName": "keys", "optional": True}, {"secretName": "new-keys", "optional": True}]


@pytest.mark.parametrize("storage", [{}, {"type": "Ephemeral"}, {"type": "ExistingClaim", "claimName": "c"}])
def test_every_mount_has_its_volume(storage: dict[str, Any]) -> None:
    made = children(storage=storage, metering={"auth": {"secretRefs": [{"name": "keys"}]}})
    statefulset = made["StatefulSet/assistant"]["spec"]
    spec = statefulset["template"]["spec"]
    volumes = {volume["name"] for volume in spec["volumes"]}
    volumes |= {claim["metadata"]["name"] for claim in statefulset.get("volumeClaimTemplates", [])}
    mounts = {mount["name"] for item in spec["containers"] + spec["initContainers"] for mount in item["volumeMounts"]}
    assert mounts == volumes


def test_volumes_of_the_spec_are_mounted_in_ollama_alone() -> None:
    volumes: list[dict[str, Any]] = [
        {"name": "a", "persistentVolumeClaim": {"claimName": "c", "readOnly": True}},
        {"name": "b", "configMap": {"name": "m", "items": [{"key": "k", "path": "p", "mode": 0}], "optional": True}},
        {"name": "c", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}},
        {"name": "d", "emptyDir": {}},
        {"name": "e", "image": {"reference": "r.example/m:1"}},
        {"name": "f", "csi": {"driver": "d.example", "volumeAttributes": {"x": "y"}}},
    ]
    mounts = [{"name": volume["name"], "mountPath": f"/{volume['name']}"} for volume in volumes]
    mounts[0] |= {"subPath": "x", "readOnly": True}
    made = pod(pod={"volumes": volumes, "ollamaVolumeMounts": mounts})
    assert made["volumes"] == [*pod()["volumes"], *volumes]
    assert made["initContainers"][0]["volumeMounts"] == [*pod()["initContainers"][0]["volumeMounts"], *mounts]
    assert made["containers"] == pod()["containers"]


def test_names_and_folders_of_the_operator_are_reserved() -> None:
    """The schema refuses them in a spec, so the lists have to be complete."""
    spec = read_spec(Path(__file__).parents[1] / "golden", "everything")
    given = {**spec, "podTemplate": None, "pod": {**spec["pod"], "volumes": [], "ollamaVolumeMounts": []}}
    made = children(**given)["StatefulSet/assistant"]["spec"]["template"]["spec"]
    assert [volume["name"] for volume in made["volumes"] if not is_own_volume(volume["name"])] == []
    mounts = [mount["mountPath"] for mount in made["initContainers"][0]["volumeMounts"]]
    assert [path for path in mounts if not own_folder(path)] == []


@pytest.mark.parametrize(
    ("path", "folder"),
    [
        ("/models", "/models"),
        ("/models/a", "/models"),
        ("/home", "/home/ollama"),
        ("/home/ollama/.ollama", "/home/ollama"),
        ("/models2", ""),
        ("/home/other", ""),
        ("/gguf", ""),
    ],
)
def test_folders_above_and_below_those_of_the_operator_are_reserved_too(path: str, folder: str) -> None:
    assert own_folder(path) == folder
