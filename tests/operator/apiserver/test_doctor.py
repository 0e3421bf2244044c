"""`llmendpoint doctor` on a real API server with the operator: each fault that is injected gives exactly its cause.

An API server alone has no scheduler, kubelet and controllers. The tests write in their place what these would write.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from llmendpoint_common.contracts.cluster import LLMENDPOINT
from support.api_server.control_plane import ControlPlane
from support.api_server.manifests import endpoint, pod
from support.api_server.monitoring_kinds import definition
from support.api_server.operator_process import OperatorProcess
from support.api_server.webhooks import registration, serve_webhook
from support.waiting import wait_until

NOW = "2026-01-02T03:04:05Z"


@pytest.fixture(scope="module")
def plane(start_control_plane: Callable[[], Any]) -> Iterator[ControlPlane]:
    """An API server of our own, whose operator and definitions a test may remove."""
    with start_control_plane() as made:
        yield made


@pytest.fixture(scope="module")
def operator(plane: ControlPlane, start_operator: Callable[..., OperatorProcess]) -> Iterator[OperatorProcess]:
    """An operator that holds a Lease, as in the chart. The last tests end it."""
    process = start_operator("--leader-election", kubeconfig=plane.operator)
    yield process
    process.terminate()
    assert process.wait(20) == 0


@pytest.fixture
def api(plane: ControlPlane, operator: OperatorProcess, make_namespace: Callable[..., Any]) -> Any:
    """An administrator's client in a namespace of its own, which the operator serves."""
    return make_namespace(plane=plane)


def doctor(kubeconfig: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Run the doctor, and return its exit code and its report."""
    environment = {name: value for name, value in os.environ.items() if name != "KUBECONFIG"}
    command = [sys.executable, "-m", "llmendpoint_cli", "doctor", "--format=json", f"--kubeconfig={kubeconfig}"]
    done = subprocess.run([*command, *arguments], check=False, capture_output=True, text=True, env=environment)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def only(kubeconfig: Path, *arguments: str) -> dict[str, Any]:
    """Return the only finding."""
    code, report = doctor(kubeconfig, *arguments)
    assert len(report["findings"]) == 1, report
    assert code == 1
    return dict(report["findings"][0])


def condition(api: Any, kind: str, name: str = "assistant") -> dict[str, Any]:
    rows = ((api.get(LLMENDPOINT, name) or {}).get("status") or {}).get("conditions") or []
    return next((dict(row) for row in rows if row["type"] == kind), {})


def until(api: Any, kind: str, reason: str, seconds: float = 60) -> str:
    """Wait until a condition has a reason, and return its message."""
    wait_until(lambda: condition(api, kind).get("reason") == reason, seconds)
    return str(condition(api, kind)["message"])


def make_pod(api: Any, status: dict[str, Any] | None = None, **spec: Any) -> None:
    """Create an endpoint and its pod, as the StatefulSet controller does, with a status."""
    api.apply(endpoint("assistant", **spec))
    made = wait_until(lambda: api.get("StatefulSet", "assistant"))
    api.apply(pod("assistant-0", "assistant", made["metadata"]["uid"]))
    if status is not None:
        api.apply_status({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "assistant-0"}, "status": status})


def unscheduled(message: str) -> dict[str, Any]:
    row = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
           "lastTransitionTime": NOW}  # fmt: skip
    return {"phase": "Pending", "conditions": [row]}


def waiting(reason: str, message: str) -> dict[str, Any]:
    container = {
        "name": "ollama", "image": "registry.example/ollama:1", "imageID": "", "ready": False, "restartCount": 0,
        "state": {"waiting": {"reason": reason, "message": message}},
    }  # fmt: skip
    return {"phase": "Pending", "initContainerStatuses": [container]}


AFFINITY = "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector."
PRODUCTS = {"gpu": {"count": 1, "products": ["NVIDIA-NOPE"]}}
PODS = "kubectl -n {namespace} describe pods -l llmendpoint.dev/endpoint=assistant"


@pytest.mark.parametrize(
    ("status", "spec", "reason", "cause", "command"),
    [
        (unscheduled("0/3 nodes are available: 3 Insufficient nvidia.com/gpu."), {}, "Unschedulable", "NoGPUFree",
         "kubectl describe nodes"),
        (unscheduled(AFFINITY), PRODUCTS, "Unschedulable", "GPUProductNotFound",
         "kubectl get nodes -L nvidia.com/gpu.product"),
        (unscheduled("0/3 nodes are available: 3 Insufficient cpu."), {}, "Unschedulable", "PodPending", PODS),
        (unscheduled("0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims."), {}, "Unschedulable",
         "ClaimPending", "kubectl -n {namespace} describe pvc"),
        (waiting("ImagePullBackOff", "Back-off pulling image"), {}, "ImagePullFailed", "ImagePullFailed", PODS),
    ],
    ids=["no GPU", "no such product", "pending", "claim", "image"],
)  # fmt: skip
def test_a_pod_that_does_not_run(
    api: Any, plane: ControlPlane, status: dict[str, Any], spec: dict[str, Any], reason: str, cause: str, command: str
) -> None:
    make_pod(api, status, **spec)
    message = until(api, "Ready", reason)
    finding = only(plane.admin, f"{api.namespace}/assistant")
    assert (finding["cause"], finding["severity"]) == (cause, "error")
    assert finding["sentence"] == message
    assert finding["command"] == command.format(namespace=api.namespace)


def test_an_exhausted_quota(api: Any, plane: ControlPlane) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "q"},
        "spec": {"hard": {"services": "1"}},
    }
    api.apply(quota)
    api.apply_status({**quota, "status": {"hard": {"services": "1"}, "used": {"services": "0"}}})
    api.apply(endpoint("assistant"))
    until(api, "Degraded", "QuotaExceeded")
    until(api, "Ready", "QuotaExceeded")
    finding = only(plane.admin, f"{api.namespace}/assistant")
    assert finding["cause"] == "QuotaExceeded"
    assert "exceeded quota: q, requested: services=1" in finding["sentence"]
    assert finding["command"] == f"kubectl -n {api.namespace} describe resourcequota"


def test_a_webhook_that_does_not_work(api: Any, plane: ControlPlane, tmp_path: Path) -> None:
    with serve_webhook(tmp_path) as (_, config):
        manifest = registration(api.namespace, api.namespace, config, timeout=4)
    # Nobody listens any more.
    api.client.apply(manifest)
    try:
        wait_until(partial(is_probe_refused, api))
        api.apply(endpoint("assistant"))
        until(api, "Degraded", "WebhookFailed")
        until(api, "Ready", "WebhookFailed")
        finding = only(plane.admin, f"{api.namespace}/assistant")
    finally:
        api.client.delete(manifest["kind"], "", manifest["metadata"]["name"])
    assert finding["cause"] == "WebhookFailed"
    assert finding["command"] == "kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations"


def is_probe_refused(api: Any) -> bool:
    """Return whether the API server calls the webhook, which it does shortly after its registration."""
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "a", "image": "b"}]}}
    spec = {"serviceName": "probe", "selector": {"matchLabels": {"a": "b"}}, "template": template}
    api.delete_if_there("StatefulSet", "probe")
    probe = {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "probe"}, "spec": spec}
    return bool(api.is_refused(probe))


def test_an_endpoint_that_starts_is_not_a_fault(api: Any, plane: ControlPlane) -> None:
    api.apply(endpoint("assistant"))
    until(api, "Ready", "Starting")
    code, report = doctor(plane.admin, f"{api.namespace}/assistant")
    assert code == 0
    assert [(row["severity"], row["cause"]) for row in report["findings"]] == [("info", "Starting")]
    states = {check["name"]: check["state"] for check in report["checks"]}
    assert set(states.values()) == {"ok"}
    assert f"{api.namespace}/assistant" in states


def test_an_endpoint_that_does_not_exist(api: Any, plane: ControlPlane) -> None:
    assert only(plane.admin, f"{api.namespace}/nope")["cause"] == "EndpointNotFound"


def test_a_user_with_few_rights_gets_what_they_may_read(api: Any, plane: ControlPlane) -> None:
    rule = {"apiGroups": ["llmendpoint.dev"], "resources": ["llmendpoints"], "verbs": ["get"]}
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "r"}, "rules": [rule]}
    subject = {"kind": "Group", "name": "strangers", "apiGroup": "rbac.authorization.k8s.io"}
    reference = {"kind": "Role", "name": "r", "apiGroup": "rbac.authorization.k8s.io"}
    binding = {**role, "kind": "RoleBinding", "subjects": [subject], "roleRef": reference}
    del binding["rules"]
    make_pod(api, waiting("ImagePullBackOff", "Back-off pulling image"))
    until(api, "Ready", "ImagePullFailed")
    name = f"{api.namespace}/assistant"
    # Without the Role, the user may read nothing of ours, and is told so.
    assert only(plane.stranger, name)["cause"] == "ClusterUnreachable"
    api.apply(role)
    api.apply(binding)
    wait_until(lambda: doctor(plane.stranger, name)[1]["findings"][0]["cause"] == "ImagePullFailed")
    code, report = doctor(plane.stranger, name)
    assert (code, len(report["findings"])) == (1, 1)
    words = {check["words"] for check in report["checks"] if check["state"] == "not checked"}
    assert {"you may not read Leases", "you may not read CustomResourceDefinitions"} <= words


def test_an_api_server_that_does_not_answer(tmp_path: Path, plane: ControlPlane) -> None:
    config = json.loads(plane.admin.read_text())
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:9"
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(config))
    finding = only(path)
    assert finding["cause"] == "ClusterUnreachable"
    assert "https://127.0.0.1:9" in finding["sentence"]


@pytest.mark.timeout(240)  # the operator looks for new kinds once per minute
def test_a_monitor_that_no_prometheus_selects(api: Any, plane: ControlPlane) -> None:
    for kind, plural in (("ServiceMonitor", "servicemonitors"), ("Prometheus", "prometheuses")):
        api.client.apply(definition(kind, plural))
        wait_until(partial(is_served, api, kind))
    spec = {"serviceMonitorSelector": {"matchLabels": {"release": "prom"}}, "serviceMonitorNamespaceSelector": {}}
    metadata = {"name": "k8s"}
    api.apply({"apiVersion": "monitoring.coreos.com/v1", "kind": "Prometheus", "metadata": metadata, "spec": spec})
    api.apply(endpoint("assistant", monitoring={"mode": "ServiceMonitor"}))

    def is_not_selected() -> bool:
        # An edit makes the operator compare the selectors again. Without one, it does so every five minutes.
        api.patch(LLMENDPOINT, "assistant", {"metadata": {"annotations": {"example.com/edited": str(time.time())}}})
        return condition(api, "MonitoringReady").get("reason") == "NotSelected"

    wait_until(is_not_selected, 180, every=1)
    message = str(condition(api, "MonitoringReady")["message"])
    finding = only(plane.admin, f"{api.namespace}/assistant")
    assert (finding["cause"], finding["severity"]) == ("MonitorNotSelected", "warning")
    assert finding["sentence"] == message
    # The command fixes it.
    api.patch(LLMENDPOINT, "assistant", json.loads(shlex.split(finding["command"])[-1]))
    until(api, "MonitoringReady", "ServiceMonitor")


def test_an_operator_that_does_not_run(api: Any, plane: ControlPlane, operator: OperatorProcess) -> None:
    """The conditions of the endpoint are those of an operator that has ended, so they are not reported."""
    make_pod(api, waiting("ImagePullBackOff", "Back-off pulling image"))
    until(api, "Ready", "ImagePullFailed")
    operator.terminate()
    assert operator.wait(20) == 0
    finding = only(plane.admin, f"{api.namespace}/assistant")
    assert finding["cause"] == "OperatorNotRunning"
    assert finding["command"].startswith("helm install llmendpoint ")


def test_definitions_that_are_outdated_and_absent(plane: ControlPlane) -> None:
    assert plane.client is not None
    client = plane.client
    name = "llmendpoints.llmendpoint.dev"
    current = client.get("CustomResourceDefinition", "", name)
    assert current is not None
    (version,) = current["spec"]["versions"]
    del version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["autoscaling"]
    rules = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["x-kubernetes-validations"]
    version["schema"]["openAPIV3Schema"]["properties"]["spec"]["x-kubernetes-validations"] = [
        rule for rule in rules if "autoscaling" not in rule["rule"]
    ]
    client.patch("CustomResourceDefinition", "", name, {"spec": {"versions": [version]}})
    _, report = doctor(plane.admin)
    outdated = [row for row in report["findings"] if row["cause"] == "DefinitionsOutdated"]
    assert len(outdated) == 1
    assert "LLMEndpoint.spec.autoscaling" in outdated[0]["sentence"]
    client.delete("CustomResourceDefinition", "", name)
    wait_until(lambda: doctor(plane.admin)[1]["findings"][0]["cause"] == "DefinitionsAbsent")
    finding = only(plane.admin)
    assert "does not have the kind LLMEndpoint:" in finding["sentence"]


def is_served(api: Any, kind: str) -> bool:
    try:
        api.client.items(kind, api.namespace)
    except Exception:
        return False
    return True
