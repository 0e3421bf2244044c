"""`llmendpoint load --endpoint` and `llmendpoint results` as processes, on a real API server. The test is the operator."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmendpoint_common.contracts.cluster import API_VERSION
from llmendpoint_common.contracts.loadrun import RESULT_KEY, Summary, Verdict, VerdictReason
from llmendpoint_loadjob.report.files import encode_summary
from support.api_server.control_plane import ControlPlane
from support.load.reports import summary
from support.waiting import wait_until

pytestmark = pytest.mark.api

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(control_plane: ControlPlane, tmp_path: Path) -> Start:
    def run(*arguments: str, stdout: int = subprocess.PIPE) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "llmendpoint_cli.main", *arguments, f"--kubeconfig={control_plane.admin}"],
            stdout=stdout, stderr=subprocess.PIPE, text=True, env=os.environ | {"HOME": str(tmp_path)},
        )  # fmt: skip

    return run


def created(api: Any) -> dict[str, Any]:
    """Return the LoadTest that the command has created."""
    wait_until(lambda: api.client.items("LoadTest", api.namespace), 30)
    (found,) = api.client.items("LoadTest", api.namespace)
    return dict(found)


def finish(api: Any, name: str, result: Summary | None, passed: str = "False") -> None:
    """Write result and verdict as the operator does."""
    verdict, reason = (Verdict.ERROR, VerdictReason.RUN_ERROR) if result is None else (result.verdict, result.reason)
    status: dict[str, Any] = {"verdict": verdict}
    if result is not None:
        data = {RESULT_KEY: encode_summary(result).decode()}
        kept = api.apply(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"{name}-result-0"}, "data": data}
        )
        status["resultConfigMap"] = {"name": f"{name}-result-0", "uid": kept["metadata"]["uid"]}
    at = "2026-03-01T12:00:00Z"
    rows = (("Complete", "True", "Finished"), ("Passed", passed, reason), ("Reconciling", "False", "Finished"),
            ("Stalled", "False", "NotStalled"))  # fmt: skip
    conditions = [
        {
            "type": kind,
            "status": state,
            "reason": why,
            "message": "The end.",
            "lastTransitionTime": at,
            "observedGeneration": 1,
        }
        for kind, state, why in rows
    ]
    api.apply_status(
        {"apiVersion": API_VERSION, "kind": "LoadTest", "metadata": {"name": name},
         "status": {**status, "conditions": conditions}}
    )  # fmt: skip


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    output, error = process.communicate(timeout=60)
    return process.returncode, output, error


def test_a_run_is_created_followed_and_its_report_fetched(api: Any, start: Start, tmp_path: Path) -> None:
    process = start(
        "load",
        f"--endpoint={api.namespace}/assistant",
        "--scenario=Smoke",
        "--slo=ttft:p95=500ms",
        f"--out={tmp_path}/out",
    )
    resource = created(api)
    assert resource["metadata"]["name"].startswith("assistant-load-")
    assert resource["spec"]["endpointRef"] == {"name": "assistant"}
    assert "model" not in resource["spec"]
    # The 95th percentile needs 20 requests, which is more than the scenario sends without objectives.
    assert resource["spec"]["load"]["maxRequests"] == 20
    finish(api, resource["metadata"]["name"], summary())
    code, output, error = ended(process)
    assert code == 99, error
    assert f"LoadTest {api.namespace}/{resource['metadata']['name']} was created" in error
    assert "Failed (ObjectivesMissed): TTFT p95 was 612ms" in output
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"summary.json", "report.html", "summary.csv"}


def test_an_interruption_cancels_the_load_test_and_keeps_its_partial_report(api: Any, start: Start) -> None:
    process = start("load", f"--endpoint={api.namespace}/assistant", "--name=smoke", "--duration=1h", "--model=m:1")
    assert created(api)["metadata"]["name"] == "smoke"
    process.send_signal(signal.SIGINT)
    wait_until(lambda: api.get("LoadTest", "smoke")["spec"].get("suspend") is True, 30)
    finish(api, "smoke", summary(partial=True, verdict=Verdict.NONE, reason=VerdictReason.CANCELED), "Unknown")
    code, output, _ = ended(process)
    assert code == 130
    assert "None (Canceled)" in output


def test_what_the_api_server_refuses_is_quoted(api: Any, start: Start) -> None:
    code, output, error = ended(start("load", f"--endpoint={api.namespace}-x/assistant"))
    assert (code, output) == (1, "")
    assert error.startswith(f"llmendpoint load: a LoadTest in {api.namespace}-x")
    assert "Traceback" not in error


def test_results_are_fetched_and_exit_as_the_verdict(api: Any, start: Start, tmp_path: Path) -> None:
    name = f"{api.namespace}/nightly"
    code, _, error = ended(start("results", name))
    assert (code, error) == (1, f"llmendpoint results: LoadTest {name} does not exist, or llmendpoint is not installed in "
                             "this cluster\n")  # fmt: skip
    spec = {"endpointRef": {"name": "assistant"}, "load": {"concurrency": 1}}
    api.apply({"apiVersion": API_VERSION, "kind": "LoadTest", "metadata": {"name": "nightly"}, "spec": spec})
    code, _, error = ended(start("results", name))
    assert code == 1
    assert f"LoadTest {name} has not ended (0 % done); follow it with --wait" in error
    waiting = start("results", name, "--wait", "--format=json", f"--out={tmp_path}/out")
    finish(api, "nightly", summary())
    code, output, _ = ended(waiting)
    assert code == 99
    assert json.loads(output)["requests"] == 1000
    assert (tmp_path / "out/report.html").is_file()


def test_a_run_without_a_result_says_why(api: Any, start: Start) -> None:
    spec = {"endpointRef": {"name": "assistant"}, "load": {"concurrency": 1}}
    api.apply({"apiVersion": API_VERSION, "kind": "LoadTest", "metadata": {"name": "broken"}, "spec": spec})
    finish(api, "broken", None)
    code, output, error = ended(start("results", f"{api.namespace}/broken"))
    assert (code, output) == (1, "")
    assert error.endswith("Error (RunError): The end.\n")


def test_a_config_map_that_replaced_the_result_is_not_read(api: Any, start: Start) -> None:
    spec = {"endpointRef": {"name": "assistant"}, "load": {"concurrency": 1}}
    api.apply({"apiVersion": API_VERSION, "kind": "LoadTest", "metadata": {"name": "nightly"}, "spec": spec})
    finish(api, "nightly", summary())
    result = api.get("ConfigMap", "nightly-result-0")
    api.delete("ConfigMap", "nightly-result-0")
    api.apply({**result, "metadata": {"name": "nightly-result-0"}})
    code, output, error = ended(start("results", f"{api.namespace}/nightly"))
    assert (code, output) == (99, "")
    assert error.endswith("Failed (ObjectivesMissed): The end.\n")


@pytest.mark.parametrize("has_result", [True, False])
@pytest.mark.parametrize("form", ["table", "json"])
def test_a_result_that_cannot_be_printed_is_an_error(api: Any, start: Start, form: str, has_result: bool) -> None:
    with Path("/dev/full").open("wb") as full:
        process = start("load", f"--endpoint={api.namespace}/assistant", f"--format={form}", stdout=full.fileno())
    finish(api, created(api)["metadata"]["name"], summary() if has_result else None)
    code, _, error = ended(process)
    assert code == 1
    assert "llmendpoint load: the result could not be written to stdout: No space left on device" in error
    assert "Traceback" not in error
