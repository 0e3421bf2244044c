"""What the token of a load pod, and pods of others, can do on a real API server."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import msgspec
import pytest
from kubernetes.client.exceptions import ApiException

from llmendpoint_common.contracts.cluster import LOADTEST
from llmendpoint_common.contracts.loadrun import STATUS_PORT, Progress, RunDocument, RunLoad, RunTarget
from llmendpoint_loadjob.result.timings import Sample
from support.api_server.apiclient import Client
from support.api_server.manifests import loadtest
from support.load.outcomes import Outcome, summarize
from support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("operator")

RESULT = "smoke-result-0"
HIDDEN = {
    "app.kubernetes.io/managed-by": None,
    "app.kubernetes.io/component": None,
    "llmendpoint.dev/loadtest": "other",
}
TAMPERED = {"ownerReferences": None, "finalizers": ["example.com/stay"]}


@pytest.fixture
def run(api: Any) -> None:
    """A load test whose Job may create its pod. No Job controller and no kubelet do it."""
    api.apply(loadtest("smoke", endpointRef=None, target={"url": "http://x"}, model="m:1"))
    wait_until(lambda: (api.get("Job", "smoke") or {}).get("spec", {}).get("suspend") is False)


@pytest.fixture
def pods_client(api: Any, run: None, control_plane: Any, tmp_path: Path) -> Iterator[Client]:
    """A client with the token of the load pod's ServiceAccount."""
    path = f"/api/v1/namespaces/{api.namespace}/serviceaccounts/smoke-load/token"
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
    token = json.loads(api.client.request("POST", path, body=body))["status"]["token"]
    config = json.loads(control_plane.admin.read_text())
    config["users"][0]["user"] = {"token": token}
    (tmp_path / "pod.kubeconfig").write_text(json.dumps(config))
    client = Client(tmp_path / "pod.kubeconfig")
    yield client
    client.close()


@pytest.fixture
def patch(api: Any, pods_client: Client) -> Callable[[dict[str, Any]], Any]:
    """Patch the result ConfigMap as the load pod."""
    return lambda body: pods_client.patch("ConfigMap", api.namespace, RESULT, body)


def result(**changes: Any) -> dict[str, str]:
    outcome = Outcome([Sample("id", "q", "Math", 0.0, 0.0, 0.1, 0.2, 0.2, 200, output_tokens=2)], duration=1.0)
    document = RunDocument(RunTarget("http://x"), "m:1", RunLoad(concurrency=1))
    summary = msgspec.to_builtins(summarize(outcome, document))
    return {"summary.json": json.dumps({**summary, **changes})}


def is_restored(api: Any) -> bool:
    metadata = api.get("ConfigMap", RESULT)["metadata"]
    owners = [(owner["uid"], owner["controller"]) for owner in metadata.get("ownerReferences", [])]
    has_label = metadata["labels"].get("llmendpoint.dev/loadtest") == "smoke"
    return (
        has_label and "finalizers" not in metadata and owners == [(api.get(LOADTEST, "smoke")["metadata"]["uid"], True)]
    )


def is_deleted_or_left_to_the_garbage_collector(api: Any, owner_uid: str) -> bool:
    """Return whether the map does not exist, or Kubernetes would delete it, because its owner does not exist.

    If the operator sees the change of the map before the deletion of the LoadTest, it restores the owner and removes
    the finalizer. These tests run without a garbage collector.
    """
    body = api.get("ConfigMap", RESULT)
    if body is None:
        return True
    owners = [owner["uid"] for owner in body["metadata"].get("ownerReferences", [])]
    return owners == [owner_uid] and "finalizers" not in body["metadata"]


def verdict(api: Any) -> str:
    return str((api.get(LOADTEST, "smoke").get("status") or {}).get("verdict", ""))


def message(api: Any) -> str:
    return str(
        next(row["message"] for row in api.get(LOADTEST, "smoke")["status"]["conditions"] if row["type"] == "Passed")
    )


@pytest.mark.parametrize(
    "labels", [{}, {"llmendpoint.dev/questions": "true"}, HIDDEN], ids=["shown", "questions", "hidden"]
)
def test_metadata_that_a_load_pod_changed_is_restored_and_the_run_goes_on(
    api: Any, patch: Callable[[dict[str, Any]], Any], labels: dict[str, Any]
) -> None:
    patch({"metadata": {**TAMPERED, "labels": labels}})
    wait_until(lambda: is_restored(api))
    labels_now = api.get("ConfigMap", RESULT)["metadata"]["labels"]
    assert labels_now["app.kubernetes.io/managed-by"] == "llmendpoint"
    assert labels_now["app.kubernetes.io/component"] == "result"
    assert "llmendpoint.dev/questions" not in labels_now
    patch({"data": result()})
    wait_until(lambda: verdict(api) == "None")


def test_the_token_of_a_load_pod_is_worth_nothing_after_the_run(
    api: Any, patch: Callable[[dict[str, Any]], Any]
) -> None:
    patch({"data": result()})
    wait_until(lambda: verdict(api) == "None")

    def is_forbidden() -> bool:
        try:
            patch({"metadata": TAMPERED})
        except ApiException as error:
            return bool(error.status == 403)
        return False

    wait_until(is_forbidden)
    wait_until(lambda: is_restored(api))


def test_a_hidden_map_does_not_outlive_its_test(
    api: Any, operator: Any, patch: Callable[[dict[str, Any]], Any]
) -> None:
    owner = api.get(LOADTEST, "smoke")["metadata"]["uid"]
    operator.send_signal(signal.SIGSTOP)
    try:
        patch({"metadata": {**TAMPERED, "labels": HIDDEN}})
        api.delete(LOADTEST, "smoke")
    finally:
        operator.send_signal(signal.SIGCONT)
    wait_until(lambda: is_deleted_or_left_to_the_garbage_collector(api, owner))


def test_a_finalizer_of_a_load_pod_does_not_stop_the_garbage_collector(
    api: Any, operator: Any, patch: Callable[[dict[str, Any]], Any]
) -> None:
    operator.send_signal(signal.SIGSTOP)
    try:
        patch({"metadata": {"finalizers": ["example.com/stay"]}})
        api.delete(LOADTEST, "smoke")
        api.delete("ConfigMap", RESULT)  # as the garbage collector does
        assert api.get("ConfigMap", RESULT)["metadata"]["deletionTimestamp"]
    finally:
        operator.send_signal(signal.SIGCONT)
    wait_until(lambda: api.get("ConfigMap", RESULT) is None)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (
            result(categories=[*json.loads(result()["summary.json"])["categories"] * 2]),
            "two categories have the same name",
        ),
        (result(requests=2**63), "requests"),
        ({"summary.json": "not a result"}, "not valid"),
        ({"summary.json": '{"x": ' + "[" * 50_000}, "not valid"),
    ],
)
def test_a_result_that_is_not_valid_ends_the_run(
    api: Any, patch: Callable[[dict[str, Any]], Any], data: dict[str, str], reason: str
) -> None:
    patch({"data": data})
    wait_until(lambda: verdict(api) == "Error")
    assert f"ConfigMap {RESULT}: " in message(api)
    assert reason in message(api)


def test_a_map_that_was_replaced_is_not_the_result(api: Any, run: None) -> None:
    api.delete("ConfigMap", RESULT)
    api.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": RESULT}, "data": result()})
    wait_until(lambda: verdict(api) == "Error")
    assert "was deleted or replaced" in message(api)
    assert "ownerReferences" not in api.get("ConfigMap", RESULT)["metadata"]


class _Progress(BaseHTTPRequestHandler):
    """The `/status` of a load pod that has done 40 % of its run."""

    def do_GET(self) -> None:
        self.server.asked += 1  # type: ignore[attr-defined]
        body = msgspec.json.encode(Progress(40, 4, 0, 1, 9, 0.5))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


@pytest.fixture
def status_server() -> Iterator[HTTPServer]:
    server = HTTPServer(("127.77.6.1", STATUS_PORT), _Progress)
    server.asked = 0  # type: ignore[attr-defined]
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def load_pod(name: str, *references: dict[str, Any]) -> dict[str, Any]:
    labels = {"llmendpoint.dev/loadtest": "smoke", "app.kubernetes.io/component": "load",
              "app.kubernetes.io/managed-by": "llmendpoint"}  # fmt: skip
    metadata = {"name": name, "labels": labels, "ownerReferences": list(references)}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"containers": [{"name": "a", "image": "b"}]},
    }


def test_progress_comes_from_the_pod_of_the_job_alone(api: Any, operator: Any, run: None, status_server: Any) -> None:
    status = {"phase": "Running", "podIP": "127.77.6.1", "podIPs": [{"ip": "127.77.6.1"}]}
    api.apply(load_pod("forged"))
    api.apply_status({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "forged"}, "status": status})
    before = operator.metric("llmendpoint_operator_reconciles_total")
    wait_until(lambda: operator.metric("llmendpoint_operator_reconciles_total") >= before + 3)
    assert status_server.asked == 0
    job = {"apiVersion": "batch/v1", "kind": "Job", "name": "smoke", "controller": True}
    api.apply(load_pod("real", {**job, "uid": api.get("Job", "smoke")["metadata"]["uid"]}))
    api.apply_status({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "real"}, "status": status})
    wait_until(lambda: api.get(LOADTEST, "smoke")["status"].get("progressPercent") == 40)
    assert api.get(LOADTEST, "smoke")["status"]["progress"] == {"requests": 4, "errors": 0, "inFlight": 1}
