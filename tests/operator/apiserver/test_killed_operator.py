"""An operator that is killed during a load run: the next one goes on, makes no second Job, and loses no result."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llmendpoint_common.contracts.cluster import LOADTEST
from support.api_server.killing_proxy import KillingProxy, Point
from support.api_server.load_pods import RUNNING, make_pod, publish, summary
from support.api_server.manifests import loadtest
from support.waiting import wait_until

QUESTIONS = {"q.yaml": "category: Mine\nquestions:\n  - {id: a, prompt: hello}\n"}
STATUS, JOB = "/loadtests/smoke/status", "/jobs/smoke"


@pytest.fixture
def start(
    api: Any, operator: Any, start_operator: Callable[..., Any], tmp_path: Path, control_plane: Any
) -> Iterator[Callable[[Point | None], Any]]:
    """Start an operator for the namespace of the test, which is killed at a point. The other operator is stopped."""
    proxy = KillingProxy(control_plane.operator, tmp_path)
    started: list[Any] = []

    def start(point: Point | None = None) -> Any:
        process = start_operator(f"--namespace={api.namespace}", kubeconfig=proxy.kubeconfig)
        started.append(process)
        if point is not None:
            proxy.arm(point, process.pid)
        return process

    operator.send_signal(signal.SIGSTOP)
    yield start
    for process in started:
        process.kill()
        process.wait(20)
    for body in api.client.items(LOADTEST, api.namespace):
        api.delete(LOADTEST, body["metadata"]["name"])
    operator.send_signal(signal.SIGCONT)
    proxy.close()


def apply(api: Any) -> None:
    api.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "mine"}, "data": QUESTIONS})
    dataset = {"questions": {"configMapRefs": [{"name": "mine"}]}}
    slo = [{"metric": "ErrorRate", "threshold": "50%"}]
    api.apply(loadtest("smoke", endpointRef=None, target={"url": "http://x"}, model="m:1", dataset=dataset, slo=slo))


def status(api: Any) -> dict[str, Any]:
    return dict((api.get(LOADTEST, "smoke") or {}).get("status") or {})


def is_released(api: Any) -> bool:
    return ((api.get("Job", "smoke") or {}).get("spec") or {}).get("suspend") is False


POINTS = [
    point
    for after in (False, True)
    for point in (
        Point("PATCH", "/configmaps/smoke-result-0", "", after),
        Point("PATCH", JOB, '"suspend":true', after),
        Point("PATCH", STATUS, '"startTime"', after),
        Point("PATCH", JOB, '"suspend":false', after),
        Point("POST", "/events", '"Started"', after),
        Point("PATCH", STATUS, '"verdict"', after),
        Point("POST", "/events", '"Passed"', after),
        Point("DELETE", "/rolebindings/smoke-load", "", after),
    )
]


@pytest.mark.parametrize("point", POINTS, ids=str)
def test_a_run_goes_on_whenever_the_operator_is_killed(
    api: Any, start: Callable[[Point | None], Any], point: Point
) -> None:
    first = start(point)
    apply(api)
    jobs: set[str] = set()
    wait_until(lambda: first.poll() is not None or is_released(api))
    if first.poll() is not None:
        jobs |= {(api.get("Job", "smoke") or {"metadata": {"uid": ""}})["metadata"]["uid"]} - {""}
        second = start(None)
        wait_until(lambda: is_released(api) and status(api).get("startTime"), 60)
    else:
        second = None
    # The load generator does not depend on the operator.
    jobs.add(api.get("Job", "smoke")["metadata"]["uid"])
    make_pod(api, "smoke", RUNNING)
    publish(api, "smoke", summary())
    if second is None:
        wait_until(lambda: first.poll() is not None)
        second = start(None)
    wait_until(lambda: status(api).get("verdict") == "Passed" and api.get("RoleBinding", "smoke-load") is None, 60)
    assert first.returncode == -signal.SIGKILL
    assert second.poll() is None
    jobs.add(api.get("Job", "smoke")["metadata"]["uid"])
    assert len(jobs) == 1
    assert status(api)["summary"]["requests"] == 20
    assert len([event for event in api.events("smoke") if event["reason"] == "Started"]) <= 1


def test_a_job_that_was_deleted_while_no_operator_ran_is_not_made_again(
    api: Any, start: Callable[[Point | None], Any]
) -> None:
    first = start(Point("POST", "/events", '"Started"', after=True))
    apply(api)
    wait_until(lambda: first.poll() is not None)
    api.delete("Job", "smoke")
    start(None)
    wait_until(lambda: status(api).get("verdict") == "None", 60)
    assert api.conditions(LOADTEST, "smoke")["Passed"] == ("Unknown", "Canceled")
    assert api.get("Job", "smoke") is None
