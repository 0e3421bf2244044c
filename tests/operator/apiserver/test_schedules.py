"""Schedules and runs with several pods, against a real API server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from kubernetes.client.exceptions import ApiException

from llmendpoint_common.contracts.cluster import LOADTEST, LOADTEST_SCHEDULE
from support.api_server.admission import refused
from support.api_server.load_pods import RUNNING, summary
from support.api_server.manifests import loadtest, schedule
from support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("operator")

TEMPLATE = {
    "metadata": {"labels": {"team": "a"}},
    "spec": {"endpointRef": {"name": "assistant"}, "load": {"concurrency": 2}, "request": {"options": {"top_k": 1}}},
}
QUESTIONS = {"q.yaml": "category: Mine\nquestions:\n  - {id: a, prompt: hello}\n"}


def due_in_the_past(api: Any, **spec: Any) -> None:
    """Make a schedule whose last time is at most a minute ago, and after it was created as far as its status says."""
    api.apply(schedule("nightly", schedule="* * * * *", template=TEMPLATE, suspend=True, **spec))
    wait_until(lambda: (api.get(LOADTEST_SCHEDULE, "nightly").get("status") or {}).get("scheduledSince"))
    since = (datetime.now(UTC) - timedelta(minutes=5)).strftime("%Y-%m-%dT%H:%M:%SZ")
    path = f"/apis/llmendpoint.dev/v1alpha1/namespaces/{api.namespace}/loadtestschedules/nightly/status"
    body = {"status": {"scheduledSince": since}}
    api.client.request("PATCH", path, body=body, content_type="application/merge-patch+json")
    api.apply(schedule("nightly", schedule="* * * * *", template=TEMPLATE, **spec))


def runs(api: Any) -> list[dict[str, Any]]:
    return list(api.client.items(LOADTEST, api.namespace))


def status(api: Any) -> dict[str, Any]:
    return dict(api.get(LOADTEST_SCHEDULE, "nightly").get("status") or {})


def test_a_schedule_creates_a_load_test_that_is_deleted_with_it(api: Any) -> None:
    due_in_the_past(api)
    wait_until(lambda: runs(api))
    (run, *_) = runs(api)
    owner = api.get(LOADTEST_SCHEDULE, "nightly")["metadata"]
    (reference,) = run["metadata"]["ownerReferences"]
    assert (reference["uid"], reference["controller"]) == (owner["uid"], True)
    assert run["metadata"]["labels"] | {"team": "a", "llmendpoint.dev/schedule": "nightly"} == run["metadata"]["labels"]
    assert run["spec"]["request"]["options"] == {"top_k": 1}
    wait_until(lambda: status(api).get("active") == [{"name": run["metadata"]["name"]}])
    assert status(api)["lastScheduleTime"] == run["metadata"]["annotations"]["llmendpoint.dev/scheduled-time"]
    wait_until(lambda: api.conditions(LOADTEST, run["metadata"]["name"]).get("Complete") == ("False", "Pending"))
    assert "Created" in [event["reason"] for event in api.events("nightly")]


def test_a_change_of_the_active_load_tests_is_in_the_status_within_seconds(api: Any) -> None:
    due_in_the_past(api)
    wait_until(lambda: status(api).get("active"))
    api.apply(schedule("nightly", schedule="* * * * *", template=TEMPLATE, suspend=True))
    for run in runs(api):
        api.delete(LOADTEST, run["metadata"]["name"])
    wait_until(lambda: "active" not in status(api), 15)
    assert api.conditions(LOADTEST_SCHEDULE, "nightly")["Reconciling"] == ("False", "Suspended")


@pytest.fixture
def undeletable(api: Any) -> Iterator[None]:
    """An admission policy that refuses to delete LoadTests in the namespace of the test."""
    api.apply(loadtest("probe", suspend=True))

    def is_refused() -> bool:
        try:
            api.delete("LoadTest", "probe")
        except ApiException:
            return True
        api.apply(loadtest("probe", suspend=True))
        return False

    with refused(api, "DELETE", "llmendpoint.dev", "loadtests", "load tests are kept", is_refused):
        yield


def make_active(api: Any) -> str:
    """Make a load test of an earlier time of the schedule, which waits for its endpoint, and return its name."""
    api.apply(schedule("nightly", schedule="* * * * *", template=TEMPLATE, suspend=True))
    owner = api.get(LOADTEST_SCHEDULE, "nightly")
    reference = {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": "nightly",
                 "uid": owner["metadata"]["uid"], "controller": True}  # fmt: skip
    body = loadtest("nightly-1000")
    api.apply({**body, "metadata": {**body["metadata"], "ownerReferences": [reference]}})
    wait_until(lambda: status(api).get("active") == [{"name": "nightly-1000"}])
    return "nightly-1000"


def message_of(api: Any) -> str:
    rows = {row["type"]: row["message"] for row in status(api).get("conditions") or []}
    return str(rows.get("Reconciling", ""))


@pytest.mark.usefixtures("undeletable")
def test_a_load_test_that_cannot_be_replaced_is_said_and_replaced_when_it_can(api: Any) -> None:
    name = make_active(api)
    due_in_the_past(api, concurrencyPolicy="Replace")
    wait_until(lambda: "load tests are kept" in message_of(api), 15)
    assert api.conditions(LOADTEST_SCHEDULE, "nightly")["Reconciling"] == ("True", "AdmissionDenied")
    assert {run["metadata"]["name"] for run in runs(api)} == {name, "probe"}
    assert ("AdmissionDenied", "Warning") in [(event["reason"], event["type"]) for event in api.events("nightly")]
    api.client.delete("ValidatingAdmissionPolicyBinding", "", api.namespace)
    wait_until(lambda: api.get(LOADTEST, name) is None, 60)
    wait_until(lambda: api.conditions(LOADTEST_SCHEDULE, "nightly")["Reconciling"] == ("False", "Scheduled"))
    assert status(api)["lastScheduleTime"]


def test_a_schedule_says_for_which_load_test_the_next_one_waits(api: Any) -> None:
    name = make_active(api)
    due_in_the_past(api)
    wait_until(lambda: f"waits for {name}, which has not started (Pending: LLMEndpoint assistant" in message_of(api))
    assert [run["metadata"]["name"] for run in runs(api)] == [name]
    api.delete(LOADTEST, name)
    wait_until(lambda: [run["metadata"]["name"] for run in runs(api)] not in ([], [name]))


def test_a_load_test_that_a_finalizer_keeps_sends_nothing(api: Any) -> None:
    api.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "mine"}, "data": QUESTIONS})
    dataset = {"questions": {"configMapRefs": [{"name": "mine"}]}}
    api.apply(loadtest("smoke", endpointRef=None, target={"url": "http://x"}, model="m:1", dataset=dataset))
    wait_until(lambda: api.get("Job", "smoke") and api.get("Job", "smoke")["spec"]["suspend"] is False)
    api.patch(LOADTEST, "smoke", {"metadata": {"finalizers": ["example.org/keep"]}})
    api.delete(LOADTEST, "smoke")
    wait_until(lambda: api.get("Job", "smoke") is None, 10)
    assert api.get(LOADTEST, "smoke")
    api.patch(LOADTEST, "smoke", {"metadata": {"finalizers": None}})


def test_a_time_zone_that_does_not_exist_is_said(api: Any) -> None:
    api.apply(schedule("nightly", timeZone="Mars/Olympus"))
    wait_until(lambda: api.conditions(LOADTEST_SCHEDULE, "nightly").get("Stalled") == ("True", "InvalidSpec"))


def test_a_schedule_that_is_suspended_creates_nothing(api: Any) -> None:
    api.apply(schedule("nightly", schedule="* * * * *", suspend=True))
    wait_until(lambda: api.conditions(LOADTEST_SCHEDULE, "nightly").get("Reconciling") == ("False", "Suspended"))
    assert runs(api) == []


@pytest.fixture
def two_pods(api: Any) -> None:
    """A run with two pods, whose Job has been released."""
    api.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "mine"}, "data": QUESTIONS})
    dataset = {"questions": {"configMapRefs": [{"name": "mine"}]}}
    slo = [{"metric": "ErrorRate", "threshold": "50%"}]
    api.apply(loadtest("smoke", endpointRef=None, target={"url": "http://x"}, model="m:1", dataset=dataset, slo=slo,
                       load={"concurrency": 2, "parallelism": 2}))  # fmt: skip
    wait_until(lambda: api.get("Job", "smoke") and api.get("Job", "smoke")["spec"]["suspend"] is False)


@pytest.fixture
def make(api: Any) -> Callable[[int, dict[str, Any]], None]:
    """Return a function that makes a pod of the Job, or changes its status."""

    def make_pod(index: int, state: dict[str, Any]) -> None:
        job = api.get("Job", "smoke")
        controller = {"apiVersion": "batch/v1", "kind": "Job", "name": "smoke", "uid": job["metadata"]["uid"],
                      "controller": True}  # fmt: skip
        labels = job["spec"]["template"]["metadata"]["labels"] | {
            "batch.kubernetes.io/job-completion-index": str(index)
        }
        identity = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"smoke-{index}"}}
        metadata = {"name": f"smoke-{index}", "labels": labels, "ownerReferences": [controller]}
        spec = {"nodeName": "none", "containers": [{"name": "load", "image": "none"}]}
        if api.get("Pod", f"smoke-{index}") is None:
            api.apply({**identity, "metadata": metadata, "spec": spec})
        api.apply_status({**identity, "status": state})

    return make_pod


@pytest.mark.usefixtures("two_pods")
def test_the_api_server_admits_the_job_and_the_merged_result_of_two_pods(api: Any, make: Callable[..., None]) -> None:
    job = api.get("Job", "smoke")["spec"]
    assert (job["completionMode"], job["backoffLimitPerIndex"]) == ("Indexed", 0)
    for index in range(2):
        make(index, RUNNING)
        api.patch("ConfigMap", f"smoke-result-{index}", {"data": {"summary.json": summary()}})
    for index in range(2):
        make(index, {"phase": "Succeeded"})
    now = "2026-01-02T03:04:05Z"
    api.apply_status({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "smoke"}, "status": {
        "startTime": now, "completionTime": now, "succeeded": 2, "completedIndexes": "0,1",
        "uncountedTerminatedPods": {}, "conditions": [
            {"type": "SuccessCriteriaMet", "status": "True", "reason": "CompletionsReached", "lastTransitionTime": now},
            {"type": "Complete", "status": "True", "reason": "CompletionsReached", "lastTransitionTime": now},
        ]}})  # fmt: skip
    wait_until(lambda: api.conditions(LOADTEST, "smoke").get("Passed") == ("True", "ObjectivesMet"))
    found = api.get(LOADTEST, "smoke")["status"]
    assert found["summary"]["requests"] == 2 * json.loads(summary())["requests"]
    kept = api.get("ConfigMap", found["resultConfigMap"]["name"])
    assert json.loads(kept["data"]["summary.json"])["environment"]["pods"] == 2
    assert kept["metadata"]["uid"] == found["resultConfigMap"]["uid"]


@pytest.mark.usefixtures("two_pods")
def test_a_pod_that_is_deleted_before_the_common_start_ends_the_run(api: Any, make: Callable[..., None]) -> None:
    for index in range(2):
        make(index, RUNNING)
    api.delete("Pod", "smoke-1")
    wait_until(lambda: api.conditions(LOADTEST, "smoke").get("Passed") == ("Unknown", "Canceled"))
    (message,) = {row["message"] for row in api.get(LOADTEST, "smoke")["status"]["conditions"]}
    assert message.startswith("Pod smoke-1 was deleted during the run. All pods of a run start together")
    wait_until(lambda: api.get("Job", "smoke") is None)


@pytest.mark.usefixtures("two_pods")
def test_a_pod_may_patch_the_results_of_its_run_and_nothing_else(api: Any) -> None:
    rules = api.get("Role", "smoke-load")["rules"]
    assert [(rule["resourceNames"], rule["verbs"]) for rule in rules] == [
        (["smoke-result-0", "smoke-result-1"], ["patch"])
    ]


def test_a_started_run_is_canceled_by_suspend(api: Any) -> None:
    api.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "mine"}, "data": QUESTIONS})
    given: dict[str, Any] = {"endpointRef": None, "target": {"url": "http://x"}, "model": "m:1",
                             "dataset": {"questions": {"configMapRefs": [{"name": "mine"}]}}}  # fmt: skip
    api.apply(loadtest("smoke", **given))
    wait_until(lambda: (api.get(LOADTEST, "smoke").get("status") or {}).get("startTime"))
    with pytest.raises(ApiException, match="cannot be changed once the run has started"):
        api.apply(loadtest("smoke", **given, scenario="Smoke"))
    api.apply(loadtest("smoke", **given, suspend=True))
    wait_until(lambda: api.conditions(LOADTEST, "smoke").get("Passed") == ("Unknown", "Canceled"))
    assert api.get("Job", "smoke") is None


def test_the_largest_summary_that_a_pod_may_write_fits_into_the_status(api: Any) -> None:
    api.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "mine"}, "data": QUESTIONS})
    api.apply(loadtest("smoke", endpointRef=None, target={"url": "http://x"}, model="m:1",
                       dataset={"questions": {"configMapRefs": [{"name": "mine"}]}}))  # fmt: skip
    wait_until(lambda: (api.get(LOADTEST, "smoke").get("status") or {}).get("startTime"))
    found = json.loads(summary())
    (category,) = found["categories"]
    found["categories"] = [{**category, "category": f"{index:03}".rjust(64, "c")} for index in range(256)]
    found["error_details"] = found["errorDetails"] = [
        {"errorClass": f"{index:02}".rjust(64, "e"), "count": 1, "example": "x" * 4096} for index in range(64)
    ]
    del found["error_details"]
    part = {"name": "queue", "latency": found["ttft"]}
    found["ttftSplit"] = [{**part, "name": f"part {index}"} for index in range(16)]
    api.patch("ConfigMap", "smoke-result-0", {"data": {"summary.json": json.dumps(found)}})
    wait_until(lambda: api.conditions(LOADTEST, "smoke").get("Complete") == ("True", "Finished"))
    status = api.get(LOADTEST, "smoke")["status"]
    assert len(status["summary"]["categories"]) == 256
    assert len(status["summary"]["errorClasses"]) == 16
    assert len(json.dumps(status)) < 64 * 1024
