"""Claims grow while the StatefulSet controller and the garbage collector of Kubernetes run, and operators are killed.

Nothing schedules or runs the pods; the tests play the scheduler, the kubelet and the driver of the volumes.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from llmendpoint_common.contracts.cluster import LLMENDPOINT
from support.api_server.claims import bound, storage_class
from support.api_server.control_plane import find, running_controllers
from support.api_server.killing_proxy import KillingProxy, Point
from support.api_server.manifests import endpoint
from support.waiting import wait_until

# The API servers of envtest come without a controller manager.
pytestmark = pytest.mark.optional

REPLICAS = 2
PODS = [f"assistant-{number}" for number in range(REPLICAS)]


@pytest.fixture(scope="module")
def plane(start_control_plane: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if find("kube-controller-manager") is None:
        pytest.skip("there is no kube-controller-manager here; the cluster tests cover this too")
    controllers = ("statefulset-controller", "garbage-collector-controller")
    with (
        start_control_plane() as plane,
        running_controllers(plane, tmp_path_factory.mktemp("controllers"), *controllers),
    ):
        plane.client.apply(storage_class("expandable", expandable=True))
        yield plane


@pytest.fixture
def start(
    plane: Any, make_namespace: Callable[..., Any], start_operator: Callable[..., Any], tmp_path: Path
) -> Iterator[Callable[..., Any]]:
    """Start an operator for a namespace, which is killed at a point."""
    proxy = KillingProxy(plane.operator, tmp_path)
    started: list[Any] = []

    def start(api: Any, point: Point | None = None) -> Any:
        process = start_operator(f"--namespace={api.namespace}", kubeconfig=proxy.kubeconfig)
        started.append(process)
        if point is not None:
            proxy.arm(point, process.pid)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait(20)
    proxy.close()


def row(api: Any, kind: str) -> dict[str, Any]:
    status = (api.get(LLMENDPOINT, "assistant") or {}).get("status") or {}
    return next((dict(row) for row in status.get("conditions", []) if row["type"] == kind), {})


def pods(api: Any) -> dict[str, str]:
    """Return the UIDs of the pods by name."""
    return {body["metadata"]["name"]: body["metadata"]["uid"] for body in api.client.items("Pod", api.namespace)}


def controllers(api: Any) -> set[str]:
    """Return the UIDs of the objects that control the pods."""
    bodies = api.client.items("Pod", api.namespace)
    return {each["uid"] for body in bodies for each in body["metadata"].get("ownerReferences") or [{"uid": ""}]}


def play_node(api: Any) -> None:
    """Bind the claims and let the pods be Ready, once the StatefulSet controller has created them."""
    ready = [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]
    for name in PODS:
        wait_until(partial(api.get, "Pod", name))
        api.apply_status(bound(f"models-{name}", "50Gi"))
        status = {"phase": "Running", "conditions": ready}
        api.apply_status({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "status": status})


def is_grown(api: Any, before: str) -> bool:
    """Return whether a new StatefulSet controls all pods."""
    made = api.get("StatefulSet", "assistant")
    if made is None or made["metadata"]["uid"] == before:
        return False
    counts = (made.get("status") or {}).get("replicas"), (made.get("status") or {}).get("readyReplicas")
    return counts == (REPLICAS, REPLICAS) and controllers(api) == {made["metadata"]["uid"]}


@pytest.mark.parametrize(
    "point",
    [
        None,
        Point("PATCH", "/persistentvolumeclaims/models-assistant-0", "", after=True),
        Point("DELETE", "/statefulsets/assistant"),
        Point("DELETE", "/statefulsets/assistant", "", after=True),
        Point("PATCH", "/statefulsets/assistant", '"80Gi"'),
        Point("PATCH", "/statefulsets/assistant", '"80Gi"', after=True),
    ],
    ids=str,
)
def test_the_pods_stay_when_claims_grow_whenever_the_operator_is_killed(
    plane: Any, make_namespace: Callable[..., Any], start: Callable[..., Any], point: Point | None
) -> None:
    api = make_namespace("", plane)
    first = start(api, point)
    api.apply(endpoint("assistant", replicas=REPLICAS, storage={"storageClassName": "expandable"}))
    play_node(api)
    wait_until(lambda: row(api, "Reconciling").get("reason") == "Settled", 60)
    since, before, statefulset = row(api, "Ready")["lastTransitionTime"], pods(api), api.get("StatefulSet", "assistant")
    api.patch(LLMENDPOINT, "assistant", {"spec": {"storage": {"size": "80Gi"}}})
    if point is not None:
        wait_until(lambda: first.poll() is not None, 60)
        assert first.returncode == -signal.SIGKILL
        start(api)
    wait_until(lambda: is_grown(api, statefulset["metadata"]["uid"]), 60)
    for name in PODS:
        assert api.get("PersistentVolumeClaim", f"models-{name}")["spec"]["resources"]["requests"]["storage"] == "80Gi"
        api.apply_status(bound(f"models-{name}", "80Gi"))
    wait_until(lambda: row(api, "Reconciling").get("reason") == "Settled", 60)
    # The same pods, of the same revision, and an endpoint that was Ready all the time.
    assert pods(api) == before
    assert row(api, "Ready")["lastTransitionTime"] == since
    made = api.get("StatefulSet", "assistant")
    assert made["status"]["currentRevision"] == statefulset["status"]["currentRevision"]
    assert made["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"] == "80Gi"
