"""The command of `helm test`, run against a real operator and API server by a ServiceAccount without rights."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.api_server.control_plane import ControlPlane
from support.api_server.kubectl import Kubectl
from support.api_server.operator_process import OperatorProcess
from support.documents.rendered import by_name, needs_helm, rendered

pytestmark = needs_helm


class ReleaseTest:
    """Runs the command of the pod of `helm test`, with the addresses of this machine."""

    def __init__(self, server: str, credentials: Path) -> None:
        (container,) = by_name(rendered())["Pod/llmendpoint-test"]["spec"]["containers"]
        self._command = [sys.executable, *container["command"][1:]]
        self._more = [f"--api={server}/apis/llmendpoint.dev/v1alpha1", f"--credentials={credentials}", "--timeout=0"]

    def run(self, health: str, *flags: str) -> subprocess.CompletedProcess[str]:
        command = [*self._command, *self._more, f"--operator={health}/readyz", *flags]
        return subprocess.run(command, check=False, capture_output=True, text=True)


@pytest.fixture
def release_test(api: Any, kubectl: Kubectl, control_plane: ControlPlane, tmp_path: Path) -> ReleaseTest:
    api.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}})
    (tmp_path / "token").write_text(kubectl.ok("create", "token", "default"))
    cluster = json.loads(control_plane.admin.read_text())["clusters"][0]["cluster"]
    (tmp_path / "ca.crt").write_bytes(Path(cluster["certificate-authority"]).read_bytes())
    return ReleaseTest(cluster["server"], tmp_path)


def test_the_test_of_a_release_passes_if_the_operator_is_ready(
    release_test: ReleaseTest, operator: OperatorProcess
) -> None:
    done = release_test.run(operator.health, "--timeout=30")
    assert (done.returncode, done.stderr) == (0, "")
    assert "The operator is ready: ok" in done.stdout
    assert "The API server serves LLMEndpoint, LoadTest, LoadTestSchedule." in done.stdout


def test_it_says_why_the_operator_is_not_ready(
    release_test: ReleaseTest, start_operator: Callable[..., OperatorProcess], control_plane: ControlPlane
) -> None:
    # This user may not list anything.
    with start_operator(kubeconfig=control_plane.stranger) as process:
        done = release_test.run(process.health)
        process.terminate()
    assert done.returncode == 1
    assert "The operator is not ready after 0 s." in done.stderr
    assert "HTTP 503: not ready: The first listing of resources is not complete." in done.stderr


def test_it_names_a_kind_that_the_api_server_does_not_serve(
    release_test: ReleaseTest, operator: OperatorProcess
) -> None:
    done = release_test.run(operator.health, "--timeout=30", "--kind=Unknown")
    assert done.returncode == 1
    assert done.stderr.startswith("The API server does not serve Unknown. Install the CustomResourceDefinitions:")


def test_it_says_that_no_pod_of_the_operator_exists(release_test: ReleaseTest) -> None:
    done = release_test.run("http://llmendpoint-metrics.invalid:8080")
    assert done.returncode == 1
    assert "; no pod has this name, see kubectl get pods" in done.stderr
