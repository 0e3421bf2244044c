"""The volumes of an endpoint's pod."""

from __future__ import annotations

from typing import Any

import pytest

from support.endpoints import children, pod


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
