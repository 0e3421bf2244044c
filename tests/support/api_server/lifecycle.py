"""The parts of the StatefulSet controller, the kubelet and the load pod, for tests on an API server alone."""

from __future__ import annotations

from typing import Any

import msgspec

from llmendpoint_common.contracts.loadrun import Summary
from support.waiting import wait_until


def set_replicas(api: Any, name: str, ready: int, existing: int | None = None) -> None:
    """Write the status of an endpoint's StatefulSet, once its newest spec is there."""
    statefulset = wait_until(lambda: api.get("StatefulSet", name))
    existing = ready if existing is None else existing
    status = {
        "replicas": existing,
        "readyReplicas": ready,
        "updatedReplicas": existing,
        "observedGeneration": statefulset["metadata"]["generation"],
    }
    api.apply_status({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": name}, "status": status})


def publish(api: Any, name: str, summary: Summary) -> None:
    """Write the result of a load test, as its load pod does."""
    wait_until(lambda: api.get("Job", name))
    data = {"summary.json": msgspec.json.encode(summary).decode()}
    api.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"{name}-result-0"}, "data": data})
