"""The story of a schedule on a cluster: it creates a load test with two pods, whose merged result is fetched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.on_cluster.cluster import Namespace
from support.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

API_VERSION = "llmendpoint.dev/v1alpha1"
#: A schedule of every minute has its next time within a minute.
NEXT = 90
SPEC: dict[str, Any] = {
    "endpointRef": {"name": "assistant"},
    "load": {"rate": "4", "arrivals": "Constant", "duration": "20s", "parallelism": 2},
    "request": {"maxTokens": 4},
    "slo": [{"metric": "ErrorRate", "threshold": "50%"}],
}


def status(namespace: Namespace, kind: str, name: str) -> dict[str, Any]:
    return dict(namespace.get(kind, name).get("status") or {})


@pytest.fixture
def schedule(assistant: Namespace) -> Iterator[str]:
    name = "each-minute"
    spec = {"schedule": "* * * * *", "template": {"spec": SPEC}}
    assistant.apply({"apiVersion": API_VERSION, "kind": "LoadTestSchedule", "metadata": {"name": name}, "spec": spec})
    yield name
    assistant.run("delete", "loadtestschedule", name, "--ignore-not-found")


def suspend(namespace: Namespace, kind: str, name: str) -> None:
    namespace.run("patch", kind, name, "--type=merge", "-p", '{"spec":{"suspend":true}}')


def test_a_schedule_runs_two_pods_and_its_report_is_fetched(
    assistant: Namespace, schedule: str, tmp_path: Path
) -> None:
    (active,) = wait_until(lambda: status(assistant, "lts", schedule).get("active"), NEXT)
    suspend(assistant, "lts", schedule)
    name = active["name"]
    assistant.run("wait", "--for=condition=Complete", "--timeout=4m", f"loadtest/{name}")
    found = status(assistant, "loadtest", name)
    assert (found["verdict"], found["pods"]) == ("Passed", 2), json.dumps(found, indent=1)
    assert 60 <= found["summary"]["requests"] <= 80
    assert "partial" not in found["summary"]
    merged = result(assistant, found["resultConfigMap"]["name"])
    parts = [result(assistant, item["name"]) for item in found["podResultConfigMaps"]]
    assert merged["requests"] == sum(part["requests"] for part in parts) == found["summary"]["requests"]
    assert min(part["requests"] for part in parts) >= 30
    # Both pods measured requests that the sidecars metered as the server reported them.
    assert found["meterAudit"]["found"] > 0
    assert found["meterAudit"]["differing"] == 0
    assert {"client", "prefill"} <= {part["name"] for part in found["summary"]["ttftSplit"]}
    wait_until(lambda: status(assistant, "lts", schedule).get("lastRun") == {"name": name, "verdict": "Passed"}, 30)
    assert status(assistant, "lts", schedule)["lastSuccessfulTime"]
    done = fetch(f"{assistant.name}/{name}", tmp_path / "report")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "report/summary.json").read_text())["requests"] == merged["requests"]
    assert "<html" in (tmp_path / "report/report.html").read_text()
    assistant.run("delete", "lts", schedule)
    wait_until(lambda: name not in assistant.run("get", "loadtests", "-o", "name"), 60)


def test_a_pod_that_is_lost_leaves_its_part_of_a_result_that_is_not_judged(assistant: Namespace) -> None:
    run(assistant, "lossy", {"rate": "4", "duration": "40s", "parallelism": 2})
    wait_for_requests(assistant, "lossy")
    pod, _ = pods(assistant, "lossy")
    assistant.run("delete", pod, "--wait=false")
    assistant.run("wait", "--for=condition=Complete", "--timeout=4m", "loadtest/lossy")
    found = status(assistant, "loadtest", "lossy")
    passed = assistant.condition("loadtest", "lossy", "Passed")
    assert (found["verdict"], passed["reason"]) == ("None", "Canceled"), json.dumps(found, indent=1)
    assert found["summary"]["partial"] is True
    # The other pod has sent all of its requests.
    assert found["summary"]["requests"] > 70


def test_suspend_ends_the_streams_of_a_run_within_seconds(assistant: Namespace) -> None:
    run(assistant, "stopped", {"concurrency": 2, "duration": "10m"})
    wait_for_requests(assistant, "stopped")
    suspend(assistant, "loadtest", "stopped")
    wait_until(lambda: not pods(assistant, "stopped"), 30)
    assistant.run("wait", "--for=condition=Complete", "--timeout=30s", "loadtest/stopped")
    found = status(assistant, "loadtest", "stopped")
    assert found["verdict"] == "None"
    assert found["summary"]["partial"] is True
    assert found["summary"]["requests"] > 0
    message = assistant.condition("loadtest", "stopped", "Passed")["message"]
    assert message.startswith("The run was canceled, because spec.suspend is true.")


def run(namespace: Namespace, name: str, load: dict[str, Any]) -> None:
    spec = {**SPEC, "load": load}
    namespace.apply({"apiVersion": API_VERSION, "kind": "LoadTest", "metadata": {"name": name}, "spec": spec})


def pods(namespace: Namespace, name: str) -> list[str]:
    return namespace.run("get", "pods", "-l", f"llmendpoint.dev/loadtest={name}", "-o", "name").split()


def wait_for_requests(namespace: Namespace, name: str) -> None:
    """Wait until a run has sent requests."""
    wait_until(lambda: status(namespace, "loadtest", name).get("progressPercent"), 90, every=0.2)


def result(namespace: Namespace, config_map: str) -> dict[str, Any]:
    return dict(json.loads(namespace.get("configmap", config_map)["data"]["summary.json"]))


def fetch(name: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Fetch the result of a load test as a user does."""
    command = [sys.executable, "-m", "llmendpoint_cli", "results", name, "--out", str(folder)]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=120, env={**os.environ})
