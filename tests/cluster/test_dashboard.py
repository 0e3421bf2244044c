"""The dashboard of the chart: who may see it, what it shows of endpoints and load tests, and what it may read."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from support.on_cluster.cluster import NAMESPACE, Namespace, Parameters, fetch, install_chart, kubectl, new_namespace
from support.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

NAME = "llmendpoint-dashboard"
ACCOUNT = f"system:serviceaccount:{NAMESPACE}:{NAME}"
SYSTEM = Namespace(NAMESPACE)
#: Tries to connect for some seconds, because a network plugin needs a moment for new pods.
PROBE = """
import socket, sys, time
deadline = time.monotonic() + 40
while True:
    try:
        socket.create_connection((sys.argv[1], 3001), 2).close()
        found = "open"
    except OSError:
        found = "closed"
    if found == sys.argv[2] or time.monotonic() > deadline:
        break
    time.sleep(0.5)
print(found)
"""


class Dashboard:
    """A browser's view: requests to the dashboard through a forwarded port."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self._token = token

    def get(self, path: str, token: str | None = None) -> tuple[int, bytes]:
        """Return status and body of a response. An empty token sends none."""
        request = urllib.request.Request(self.url + path)
        used = self._token if token is None else token
        if used:
            request.add_header("Authorization", f"Bearer {used}")
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def section(self, name: str) -> Any:
        """Return a section of the state."""
        status, body = self.get("/api/v1/state")
        assert status == 200, body
        return json.loads(body)["sections"].get(name)

    def row(self, table: str, key: str) -> dict[str, Any]:
        """Return a row by its key, empty if there is none."""
        return next((row for row in self.section(table) if row["key"] == key), {})


@pytest.fixture(scope="module")
def dashboard(chart: None) -> Iterator[Dashboard]:
    """The dashboard with a token and behind a NetworkPolicy, in the restricted namespace of the chart."""
    token = secrets.token_hex(16)
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": NAME}, "stringData": {"token": token}}
    SYSTEM.apply(secret)
    install_chart(
        "llmendpoint", NAMESPACE, "--wait", "--set", f"dashboard.enabled=true,dashboard.auth.secretKeyRef.name={NAME}",
        "--set", f"networkPolicy.enabled=true,networkPolicy.apiServerPorts={{443,{api_server_port()}}}",
        "--set-json", 'networkPolicy.dashboardFrom=[{"podSelector": {"matchLabels": {"role": "browser"}}}]',
    )  # fmt: skip
    with SYSTEM.forward(f"service/{NAME}", 3001) as url:
        yield Dashboard(url, token)
    install_chart("llmendpoint", NAMESPACE, "--wait")
    SYSTEM.run("delete", "secret", NAME)


def api_server_port() -> int:
    """Return the port of the API server behind its Service, which network plugins compare."""
    found = json.loads(kubectl("--namespace", "default", "get", "endpointslices", "kubernetes", "-o", "json"))
    return int(found["ports"][0]["port"])


@pytest.fixture(scope="module")
def team(dashboard: Dashboard, parameters: Parameters) -> Iterator[Namespace]:
    """A namespace with a small endpoint, which is created while the dashboard runs."""
    namespace = new_namespace("dash")
    namespace.apply({
        "apiVersion": "llmendpoint.dev/v1alpha1", "kind": "LLMEndpoint", "metadata": {"name": "assistant"},
        "spec": {"models": [{"name": parameters.model, **parameters.source()}], "gpu": {"count": 0},
                 "storage": {"type": "Ephemeral"}, "pod": {"terminationGracePeriodSeconds": 10}},
    })  # fmt: skip
    yield namespace
    kubectl("delete", "namespace", namespace.name, "--wait=false")


def test_the_page_answers_with_the_token_alone(dashboard: Dashboard) -> None:
    assert dashboard.get("/api/v1/state", token="")[0] == 401
    assert dashboard.get("/api/v1/state", token="another")[0] == 401
    assert dashboard.get("/api/v1/events", token="")[0] == 401
    assert dashboard.get("/api/v1/state")[0] == 200
    assert dashboard.section("about")["mode"] == "cluster"
    assert dashboard.section("about")["cluster"] == ""
    status, page = dashboard.get("/")
    assert status == 200
    assert b"<html" in page


def test_an_endpoint_appears_with_its_conditions_and_becomes_ready(dashboard: Dashboard, team: Namespace) -> None:
    key = f"{team.name}/assistant"
    row = wait_until(lambda: dashboard.row("endpoints", key), 30)
    assert row["models"]
    wait_until(lambda: dashboard.row("endpoints", key)["ready"] == "True", 600, every=1)
    row = dashboard.row("endpoints", key)
    shown = {item["type"]: (item["status"], item["reason"]) for item in row["conditions"]}
    stored = team.get("llmendpoint", "assistant")["status"]
    assert shown == {item["type"]: (item["status"], item["reason"]) for item in stored["conditions"]}
    assert (row["url"], row["readyReplicas"]) == (stored["url"], 1)


def test_traffic_through_the_endpoint_appears(dashboard: Dashboard, team: Namespace, parameters: Parameters) -> None:
    team.run("wait", "--for=condition=Ready", "--timeout=10m", "llmendpoint/assistant")
    source = f"{team.name}/assistant-0"
    wait_until(lambda: source in sources(dashboard), 60)
    wait_until(lambda: sources(dashboard)[source]["state"] == "ok", 60)
    body = {"model": parameters.model, "prompt": "Hello", "stream": True, "options": {"num_predict": 8}}
    with team.forward("service/assistant", 11434) as url:
        wait_until(lambda: fetch(f"{url}/api/generate", body) and generates(dashboard, parameters.model), 60, every=1)
    requests = [row for row in dashboard.section("requests") if row["source"] == source]
    assert requests
    assert {row["model"] for row in requests} == {parameters.model}
    assert dashboard.row("models", f"{source}/{parameters.model}")["state"] == "loaded"


def sources(dashboard: Dashboard) -> dict[str, dict[str, Any]]:
    return {source["name"]: source for source in dashboard.section("about")["sources"]}


def generates(dashboard: Dashboard, model: str) -> bool:
    overview = dashboard.section("overview") or {"models": []}
    return any(row["model"] == model and row["generationTokensPerSecond"] > 0 for row in overview["models"])


def test_a_load_test_appears_with_its_progress_and_its_verdict(dashboard: Dashboard, team: Namespace) -> None:
    team.run("wait", "--for=condition=Ready", "--timeout=10m", "llmendpoint/assistant")
    team.apply({
        "apiVersion": "llmendpoint.dev/v1alpha1", "kind": "LoadTest", "metadata": {"name": "smoke"},
        "spec": {"endpointRef": {"name": "assistant"}, "load": {"concurrency": 1, "warmup": "2s", "duration": "20s"},
                 "request": {"maxTokens": 4}, "slo": [{"metric": "ErrorRate", "threshold": "1%"}]},
    })  # fmt: skip
    key = f"{team.name}/smoke"
    row = wait_until(lambda: dashboard.row("loadtests", key), 30)
    assert row["target"] == f"{team.name}/assistant"
    running = wait_until(lambda: has_progress(dashboard.row("loadtests", key)), 180, every=0.5)
    assert (running["state"], running["verdict"]) == ("running", "")
    ended = wait_until(lambda: has_ended(dashboard.row("loadtests", key)), 180, every=1)
    status = team.get("loadtest", "smoke")["status"]
    assert (ended["verdict"], ended["requests"]) == (status["verdict"], status["summary"]["requests"])
    assert [(item["text"], item["met"]) for item in ended["objectives"]] == [("error rate ≤ 1 %", True)]
    assert ended["reportCommand"] == f"llmendpoint results {team.name}/smoke --out smoke"
    detail = json.loads(dashboard.get(f"/api/v1/loadtests/{team.name}%2Fsmoke")[1])
    assert detail["summary"] == status["summary"]


def has_progress(row: dict[str, Any]) -> dict[str, Any]:
    return row if row["state"] == "running" and 0 < row["percent"] < 100 else {}


def has_ended(row: dict[str, Any]) -> dict[str, Any]:
    return row if row["state"] == "ended" else {}


@pytest.mark.parametrize(
    ("verb", "resource"),
    [
        ("get", "secrets"), ("list", "secrets"), ("list", "configmaps"), ("list", "pods"), ("create", "pods"),
        ("create", "loadtests.llmendpoint.dev"), ("patch", "llmendpoints.llmendpoint.dev"),
        ("delete", "llmendpoints.llmendpoint.dev"), ("create", "pods/exec"), ("list", "nodes"),
    ],
)  # fmt: skip
def test_its_account_can_neither_read_secrets_nor_write(dashboard: Dashboard, verb: str, resource: str) -> None:
    for scope in (["--namespace", NAMESPACE], ["--all-namespaces"]):
        answer = kubectl("auth", "can-i", verb, resource, f"--as={ACCOUNT}", *scope, check=False)
        assert "yes" not in answer, scope


def test_its_account_can_watch_our_resources(dashboard: Dashboard) -> None:
    for resource in ("llmendpoints.llmendpoint.dev", "loadtests.llmendpoint.dev", "endpointslices.discovery.k8s.io"):
        assert "yes" in kubectl("auth", "can-i", "watch", resource, f"--as={ACCOUNT}", "--all-namespaces")


def test_the_test_of_the_release_passes_with_it(dashboard: Dashboard) -> None:
    command = ["helm", "test", "llmendpoint", "--namespace", NAMESPACE, "--timeout", "3m"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_only_given_pods_connect_to_it(dashboard: Dashboard) -> None:
    if connects("stranger", "closed") == "open":
        message = "NETWORK POLICIES WERE NOT TESTED: the network plugin of this cluster does not enforce them"
        pytest.fail(message) if os.environ.get("E2E_NETWORK_POLICY") == "1" else pytest.skip(message)
    assert connects("browser", "open", role="browser") == "open"
    # With a NetworkPolicy of its own, it still reaches the API server and the sidecars.
    assert dashboard.section("about")["cluster"] == ""
    assert [source for source in dashboard.section("about")["sources"] if source["state"] == "ok"]


def connects(name: str, wanted: str, **labels: str) -> str:
    """Return whether a new pod in the namespace of the dashboard reaches its port."""
    (pod,) = json.loads(SYSTEM.run("get", "pods", "-l", "llmendpoint.dev/dashboard=true", "-o", "json"))["items"]
    container = {
        "name": "probe", "image": pod["spec"]["containers"][0]["image"],
        "command": ["python3", "-c", PROBE, pod["status"]["podIP"], wanted],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }  # fmt: skip
    secure = {"runAsNonRoot": True, "runAsUser": 64000, "seccompProfile": {"type": "RuntimeDefault"}}
    spec = {"restartPolicy": "Never", "securityContext": secure, "containers": [container],
            "automountServiceAccountToken": False}  # fmt: skip
    full = f"dashboard-probe-{name}"
    SYSTEM.run("delete", "pod", full, "--ignore-not-found", "--now")
    SYSTEM.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": full, "labels": labels}, "spec": spec})
    SYSTEM.run("wait", "--for=jsonpath={.status.phase}=Succeeded", f"pod/{full}", "--timeout=120s")
    found = SYSTEM.run("logs", full).strip()
    SYSTEM.run("delete", "pod", full, "--now")
    return found
