"""Manifests for several API tests."""

from __future__ import annotations

from typing import Any

API_VERSION = "llmendpoint.dev/v1alpha1"


def endpoint(name: str, **spec: Any) -> dict[str, Any]:
    """Return an LLMEndpoint. Fields that are None are omitted."""
    return _object("LLMEndpoint", name, {"models": [{"name": "tiny:latest"}], **spec})


def loadtest(name: str, **spec: Any) -> dict[str, Any]:
    """Return a LoadTest. Fields that are None are omitted."""
    return _object("LoadTest", name, {"endpointRef": {"name": "assistant"}, **spec})


def schedule(name: str, **spec: Any) -> dict[str, Any]:
    """Return a LoadTestSchedule. Fields that are None are omitted."""
    template = {"spec": {"endpointRef": {"name": "assistant"}}}
    return _object("LoadTestSchedule", name, {"schedule": "0 3 * * *", "template": template, **spec})


def _object(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    given = {field: value for field, value in spec.items() if value is not None}
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": given}


def pod(name: str, owner: str, statefulset_uid: str) -> dict[str, Any]:
    """Return a pod of an endpoint, as the StatefulSet controller creates it, with the fields that the operator reads."""
    controller = {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "name": owner,
        "uid": statefulset_uid,
        "controller": True,
    }
    labels = {
        "llmendpoint.dev/endpoint": owner,
        "app.kubernetes.io/component": "endpoint",
        "app.kubernetes.io/managed-by": "llmendpoint",
    }
    spec = {"containers": [{"name": "sidecar", "image": "none"}]}
    metadata = {"name": name, "labels": labels, "ownerReferences": [controller]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
