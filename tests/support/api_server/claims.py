"""Claims of an endpoint's replicas, as the StatefulSet controller creates them, and what their driver does with them."""

from __future__ import annotations

from typing import Any


def storage_class(name: str, *, expandable: bool) -> dict[str, Any]:
    """Return a StorageClass whose driver does not run."""
    return {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name},
            "provisioner": "driver.example", "allowVolumeExpansion": expandable}  # fmt: skip


def claim(name: str, storage: str, size: str = "50Gi", endpoint: str = "assistant") -> dict[str, Any]:
    """Return a claim of a StorageClass."""
    labels = {"llmendpoint.dev/endpoint": endpoint, "app.kubernetes.io/component": "endpoint"}
    spec = {"accessModes": ["ReadWriteOnce"], "storageClassName": storage, "volumeName": f"volume-of-{name}",
            "resources": {"requests": {"storage": size}}}  # fmt: skip
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "labels": labels},
        "spec": spec,
    }


def bound(name: str, size: str, *conditions: dict[str, Any]) -> dict[str, Any]:
    """Return the status of a claim that has a volume of this size."""
    status = {"phase": "Bound", "capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"],
              "conditions": list(conditions)}  # fmt: skip
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "status": status}
