"""How Flux, Helm and kubectl wait for our resources: kstatus and `kubectl wait` against a real API server.

kstatus is Flux's own library, in a small Go program that reads what `kubectl get` prints.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmendpoint_common.contracts.loadrun import MetricName, Objective
from support.api_server.kubectl import Kubectl
from support.api_server.lifecycle import publish, set_replicas
from support.api_server.manifests import endpoint, loadtest, schedule
from support.documents.gitops_loadtests import SAMPLE, summary
from support.load.outcomes import Outcome
from support.waiting import wait_until

ROOT = Path(__file__).parents[3]
OBJECTIVE = {"metric": "TTFT", "percentile": 95, "threshold": "1s"}
Read = Callable[[str], str]


@pytest.fixture(scope="session")
def kstatus_program(tmp_path_factory: pytest.TempPathFactory, require: Callable[..., None]) -> Path:
    """Build the program that computes statuses, which takes half a minute the first time."""
    require("go")
    program = tmp_path_factory.mktemp("kstatus") / "kstatus"
    command = [str(shutil.which("go")), "build", "-buildvcs=false", "-o", str(program), "./cmd/kstatus"]
    subprocess.run(command, check=True, cwd=ROOT / "tests/gitops")
    return program


@pytest.fixture
def kstatus(kstatus_program: Path, kubectl: Kubectl) -> Read:
    """Return a function that computes the status of an object, such as `llmendpoint/assistant`."""

    return lambda name: status_of(kstatus_program, kubectl.ok("get", name, "--output=json"))


def status_of(program: Path, body: str) -> str:
    """Return the status of an object that kubectl printed."""
    done = subprocess.run([program], input=body, capture_output=True, text=True, check=True)
    return done.stdout.split()[1]


def reaches(kstatus: Read, name: str, status: str) -> bool:
    return bool(wait_until(lambda: kstatus(name) == status))


@pytest.mark.parametrize("document", [endpoint("assistant"), loadtest("smoke"), schedule("nightly")])
def test_an_object_is_in_progress_until_an_operator_sees_it(
    kubectl: Kubectl, kstatus_program: Path, document: dict[str, Any]
) -> None:
    # An operator may run, but a dry run creates nothing that it could see.
    created = kubectl.ok("create", "--dry-run=server", "--output=json", "--filename=-", documents=json.dumps(document))
    assert status_of(kstatus_program, created) == "InProgress"


@pytest.mark.usefixtures("operator")
def test_the_life_of_an_endpoint(api: Any, kubectl: Kubectl, kstatus: Read) -> None:
    name = "llmendpoint/assistant"
    api.apply(endpoint("assistant"))
    wait_until(lambda: api.conditions("LLMEndpoint", "assistant"))
    assert kstatus(name) == "InProgress"
    set_replicas(api, "assistant", ready=0, existing=1)
    assert kstatus(name) == "InProgress"
    set_replicas(api, "assistant", ready=1)
    kubectl.ok("wait", "--for=condition=Ready", "--timeout=20s", name)
    assert reaches(kstatus, name, "Current")
    kubectl.ok("scale", name, "--replicas=2")
    assert kstatus(name) == "InProgress"
    wait_until(lambda: api.get("StatefulSet", "assistant")["spec"]["replicas"] == 2)
    set_replicas(api, "assistant", ready=2)
    kubectl.ok("wait", "--for=condition=Reconciling=False", "--timeout=20s", name)
    assert reaches(kstatus, name, "Current")
    kubectl.ok("scale", name, "--replicas=0")
    wait_until(lambda: api.get("StatefulSet", "assistant")["spec"]["replicas"] == 0)
    assert kstatus(name) == "InProgress"  # the pods are being deleted
    set_replicas(api, "assistant", ready=0)
    assert reaches(kstatus, name, "Current")
    assert kubectl.run("wait", "--for=condition=Ready", "--timeout=1s", name).returncode == 1
    api.patch("LLMEndpoint", "assistant", {"metadata": {"finalizers": ["example.org/keep"]}})
    api.delete("LLMEndpoint", "assistant")
    assert kstatus(name) == "Terminating"
    api.patch("LLMEndpoint", "assistant", {"metadata": {"finalizers": None}})
    kubectl.ok("wait", "--for=delete", "--timeout=20s", name)


@pytest.mark.usefixtures("operator")
def test_an_endpoint_whose_name_is_taken_has_failed_until_it_is_free(api: Any, kstatus: Read) -> None:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "assistant"},
               "spec": {"ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}}  # fmt: skip
    api.apply(service)
    api.apply(endpoint("assistant"))
    assert reaches(kstatus, "llmendpoint/assistant", "Failed")
    api.delete("Service", "assistant")
    set_replicas(api, "assistant", ready=1)
    assert reaches(kstatus, "llmendpoint/assistant", "Current")


@pytest.mark.usefixtures("operator")
def test_an_edit_that_is_refused_is_not_current(api: Any, kubectl: Kubectl, kstatus: Read) -> None:
    """A quota that refuses the new spec: the old pods still run, but what was applied is not there."""
    api.apply(endpoint("assistant"))
    set_replicas(api, "assistant", ready=1)
    assert reaches(kstatus, "llmendpoint/assistant", "Current")
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}}
    hard, used = {"hard": {"services.loadbalancers": "0"}}, {"used": {"services.loadbalancers": "0"}}
    api.apply({**quota, "spec": hard})
    api.apply_status({**quota, "status": hard | used})
    api.apply(endpoint("assistant", service={"type": "LoadBalancer"}))
    wait_until(lambda: api.conditions("LLMEndpoint", "assistant")["Degraded"] == ("True", "QuotaExceeded"))
    assert kstatus("llmendpoint/assistant") == "InProgress"
    assert kubectl.run("wait", "--for=condition=Ready", "--timeout=1s", "llmendpoint/assistant").returncode == 1
    api.delete("ResourceQuota", "q")
    wait_until(lambda: api.get("Service", "assistant")["spec"]["type"] == "LoadBalancer")
    assert reaches(kstatus, "llmendpoint/assistant", "Current")


@pytest.mark.usefixtures("operator")
@pytest.mark.parametrize(("threshold", "verdict", "status"), [(1.0, "Passed", "Current"), (0.05, "Failed", "Failed")])
def test_the_life_of_a_load_test(
    api: Any, kubectl: Kubectl, kstatus: Read, threshold: float, verdict: str, status: str
) -> None:
    name = "loadtest/smoke"
    api.apply(loadtest("smoke", slo=[OBJECTIVE]))
    wait_until(lambda: api.conditions("LoadTest", "smoke"))
    assert kstatus(name) == "InProgress"
    api.apply(endpoint("assistant"))
    set_replicas(api, "assistant", ready=1)
    wait_until(lambda: api.get("Job", "smoke"))
    assert kstatus(name) == "InProgress"
    result = summary(
        Outcome([SAMPLE] * 20, duration=1.0, offered=20, sent=20), Objective(MetricName.TTFT, threshold, 95)
    )
    publish(api, "smoke", result)
    kubectl.ok("wait", "--for=condition=Complete", "--timeout=20s", name)
    kubectl.ok("wait", "--for=jsonpath={.status.verdict}", "--timeout=20s", name)
    kubectl.ok("wait", f"--for=jsonpath={{.status.verdict}}={verdict}", "--timeout=20s", name)
    assert kstatus(name) == status


@pytest.mark.usefixtures("operator")
def test_an_endpoint_that_is_created_with_zero_replicas_is_current(api: Any, kubectl: Kubectl, kstatus: Read) -> None:
    api.apply(endpoint("assistant", replicas=0))
    set_replicas(api, "assistant", ready=0)
    assert reaches(kstatus, "llmendpoint/assistant", "Current")
    assert kubectl.run("wait", "--for=condition=Ready", "--timeout=1s", "llmendpoint/assistant").returncode == 1


@pytest.mark.usefixtures("operator")
def test_a_load_test_of_an_endpoint_that_is_scaled_to_zero_is_in_progress_until_it_is_suspended(
    api: Any, kstatus: Read
) -> None:
    api.apply(endpoint("assistant", replicas=0))
    set_replicas(api, "assistant", ready=0)
    assert reaches(kstatus, "llmendpoint/assistant", "Current")
    api.apply(loadtest("smoke"))
    wait_until(lambda: api.get("LoadTest", "smoke")["status"].get("observedGeneration") == 1)
    assert api.conditions("LoadTest", "smoke")["Reconciling"] == ("True", "Pending")
    assert kstatus("loadtest/smoke") == "InProgress"
    api.apply(loadtest("smoke", suspend=True))
    assert reaches(kstatus, "loadtest/smoke", "Current")


@pytest.mark.usefixtures("operator")
@pytest.mark.parametrize(
    ("spec", "status"),
    [({"schedule": "0 3 30 2 *"}, "Failed"), ({"suspend": True}, "Current"), ({}, "Current")],
    ids=["impossible", "suspended", "scheduled"],
)
def test_a_schedule_is_current_unless_it_can_never_create_a_load_test(
    api: Any, kstatus: Read, spec: dict[str, Any], status: str
) -> None:
    api.apply(schedule("nightly", **spec))
    assert reaches(kstatus, "loadtestschedule/nightly", status)
