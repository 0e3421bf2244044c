"""The controller of LoadTests, on a cluster in memory. A run starts at most once, even if writes are refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from llmendpoint_common.contracts.loadrun import Progress
from llmendpoint_operator.cluster.keys import Key
from llmendpoint_operator.kube.owner import Owner
from llmendpoint_operator.policy.document import Policy
from llmendpoint_operator.reconcile.measurements import Measurements
from support.api_server.load_pods import summary as result_of_a_run_that_passed
from support.in_memory.children import live, newer
from support.in_memory.fakes import refusal
from support.in_memory.loadtest_world import ENDPOINT, KEY, QUESTIONS, TARGET, World, summary


@pytest.fixture
def world() -> World:
    return World()


async def test_a_run_starts_once_and_follows_without_requests(world: World) -> None:
    world.objects.put(QUESTIONS)
    world.show(**TARGET)
    assert await world.reconcile() == 2
    assert [call for call in world.objects.calls if call.endswith(("Job/smoke", "LoadTest/smoke"))] == [
        "create Job/smoke", "status LoadTest/smoke", "patch Job/smoke",
    ]  # fmt: skip
    assert world.objects.created["Job/smoke"]["spec"]["suspend"] is True
    assert world.objects.get_now("Job", "smoke")["spec"]["suspend"] is False
    assert world.passed == ("Pending", "The pod of the run is being created.")
    assert world.condition("Reconciling") == ("True", "Pending")
    assert [(event["reason"], event["message"]) for event in world.objects.events] == [
        ("Started", "Creating the pods that send requests to m:1 at http://x."),
    ]  # fmt: skip
    world.show_pod("smoke-x", phase="Running")
    assert await world.reconcile() == 2
    assert world.passed == ("Running", "The load pod runs. Its progress is not known.")
    assert "startDeadline" not in world.status
    calls = len(world.objects.calls)
    for _ in range(3):
        world.later(60)
        assert await world.reconcile() == 2
    assert len(world.objects.calls) == calls


async def test_a_run_waits_for_its_endpoint_without_requests(world: World) -> None:
    world.show(endpointRef={"name": "assistant"})
    for _ in range(3):
        assert await world.reconcile() == 2
    assert world.objects.calls == ["status LoadTest/smoke"]
    assert world.passed == (
        "Pending", "LLMEndpoint assistant does not exist in namespace ns. The run waits for it.",
    )  # fmt: skip


async def test_a_strangers_job_keeps_a_run_from_starting(world: World) -> None:
    world.objects.put(QUESTIONS)
    stranger = Owner("LoadTest", "ns", "smoke", "uid-other").child("Job", "smoke", "load")
    world.objects.put(live(stranger, stamp=False))
    world.show(**TARGET)
    assert await world.reconcile() == 2
    assert world.passed[0] == "NameConflict"
    assert "Job/smoke exists but does not belong to this LoadTest" in world.passed[1]
    assert "startTime" not in world.status
    world.objects.remove("Job", "smoke")
    world.later(2)
    await world.reconcile()
    assert world.status["startTime"]


QUOTA = refusal(403, '{"message":"exceeded quota: q","details":{"name":"smoke"}}')
INVALID = refusal(422, '{"message":"requests.memory: must be less than memory limit","details":{"name":"smoke"}}')


@pytest.mark.parametrize("kind", ["Role", "Job"])
async def test_a_refused_object_keeps_a_run_from_starting_and_is_tried_again(world: World, kind: str) -> None:
    world.objects.put(QUESTIONS)
    world.objects.refuse[kind] = QUOTA
    world.show(**TARGET)
    assert await world.reconcile() == 2
    assert world.passed[0] == "QuotaExceeded"
    assert "exceeded quota: q" in world.passed[1]
    assert world.condition("Reconciling") == ("True", "QuotaExceeded")
    assert world.stalled == ("False", "NotStalled")
    assert "startTime" not in world.status
    assert world.status["startDeadline"] == "2026-01-02T03:14:05Z"
    assert [(event["reason"], event["type"]) for event in world.objects.events] == [("QuotaExceeded", "Warning")]
    del world.objects.refuse[kind]
    world.later(2)
    await world.reconcile()
    assert world.status["startTime"] == "2026-01-02T03:04:07Z"


async def test_a_refused_object_ends_the_run_after_ten_minutes_in_the_api_servers_words(world: World) -> None:
    world.objects.put(QUESTIONS)
    world.objects.refuse["Job"] = QUOTA
    world.show(**TARGET)
    for _ in range(10):
        await world.reconcile()
        world.later(59.9)
    assert "verdict" not in world.status
    world.later(2)
    await world.reconcile()
    assert world.status["verdict"] == "Error"
    assert world.passed[0] == "RunError"
    assert world.passed[1].startswith(
        "The run has ended, because it could not start. The last obstacle was: Job/smoke: exceeded quota: q. Raise"
    )
    assert "startTime" not in world.status
    assert "startDeadline" not in world.status
    assert world.condition("Reconciling") == ("False", "Finished")


async def test_a_job_that_the_spec_makes_invalid_is_refused_at_once_and_ends_the_run_soon(world: World) -> None:
    world.objects.put(QUESTIONS)
    world.objects.refuse["Job"] = INVALID
    world.show(**TARGET)
    await world.reconcile()
    assert world.stalled == ("True", "Invalid")
    assert world.condition("Reconciling") == ("False", "Invalid")
    assert "requests.memory: must be less than memory limit" in world.passed[1]
    world.later(9)
    await world.reconcile()
    assert "verdict" not in world.status
    world.later(1)
    await world.reconcile()
    assert world.status["verdict"] == "Error"
    assert "requests.memory: must be less than memory limit" in world.passed[1]


async def test_a_spec_that_is_corrected_in_time_has_the_whole_time_to_start(world: World) -> None:
    world.objects.put(QUESTIONS)
    world.objects.refuse["Job"] = INVALID
    world.show(**TARGET)
    await world.reconcile()
    world.later(9)
    world.objects.refuse["Job"] = QUOTA
    await world.reconcile()
    assert world.passed[0] == "QuotaExceeded"
    assert world.status["startDeadline"] == "2026-01-02T03:14:14Z"


async def test_a_job_of_an_earlier_spec_is_made_again_before_the_run_starts(world: World) -> None:
    world.objects.put(QUESTIONS)
    world.objects.refuse["LoadTest"] = TimeoutError()
    world.show(**TARGET)
    with pytest.raises(TimeoutError):
        await world.reconcile()
    before = world.objects.get_now("Job", "smoke")
    del world.objects.refuse["LoadTest"]
    world.show(**TARGET, pod={"labels": {"team": "a"}})
    await world.reconcile()
    assert "delete Job/smoke" in world.objects.calls
    world.inventory.gone("Job", newer(before))
    await world.reconcile()
    assert world.objects.get_now("Job", "smoke")["spec"]["template"]["metadata"]["labels"]["team"] == "a"
    assert world.status["startTime"]


@pytest.mark.parametrize("reason", [TimeoutError(), refusal(500, "no")])
async def test_a_job_is_created_later_if_the_api_server_was_away(world: World, reason: Exception) -> None:
    world.objects.put(QUESTIONS)
    world.objects.refuse["Job"] = reason
    world.show(**TARGET)
    assert await world.reconcile() == 2
    assert world.passed[0] == "APIServerUnavailable"
    del world.objects.refuse["Job"]
    world.later(60)
    await world.reconcile()
    assert world.objects.get_now("Job", "smoke")["spec"]["suspend"] is False


async def test_an_operator_that_died_before_it_released_the_job_releases_it_when_it_is_back(world: World) -> None:
    world.objects.put(QUESTIONS)
    world.show(**TARGET)
    world.objects.refuse_patch = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        await world.reconcile()
    assert world.status["startTime"]
    assert world.objects.get_now("Job", "smoke")["spec"]["suspend"] is True
    world.objects.refuse_patch = None
    world.restart()
    await world.reconcile()
    assert world.objects.get_now("Job", "smoke")["spec"]["suspend"] is False
    await world.reconcile()
    assert world.objects.calls.count("create Job/smoke") == 1
    assert world.objects.calls.count("patch Job/smoke") == 2


async def test_a_job_that_may_not_be_released_is_said_and_ends_the_run_in_time(world: World) -> None:
    world.objects.put(QUESTIONS)
    world.show(**TARGET)
    world.objects.refuse_patch = refusal(
        403, '{"message":"admission webhook \\"w\\" denied","details":{"name":"smoke"}}'
    )
    assert await world.reconcile() == 2
    assert world.passed[0] == "AdmissionDenied"
    assert 'admission webhook "w" denied' in world.passed[1]
    world.later(600)
    await world.reconcile()
    assert world.status["verdict"] == "Error"
    await world.reconcile()
    assert "delete Job/smoke" in world.objects.calls


async def test_a_run_whose_job_was_deleted_is_canceled_once_everything_was_listed(world: World) -> None:
    world.objects.put(QUESTIONS)
    world.show(**TARGET)
    await world.reconcile()
    job = world.objects.get_now("Job", "smoke")
    world.later(60)
    world.objects.remove("Job", "smoke")
    world.inventory.gone("Job", job)
    world.inventory.begin_listing("Job")
    assert await world.reconcile() == 2
    assert world.passed[0] == "Pending"
    world.inventory.end_listing("Job")
    await world.reconcile()
    assert world.passed == (
        "Canceled", "Job/smoke was deleted during the run. It left no result. Create another LoadTest to run it again.",
    )  # fmt: skip
    assert world.status["verdict"] == "None"
    assert world.stalled == ("True", "Canceled")
    assert world.objects.calls.count("create Job/smoke") == 1


async def test_a_run_whose_job_lost_its_label_goes_on(world: World) -> None:
    """The watch reports it as deleted."""
    world.objects.put(QUESTIONS)
    world.show(**TARGET)
    await world.reconcile()
    job = world.objects.get_now("Job", "smoke")
    world.inventory.gone("Job", job)
    await world.reconcile()
    assert world.passed[0] == "Pending"
    assert world.objects.calls.count("get Job/smoke") == 1
    assert world.objects.calls.count("create Job/smoke") == 1


async def test_the_status_names_the_map_of_the_result_and_its_uid(world: World) -> None:
    await world.start()
    uid = world.objects.get_now("ConfigMap", "smoke-result-0")["metadata"]["uid"]
    assert world.status["resultConfigMap"] == {"name": "smoke-result-0", "uid": uid}


async def test_a_finished_run_takes_the_permission_of_its_pod_away(world: World) -> None:
    await world.start()
    world.publish(summary("Math"))
    assert await world.reconcile() == 0
    assert world.status["verdict"] == "None"
    assert await world.reconcile() is None
    assert world.objects.calls[-1] == "delete RoleBinding/smoke-load"
    calls = len(world.objects.calls)
    assert await world.reconcile() is None
    assert len(world.objects.calls) == calls


async def test_a_run_that_passed_is_the_capacity_of_its_endpoint(world: World) -> None:
    changed: list[Key] = []
    world.cluster = replace(world.cluster, measurements=Measurements(changed.append))
    world.restart()
    world.objects.put(QUESTIONS)
    world.show_endpoint("tiny:latest")
    found = world.inventory.resource(ENDPOINT)
    assert found is not None
    models = [{"name": "tiny:latest", "digests": ["sha256:1"]}]
    status = {**found["status"], "models": models, "readyReplicas": 2, "configurationHash": "h", "gpu": "none"}
    world.inventory.shows("LLMEndpoint", newer(found, status=status))
    world.show(endpointRef={"name": "assistant"}, model="tiny:latest")
    await world.reconcile()
    world.publish(result_of_a_run_that_passed())
    for _ in range(3):
        await world.reconcile()
    (result,) = world.cluster.measurements.of(ENDPOINT)
    assert changed == [ENDPOINT]
    assert (result["requestsPerSecond"], result["tokensPerSecond"]) == ("1", "2")
    assert (result["modelDigest"], result["replicas"], result["configurationHash"]) == ("sha256:1", 2, "h")
    assert result["loadTestRef"] == {"name": "smoke"}
    assert result["measurementTime"] == world.status["completionTime"]
    # A new operator records it too.
    world.cluster = replace(world.cluster, measurements=Measurements(changed.append))
    world.restart()
    await world.reconcile()
    assert world.cluster.measurements.of(ENDPOINT) == [result]
    world.inventory.gone("LoadTest", world.inventory.resource(KEY) or {})
    await world.reconcile()
    assert world.cluster.measurements.of(ENDPOINT) == []


async def test_a_result_that_is_not_valid_ends_the_run_with_the_reason(world: World) -> None:
    await world.start()
    text = summary("Math", "Coding").replace('"Coding"', '"Math"')
    world.publish(text)
    await world.reconcile()
    assert world.status["verdict"] == "Error"
    assert world.passed == (
        "RunError",
        "ConfigMap smoke-result-0: the result is not valid: two categories have the same name. It is not used.",
    )


async def test_a_status_that_the_api_server_refuses_ends_the_run_and_is_not_tried_for_ever(world: World) -> None:
    await world.start()
    world.publish(summary("Math"))
    world.objects.refuse_next["LoadTest"] = refusal(
        422, '{"message":"status.summary is invalid","details":{"name":"x"}}'
    )
    await world.reconcile()
    assert world.passed == (
        "RunError", "The API server refused the result of this run: 422 status.summary is invalid",
    )  # fmt: skip


async def test_a_run_whose_map_was_deleted_is_an_error(world: World) -> None:
    await world.start()
    gone = world.objects.get_now("ConfigMap", "smoke-result-0")
    world.objects.remove("ConfigMap", "smoke-result-0")
    world.inventory.gone("ConfigMap", gone)
    await world.reconcile()
    assert world.passed[0] == "RunError"
    assert "ConfigMap smoke-result-0, which receives the result of this run, was deleted or replaced" in world.passed[1]


async def test_only_the_pod_of_the_job_is_asked_and_believed(world: World) -> None:
    await world.start()
    world.pods.progress = Progress(40, 4, 1, 1, 9, 0.5)
    world.show_pod("forged", "uid-of-another-job")
    await world.reconcile()
    assert world.pods.asked == []
    assert world.status["progressPercent"] == 0
    world.show_pod("real", phase="Running")
    await world.reconcile()
    assert world.pods.asked == ["real"]
    assert world.status["progressPercent"] == 40


async def test_a_strangers_job_of_the_same_name_is_not_the_run(world: World) -> None:
    """Somebody deleted the Job and made another one, which has ended."""
    await world.start()
    world.later(60)
    world.inventory.gone("Job", world.objects.get_now("Job", "smoke"))
    stranger = Owner("LoadTest", "ns", "smoke", "uid-other").child("Job", "smoke", "load")
    ended = {"conditions": [{"type": "Failed", "status": "True"}]}
    world.inventory.shows("Job", live(stranger, "uid-job", stamp=False, status=ended))
    await world.reconcile()
    assert world.passed[0] == "Canceled"


async def test_a_run_that_the_policy_forbids_waits_without_requests() -> None:
    world = World(Policy(target_hosts=("allowed",)))
    world.objects.put(QUESTIONS)
    world.show(**TARGET)
    for _ in range(3):
        assert await world.reconcile() is None
    assert world.objects.calls == ["status LoadTest/smoke"]
    assert world.stalled == ("True", "PolicyViolation")
    assert world.passed[0] == "PolicyViolation"
    assert "spec.target.url: the operator's policy does not allow 'x' (rule targetHosts: allowed)." in world.passed[1]
    assert "startTime" not in world.status
    assert [(event["reason"], event["type"]) for event in world.objects.events] == [("PolicyViolation", "Warning")]
    world.show(**{**TARGET, "target": {"url": "http://allowed"}})
    await world.reconcile()
    assert world.status["startTime"]
    assert world.stalled == ("False", "NotStalled")


async def test_a_run_that_has_not_passed_is_stalled(world: World) -> None:
    await world.start()
    assert world.stalled == ("False", "NotStalled")
    world.publish("not a result")
    await world.reconcile()
    assert world.stalled == ("True", "RunError")


async def test_a_run_without_objectives_is_not_stalled(world: World) -> None:
    await world.start()
    world.publish(summary("Math"))
    await world.reconcile()
    assert world.stalled == ("False", "NotStalled")


async def test_a_new_generation_of_a_run_that_has_ended_is_observed(world: World) -> None:
    await world.start()
    world.publish(summary("Math"))
    await world.reconcile()
    before = world.inventory.resource(KEY) or {}
    world.inventory.shows("LoadTest", newer(before, metadata={"generation": 2}))
    await world.reconcile()
    assert world.status["observedGeneration"] == 2
    assert {row["observedGeneration"] for row in world.status["conditions"]} == {2}
    assert world.status["verdict"] == "None"


CREATING: dict[str, Any] = {
    "phase": "Pending",
    "containerStatuses": [{"name": "load", "state": {"waiting": {"reason": "ContainerCreating"}}}],
}
NO_NODE: dict[str, Any] = {
    "phase": "Pending",
    "conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes"}],
}
NO_IMAGE: dict[str, Any] = {"phase": "Pending", "containerStatuses": [
    {"name": "load", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}
]}  # fmt: skip


def no_quota(world: World) -> None:
    message = 'Error creating: pods "smoke-x" is forbidden: exceeded quota: q'
    world.warn("Job", "smoke", world.objects.get_now("Job", "smoke")["metadata"]["uid"], "FailedCreate", message)


def no_secret(world: World) -> None:
    world.show_pod("smoke-x", **CREATING)
    world.warn("Pod", "smoke-x", "uid-smoke-x", "FailedMount", 'secret "my-key" not found')


OBSTACLES: list[tuple[Callable[[World], None], str | None, str]] = [
    (no_quota, "QuotaExceeded", "exceeded quota: q"),
    (no_secret, None, 'secret "my-key" not found'),
    (lambda world: world.show_pod("smoke-x", **NO_NODE), "Unschedulable", "0/1 nodes"),
    (lambda world: world.show_pod("smoke-x", **NO_IMAGE), "ImagePullFailed", "no such image"),
]


@pytest.mark.parametrize(("happen", "reason", "words"), OBSTACLES)
async def test_what_keeps_a_pod_from_starting_is_said_and_ends_the_run_after_ten_minutes(
    world: World, happen: Callable[[World], None], reason: str | None, words: str
) -> None:
    await world.start()
    happen(world)
    assert await world.reconcile() == 2
    assert words in world.passed[1]
    assert reason in (None, world.passed[0])
    assert world.condition("Reconciling") == ("True", world.passed[0])
    warnings = [(event["reason"], event["message"]) for event in world.objects.events if event["type"] == "Warning"]
    assert warnings == [world.passed]
    world.later(599)
    await world.reconcile()
    assert "verdict" not in world.status
    world.later(1)
    assert await world.reconcile() == 0
    assert world.status["verdict"] == "Error"
    assert words in world.passed[1]
    # The pod must not start after the verdict.
    await world.reconcile()
    assert "delete Job/smoke" in world.objects.calls
    calls = len(world.objects.calls)
    await world.reconcile()
    assert len(world.objects.calls) == calls


async def test_a_pod_that_starts_late_runs_to_its_end(world: World) -> None:
    await world.start()
    world.show_pod("smoke-x", **NO_NODE)
    await world.reconcile()
    world.later(599)
    world.show_pod("smoke-x", phase="Running")
    await world.reconcile()
    assert world.passed[0] == "Running"
    world.later(3600)
    await world.reconcile()
    assert "verdict" not in world.status


EVICTION: dict[str, Any] = {
    "type": "DisruptionTarget",
    "status": "True",
    "reason": "EvictionByEvictionAPI",
    "message": "Eviction API: evicting",
}
INTERRUPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"deleted": True}, "Pod smoke-x was deleted during the run."),
    ({"deleted": True, "conditions": [EVICTION]}, "Pod smoke-x was stopped: Eviction API: evicting."),
]


@pytest.mark.parametrize(("change", "sentence"), INTERRUPTIONS)
async def test_an_interrupted_run_waits_for_its_partial_result(
    world: World, change: dict[str, Any], sentence: str
) -> None:
    await world.start()
    world.pods.progress = Progress(40, 4, 1, 1, 9, 0.5)
    world.show_pod("smoke-x", phase="Running")
    await world.reconcile()
    world.show_pod("smoke-x", phase="Running", **change)
    # Some versions of the Job controller say that the Job has failed while its pod is still ending.
    world.show_job(conditions=[{"type": "Failed", "status": "True"}])
    assert await world.reconcile() == 2
    assert world.passed == ("Running", f"{sentence} Waiting for its partial result.")
    world.publish(summary("Math", partial=True))
    await world.reconcile()
    assert world.passed[0] == "Canceled"
    assert world.passed[1].startswith(f"{sentence} The load generator was stopped before the end of the run")
    assert world.condition("Passed") == ("Unknown", "Canceled")
    assert world.stalled == ("True", "Canceled")
    assert world.status["verdict"] == "None"
    assert world.status["summary"]["partial"] is True
    assert world.status["summary"]["requests"] == 1
    assert world.status["progressPercent"] == 40
    assert [event["type"] for event in world.objects.events] == ["Normal", "Warning"]


async def test_an_interrupted_run_ends_when_its_pod_has_gone_without_a_result(world: World) -> None:
    await world.start()
    world.show_pod("smoke-x", phase="Running", deleted=True)
    await world.reconcile()
    world.show_pod("smoke-x", phase="Failed", deleted=True)
    await world.reconcile()
    assert world.passed == (
        "Canceled", "Pod smoke-x was deleted during the run. It left no result. Create another LoadTest to run it again.",
    )  # fmt: skip


async def test_a_run_that_is_being_deleted_sends_nothing_while_a_finalizer_keeps_it(world: World) -> None:
    await world.start()
    world.show_pod("smoke-x", phase="Running")
    await world.reconcile()
    metadata = {"deletionTimestamp": "2026-01-02T03:04:35Z", "finalizers": ["example.org/keep"]}
    world.inventory.shows("LoadTest", newer(world.inventory.resource(KEY) or {}, metadata=metadata))
    for _ in range(2):
        await world.reconcile()
    assert world.objects.calls.count("delete Job/smoke") == 1


async def test_the_job_of_a_run_that_has_ended_is_kept_while_a_finalizer_keeps_the_run(world: World) -> None:
    await world.start()
    world.show_job(conditions=[{"type": "Complete", "status": "True"}])
    metadata = {"deletionTimestamp": "2026-01-02T03:04:35Z", "finalizers": ["example.org/keep"]}
    world.inventory.shows("LoadTest", newer(world.inventory.resource(KEY) or {}, metadata=metadata))
    await world.reconcile()
    assert "delete Job/smoke" not in world.objects.calls


async def test_a_run_whose_node_was_lost_ends_although_its_pod_stays(world: World) -> None:
    await world.start()
    world.show_pod("smoke-x", phase="Running", deleted=True)
    for _ in range(3):
        assert await world.reconcile() == 2
        world.later(15)
    await world.reconcile()
    assert world.passed[0] == "Canceled"


async def test_a_result_that_the_watch_has_not_shown_yet_is_not_lost(world: World) -> None:
    """The watches of pods and ConfigMaps are independent."""
    await world.start()
    world.show_pod("smoke-x", phase="Succeeded")
    world.show_job(conditions=[{"type": "Complete", "status": "True"}])
    world.objects.put(
        newer(world.objects.get_now("ConfigMap", "smoke-result-0"), data={"summary.json": summary("Math")})
    )
    await world.reconcile()
    assert world.passed[0] == "NoObjectives"


async def test_a_load_generator_that_failed_is_quoted(world: World) -> None:
    await world.start()
    ended = {"exitCode": 2, "reason": "Error", "message": "questions/a.yaml:3: id 'x' occurs twice\n"}
    world.show_pod("smoke-x", phase="Failed", containerStatuses=[{"name": "load", "state": {"terminated": ended}}])
    world.show_job(conditions=[{"type": "Failed", "status": "True", "message": "backoff"}])
    await world.reconcile()
    assert world.passed == ("RunError", "questions/a.yaml:3: id 'x' occurs twice")


async def test_a_run_whose_endpoint_is_deleted_goes_on_and_says_so(world: World) -> None:
    world.objects.put(QUESTIONS)
    world.show_endpoint("tiny:latest")
    world.show(endpointRef={"name": "assistant"})
    await world.reconcile()
    world.pods.progress = Progress(40, 4, 1, 1, 9, 0.5)
    world.show_pod("smoke-x", phase="Running")
    await world.reconcile()
    assert world.passed == ("Running", "4 requests, 1 error, 9 tokens")
    world.inventory.gone("LLMEndpoint", newer(world.inventory.resource(ENDPOINT) or {}))
    await world.reconcile()
    assert world.passed == (
        "Running", "4 requests, 1 error, 9 tokens. LLMEndpoint assistant was deleted during the run.",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("model", "reason", "sentence"),
    [
        ("other:1b", "ModelNotServed",
         "LLMEndpoint assistant does not have the model other:1b: set spec.model to one of tiny:latest, llama:3b"),
        (None, "ModelNotChosen", "LLMEndpoint assistant has 2 models: set spec.model to one of tiny:latest, llama:3b"),
    ],
)  # fmt: skip
async def test_a_model_that_the_endpoint_does_not_have_is_refused_at_once(
    world: World, model: str | None, reason: str, sentence: str
) -> None:
    world.objects.put(QUESTIONS)
    world.show_endpoint("tiny:latest", "llama:3b", ready=False)
    world.show(endpointRef={"name": "assistant"}, **({"model": model} if model else {}))
    await world.reconcile()
    assert world.passed == (reason, sentence)
    assert world.stalled == ("True", reason)
    assert world.condition("Reconciling") == ("False", reason)
    assert [event["reason"] for event in world.objects.events] == [reason]
    world.later(10)
    await world.reconcile()
    assert world.status["verdict"] == "Error"
    assert sentence in world.passed[1]
    assert "create Job/smoke" not in world.objects.calls


async def test_a_model_that_arrives_with_the_same_apply_is_used(world: World) -> None:
    world.objects.put(QUESTIONS)
    world.show_endpoint("tiny:latest")
    world.show(endpointRef={"name": "assistant"}, model="other:1b")
    await world.reconcile()
    world.later(1)
    world.show_endpoint("tiny:latest", "other:1b")
    await world.reconcile()
    assert world.status["model"] == "other:1b"


@pytest.mark.parametrize("name", ["tiny", "Tiny:Latest", "library/tiny:latest"])
async def test_a_model_is_found_by_any_name_that_ollama_knows_it_by(world: World, name: str) -> None:
    world.objects.put(QUESTIONS)
    world.show_endpoint("tiny:latest", "other:1b")
    world.show(endpointRef={"name": "assistant"}, model=name)
    await world.reconcile()
    assert world.status["model"] == "tiny:latest"


async def test_a_run_waits_for_an_endpoint_without_a_limit_and_says_why_it_is_not_ready(world: World) -> None:
    world.show_endpoint("tiny:latest", ready=False)
    world.show(endpointRef={"name": "assistant"})
    await world.reconcile()
    world.later(86400)
    assert await world.reconcile() == 2
    assert world.passed == (
        "Pending", "LLMEndpoint assistant is not Ready (NameConflict: taken). The run starts when it is Ready.",
    )  # fmt: skip
    assert world.condition("Reconciling") == ("True", "Pending")


async def test_the_verdict_of_a_run_stays_if_a_newer_operator_would_not_accept_its_spec(world: World) -> None:
    await world.start()
    world.publish(summary("Math"))
    await world.reconcile()
    before = world.inventory.resource(KEY) or {}
    world.inventory.shows("LoadTest", newer(before, spec={"target": {"url": "http://x?y=z"}, "model": "m:1"}))
    writes, events = len(world.objects.calls), len(world.objects.events)
    for _ in range(2):
        world.later(60)
        assert await world.reconcile() is None
    assert world.status["verdict"] == "None"
    assert len(world.objects.calls) == writes
    assert len(world.objects.events) == events


LOSABLE = ["ConfigMap", "Job", "Pod"]


@pytest.mark.parametrize("kind", [*LOSABLE, "LLMEndpoint"])
async def test_a_run_does_not_start_while_its_objects_cannot_be_seen(world: World, kind: str) -> None:
    world.objects.put(QUESTIONS)
    world.show_endpoint("m:1")
    world.inventory.lose(kind, "", f"{kind} is forbidden")
    world.show(endpointRef={"name": "assistant"})
    for _ in range(20):
        assert await world.reconcile() == 2
        world.later(60)
    assert world.passed[0] == "NotWatched"
    assert world.condition("Reconciling") == ("True", "NotWatched")
    assert f"The operator cannot watch {kind} in the cluster: {kind} is forbidden. Give" in world.passed[1]
    assert "create Job/smoke" not in world.objects.calls
    assert "verdict" not in world.status
    assert [event["reason"] for event in world.objects.events] == ["NotWatched"]
    world.inventory.end_listing(kind)
    world.show_endpoint("m:1")
    await world.reconcile()
    assert world.status["startTime"]


@pytest.mark.parametrize("kind", LOSABLE)
async def test_a_run_gets_no_verdict_while_its_objects_cannot_be_seen(world: World, kind: str) -> None:
    await world.start()
    world.show_pod("smoke-x", phase="Running")
    await world.reconcile()
    world.inventory.lose(kind, "", f"{kind} is forbidden")
    # What the inventory has of the kind is outdated, and what it does not have may exist.
    for child in [child for child in world.inventory.seen(KEY).children.values() if child.key.kind == kind]:
        world.inventory.gone(kind, newer(child.body, metadata={"uid": child.uid}))
    for _ in range(20):
        assert await world.reconcile() == 2
        world.later(60)
    assert world.passed[0] == "NotWatched"
    assert world.condition("Complete") == ("False", "NotWatched")
    assert f"The operator cannot watch {kind} in the cluster" in world.passed[1]
    assert "verdict" not in world.status


async def test_a_result_that_cannot_be_seen_is_not_said_to_be_missing(world: World) -> None:
    await world.start()
    world.show_pod("smoke-x", phase="Succeeded")
    world.show_job(conditions=[{"type": "Complete", "status": "True"}])
    world.inventory.lose("ConfigMap", "", "configmaps is forbidden")
    body = world.objects.get_now("ConfigMap", "smoke-result-0")
    world.objects.remove("ConfigMap", "smoke-result-0")
    world.inventory.gone("ConfigMap", newer(body))
    await world.reconcile()
    assert world.passed[0] == "NotWatched"
    assert "verdict" not in world.status
    world.inventory.end_listing("ConfigMap")
    await world.reconcile()
    assert world.status["verdict"] == "Error"


async def test_a_config_map_without_question_files_is_named(world: World) -> None:
    world.objects.put({**QUESTIONS, "metadata": {"name": "mine", "namespace": "ns"}, "data": {"README": "soon"}})
    world.show(**TARGET, dataset={"questions": {"configMapRefs": [{"name": "mine"}]}})
    await world.reconcile()
    reason, message = world.passed
    assert reason == "Pending"
    assert message.startswith("ConfigMap mine in spec.dataset.questions.configMapRefs has no entry whose name ends in")
    assert await world.objects.get("Job", "ns", "smoke") is None
