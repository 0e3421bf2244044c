"""What keeps a load test from starting, or ends it from outside, against a real API server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from llmendpoint_common.contracts.cluster import LOADTEST
from support.api_server.admission import refused
from support.api_server.lifecycle import set_replicas
from support.api_server.load_pods import RUNNING, UNSCHEDULABLE, end_pod, make_pod, publish, summary, warn, words
from support.api_server.manifests import endpoint, loadtest
from support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("operator")

QUESTIONS = {"q.yaml": "category: Mine\nquestions:\n  - {id: a, prompt: hello}\n"}
#: "Within seconds", on a machine that runs other tests too.
SECONDS = 10
PAST = {"status": {"startDeadline": "2026-01-02T03:04:05Z"}}


def apply(api: Any, **spec: Any) -> None:
    """Apply a load test of another server, with one file of questions."""
    api.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "mine"}, "data": QUESTIONS})
    dataset = {"questions": {"configMapRefs": [{"name": "mine"}]}}
    slo = [{"metric": "ErrorRate", "threshold": "50%"}]
    given = {"endpointRef": None, "target": {"url": "http://x"}, "model": "m:1", "dataset": dataset, "slo": slo}
    api.apply(loadtest("smoke", **{**given, **spec}))


def condition(api: Any, kind: str) -> tuple[str, str]:
    found: tuple[str, str] = api.conditions(LOADTEST, "smoke").get(kind, ("", ""))
    return found


def status(api: Any) -> dict[str, Any]:
    return dict((api.get(LOADTEST, "smoke") or {}).get("status") or {})


def is_released(api: Any) -> bool:
    return bool(status(api).get("startTime")) and api.get("Job", "smoke")["spec"]["suspend"] is False


@pytest.fixture
def run(api: Any) -> None:
    apply(api)
    wait_until(lambda: is_released(api))


def pass_the_deadline(api: Any) -> None:
    """Let the start deadline be in the past."""
    path = f"/apis/llmendpoint.dev/v1alpha1/namespaces/{api.namespace}/loadtests/smoke/status"
    api.client.request("PATCH", path, body=PAST, content_type="application/merge-patch+json")


def quota(hard: str) -> dict[str, Any]:
    spec = {"hard": {"count/jobs.batch": hard}}
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": spec}


@pytest.fixture
def exhausted(api: Any) -> None:
    """A quota that allows no Job. The test plays the part of the controller that computes its usage."""
    api.apply(quota("0"))
    computed = {"hard": {"count/jobs.batch": "0"}, "used": {"count/jobs.batch": "0"}}
    api.apply_status({**quota("0"), "status": computed})


@pytest.mark.usefixtures("exhausted")
def test_a_quota_on_jobs_is_said_and_the_run_starts_when_it_is_raised(api: Any) -> None:
    apply(api)
    wait_until(lambda: condition(api, "Reconciling") == ("True", "QuotaExceeded"), SECONDS)
    assert "exceeded quota: q, requested: count/jobs.batch=1" in words(api, "smoke")
    assert "startTime" not in status(api)
    assert [(event["reason"], event["type"]) for event in api.events("smoke")] == [("QuotaExceeded", "Warning")]
    api.delete("ResourceQuota", "q")
    wait_until(lambda: is_released(api))
    make_pod(api, "smoke", RUNNING)
    wait_until(lambda: condition(api, "Reconciling") == ("True", "Running"), SECONDS)
    assert "startDeadline" not in status(api)


@pytest.mark.usefixtures("exhausted")
def test_a_quota_on_jobs_that_stays_ends_the_run_in_the_api_servers_words(api: Any) -> None:
    apply(api)
    # The operator writes the deadline before the refusal of the Job.
    wait_until(lambda: condition(api, "Reconciling") == ("True", "QuotaExceeded"), SECONDS)
    wait_until(lambda: status(api).get("startDeadline"), SECONDS)
    pass_the_deadline(api)
    wait_until(lambda: status(api).get("verdict") == "Error", 90)
    assert condition(api, "Passed") == ("False", "RunError")
    assert "exceeded quota: q" in words(api, "smoke")


@pytest.mark.usefixtures("exhausted")
def test_a_namespace_that_is_being_deleted_is_said(api: Any) -> None:
    apply(api)
    wait_until(lambda: condition(api, "Reconciling") == ("True", "QuotaExceeded"), SECONDS)
    api.client.delete("Namespace", "", api.namespace)
    api.delete("ResourceQuota", "q")
    wait_until(lambda: condition(api, "Reconciling") == ("True", "NamespaceTerminating"), 30)
    assert "because it is being terminated" in words(api, "smoke")


def test_a_run_whose_namespace_is_being_deleted_ends_with_its_result(api: Any, run: None) -> None:
    make_pod(api, "smoke", RUNNING)
    api.client.delete("Namespace", "", api.namespace)
    publish(api, "smoke", summary())
    wait_until(lambda: status(api).get("verdict") == "Passed")


@pytest.fixture
def no_jobs(api: Any) -> Iterator[None]:
    """An admission policy that refuses Jobs in the namespace of the test."""
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "b"}]}}
    probe = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "probe"}, "spec": {"template": template}}

    def is_refused() -> bool:
        api.delete_if_there("Job", "probe")
        return bool(api.is_refused(probe))

    with refused(api, "CREATE", "batch", "jobs", "no load on Fridays", is_refused):
        yield


@pytest.mark.usefixtures("no_jobs")
def test_a_policy_that_refuses_the_job_is_quoted_and_the_run_starts_without_it(api: Any) -> None:
    apply(api)
    wait_until(lambda: condition(api, "Reconciling") == ("True", "AdmissionDenied"), SECONDS)
    assert "no load on Fridays" in words(api, "smoke")
    assert "deleted" not in words(api, "smoke")
    api.client.delete("ValidatingAdmissionPolicyBinding", "", api.namespace)
    wait_until(lambda: is_released(api), 60)


#: The schema does not know the sizes of huge pages.
ODD_PAGES = {"requests": {"hugepages-2Mi": "3Mi"}, "limits": {"hugepages-2Mi": "3Mi"}}


def test_a_job_that_the_spec_makes_invalid_is_refused_and_can_be_corrected(api: Any) -> None:
    apply(api, pod={"resources": ODD_PAGES})
    wait_until(lambda: condition(api, "Stalled") == ("True", "Invalid"), SECONDS)
    assert "is not positive integer multiple of hugepages-2Mi" in words(api, "smoke")
    apply(api, pod={"resources": {"limits": {"hugepages-2Mi": "4Mi"}}})
    wait_until(lambda: is_released(api))


def test_a_job_that_the_spec_makes_invalid_ends_the_run_soon(api: Any) -> None:
    apply(api, pod={"resources": ODD_PAGES})
    wait_until(lambda: status(api).get("verdict") == "Error", 30)
    assert "is not positive integer multiple of hugepages-2Mi" in words(api, "smoke")
    assert "deleted" not in words(api, "smoke")


STRANGERS: list[tuple[str, dict[str, Any]]] = [
    ("smoke", {"apiVersion": "batch/v1", "kind": "Job", "spec": {
        "suspend": True, "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "b"}]}}}}),
    ("smoke-load", {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "rules": []}),
    ("smoke-load", {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "roleRef": {
        "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "x"}}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "stranger"), STRANGERS, ids=lambda value: str(value).partition(",")[0][:20])
def test_an_object_of_a_stranger_keeps_a_run_from_starting(api: Any, name: str, stranger: dict[str, Any]) -> None:
    uid = api.apply({**stranger, "metadata": {"name": name}})["metadata"]["uid"]
    apply(api)
    wait_until(lambda: condition(api, "Reconciling") == ("True", "NameConflict"), SECONDS)
    assert f"{stranger['kind']}/{name} exists but does not belong to this LoadTest" in words(api, "smoke")
    assert api.get(stranger["kind"], name)["metadata"]["uid"] == uid
    api.delete(stranger["kind"], name)
    wait_until(lambda: is_released(api), 60)


def no_node(api: Any) -> None:
    make_pod(api, "smoke", UNSCHEDULABLE)


def no_secret(api: Any) -> None:
    pod = make_pod(api, "smoke", {"phase": "Pending"})
    warn(api, pod, "FailedMount", 'MountVolume.SetUp failed for volume "api-key" : secret "my-key" not found')


def no_quota(api: Any) -> None:
    warn(api, api.get("Job", "smoke"), "FailedCreate", 'Error creating: pods "x" is forbidden: exceeded quota: q')


@pytest.mark.parametrize(
    ("happen", "sentence"),
    [
        (no_node, "0/3 nodes are available"),
        (no_secret, 'secret \\"my-key\\" not found'),
        (no_quota, "exceeded quota: q"),
    ],
)
def test_a_pod_that_cannot_start_is_said_and_ends_the_run_in_time(
    api: Any, run: None, happen: Any, sentence: str
) -> None:
    happen(api)
    wait_until(lambda: sentence in words(api, "smoke"), SECONDS)
    reason = condition(api, "Reconciling")[1]
    assert reason not in ("Running", "Pending")
    assert reason in [event["reason"] for event in api.events("smoke")]
    pass_the_deadline(api)
    wait_until(lambda: status(api).get("verdict") == "Error", 30)
    assert sentence in words(api, "smoke")
    # The pod must not start after the verdict. The garbage collector deletes it with its Job.
    wait_until(lambda: api.get("Job", "smoke") is None)


def test_a_pod_that_is_deleted_during_the_run_leaves_a_partial_result_and_no_pass(api: Any, run: None) -> None:
    make_pod(api, "smoke", RUNNING)
    wait_until(lambda: condition(api, "Reconciling") == ("True", "Running"))
    api.delete("Pod", "smoke-pod")
    wait_until(lambda: "Pod smoke-pod was deleted during the run. Waiting" in words(api, "smoke"), SECONDS)
    publish(api, "smoke", summary(partial=True))
    wait_until(lambda: condition(api, "Passed") == ("Unknown", "Canceled"), SECONDS)
    assert status(api)["verdict"] == "None"
    assert status(api)["summary"]["partial"] is True
    assert status(api)["progressPercent"] < 100
    assert condition(api, "Stalled") == ("True", "Canceled")


def test_a_run_whose_job_and_pod_are_deleted_is_canceled_when_the_pod_has_gone(api: Any, run: None) -> None:
    make_pod(api, "smoke", RUNNING)
    wait_until(lambda: condition(api, "Reconciling") == ("True", "Running"))
    api.delete("Job", "smoke")
    wait_until(lambda: "Job/smoke was deleted during the run. Waiting" in words(api, "smoke"), SECONDS)
    api.delete("Pod", "smoke-pod")
    end_pod(api, "smoke")
    wait_until(lambda: condition(api, "Passed") == ("Unknown", "Canceled"), SECONDS)
    assert "It left no result" in words(api, "smoke")


def end_job(api: Any) -> None:
    """Let the Job have failed, as the Job controller does when its only pod has been deleted."""
    now = "2026-01-02T03:04:05Z"
    row = {"status": "True", "reason": "BackoffLimitExceeded", "message": "", "lastTransitionTime": now}
    state = {"startTime": now, "failed": 1, "uncountedTerminatedPods": {},
             "conditions": [{"type": "FailureTarget", **row}, {"type": "Failed", **row}]}  # fmt: skip
    api.apply_status({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "smoke"}, "status": state})


@pytest.mark.parametrize("before", [{"phase": "Pending"}, RUNNING], ids=["starting", "running"])
def test_a_pod_that_is_deleted_before_its_first_request_ends_the_run(
    api: Any, run: None, before: dict[str, Any]
) -> None:
    make_pod(api, "smoke", before)
    api.delete("Pod", "smoke-pod")
    end_pod(api, "smoke")
    end_job(api)
    wait_until(lambda: condition(api, "Complete") == ("True", "Finished"), SECONDS)
    assert (condition(api, "Passed"), status(api)["verdict"]) == (("Unknown", "Canceled"), "None")
    assert "smoke was deleted during the run. It left no result. Create another LoadTest" in words(api, "smoke")


def test_a_model_that_the_endpoint_does_not_have_is_refused_with_those_it_has(api: Any) -> None:
    api.apply(endpoint("assistant"))
    set_replicas(api, "assistant", ready=1)
    (served,) = api.get("LLMEndpoint", "assistant")["spec"]["models"]
    apply(api, endpointRef={"name": "assistant"}, target=None, model="other:1b")
    wait_until(lambda: condition(api, "Stalled") == ("True", "ModelNotServed"), SECONDS)
    assert f"does not have the model other:1b: set spec.model to one of {served['name']}" in words(api, "smoke")
    assert api.get("Job", "smoke") is None
    wait_until(lambda: status(api).get("verdict") == "Error", 30)
    assert "does not have the model other:1b" in words(api, "smoke")


def claim(*modes: str) -> dict[str, Any]:
    spec = {"accessModes": [*modes], "resources": {"requests": {"storage": "1Gi"}}}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "runs"}, "spec": spec}


STORED = {"persistentVolumeClaim": {"claimName": "runs"}}


def test_a_missing_claim_for_the_files_is_said_and_the_run_starts_when_it_exists(api: Any) -> None:
    apply(api, results=STORED)
    wait_until(
        lambda: "PersistentVolumeClaim runs in spec.results.persistentVolumeClaim.claimName" in words(api, "smoke")
    )
    assert api.get("Job", "smoke") is None
    api.apply(claim("ReadWriteOnce"))
    wait_until(lambda: is_released(api))
    volumes = api.get("Job", "smoke")["spec"]["template"]["spec"]["volumes"]
    assert {"name": "results", "persistentVolumeClaim": {"claimName": "runs"}} in volumes


def test_a_claim_that_cannot_be_written_to_is_refused(api: Any) -> None:
    api.apply(claim("ReadOnlyMany"))
    apply(api, results=STORED)
    wait_until(lambda: condition(api, "Stalled") == ("True", "Invalid"), SECONDS)
    assert "cannot be written to, because its access mode is ReadOnlyMany" in words(api, "smoke")
    wait_until(lambda: status(api).get("verdict") == "Error", 30)


def test_the_lifetime_of_a_run_can_be_set_when_it_has_ended(api: Any, run: None) -> None:
    publish(api, "smoke", summary())
    wait_until(lambda: status(api).get("verdict") == "Passed")
    api.patch(LOADTEST, "smoke", {"spec": {"ttlSecondsAfterFinished": 0}})
    wait_until(lambda: api.get(LOADTEST, "smoke") is None, SECONDS)
