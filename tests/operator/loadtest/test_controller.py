"""The controller of LoadTests, on a cluster in memory. A run starts at most once, even if writes are refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from llmendpoint_common.contracts.loadrun import Progress, RunDocument, RunLoad, RunTarget
from llmendpoint_loadjob.result.summary import summarize
from llmendpoint_loadjob.result.timings import Outcome, Sample
from llmendpoint_operator.cluster.inventory import Inventory
from llmendpoint_operator.cluster.keys import Key
from llmendpoint_operator.kube.owner import Owner
from llmendpoint_operator.loadtest.controller import LoadTestController
from llmendpoint_operator.policy.document import ALLOW_ALL, Policy
from llmendpoint_operator.reconcile.controller import Cluster
from llmendpoint_operator.settings import ChildSettings, Images
from support.children import live, newer
from support.fakes import FakeDiscovery, FakeObjects, forbidden, refusal

KEY = Key("LoadTest", "ns", "smoke")
SETTINGS = ChildSettings(Images("sidecar:1", "loadjob:1", "ollama:1"))
QUESTIONS = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "math", "namespace": "chart"},
    "data": {"m.yaml": "x"},
}
TARGET = {"target": {"url": "http://x"}, "model": "m:1"}


class FakePods:
    """Load pods that all report the same progress, or do not answer. `asked` has their names."""

    def __init__(self) -> None:
        self.progress: Progress | None = None
        self.asked: list[str] = []

    async def load(self, pod: dict[str, Any]) -> Progress | None:
        self.asked.append(pod["metadata"]["name"])
        return self.progress


class World:
    """A controller of LoadTests on a cluster in memory."""

    def __init__(self, policy: Policy = ALLOW_ALL) -> None:
        self.objects = FakeObjects()
        self.time = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
        self.seconds = 0.0
        self.inventory = Inventory(lambda: self.seconds)
        self.list_all()
        self.pods = FakePods()
        cluster = Cluster(self.objects, self.inventory, FakeDiscovery(), self.pods, lambda: self.time)  # type: ignore[arg-type]
        self.controller = LoadTestController(cluster, SETTINGS, "chart", policy)

    def list_all(self) -> None:
        """Complete the listings, which show the objects that the inventory has."""
        for kind in ("ConfigMap", "Job"):
            self.inventory.end_listing(kind)

    def show(self, **spec: Any) -> None:
        body = {"apiVersion": "llmendpoint.dev/v1alpha1", "kind": "LoadTest",
                "metadata": {"name": "smoke", "namespace": "ns"}, "spec": spec}  # fmt: skip
        self.inventory.shows("LoadTest", live(body, "uid-run", stamp=False))

    def show_pod(self, name: str, controller_uid: str) -> None:
        controller = {
            "kind": "Job",
            "name": "smoke",
            "uid": controller_uid,
            "controller": True,
            "apiVersion": "batch/v1",
        }
        metadata = {"name": name, "namespace": "ns", "ownerReferences": [controller],
                    "labels": {"llmendpoint.dev/loadtest": "smoke", "app.kubernetes.io/component": "load"}}  # fmt: skip
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": {"podIP": "10.0.0.1"}}
        self.inventory.shows("Pod", live(body, f"uid-{name}", stamp=False))

    def publish(self, text: str) -> None:
        """Write a result, as the load pod does."""
        body = newer(self.objects.get_now("ConfigMap", "smoke-result-0"), data={"summary.json": text})
        self.objects.put(body)
        self.inventory.shows("ConfigMap", body)

    async def start(self) -> None:
        self.objects.put(QUESTIONS)
        self.show(**TARGET)
        await self.reconcile()

    def later(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)
        self.seconds += seconds

    async def reconcile(self) -> float | None:
        return await self.controller.reconcile(KEY)

    @property
    def status(self) -> dict[str, Any]:
        return dict((self.inventory.resource(KEY) or {})["status"])

    @property
    def stalled(self) -> tuple[str, str]:
        return next((row["status"], row["reason"]) for row in self.status["conditions"] if row["type"] == "Stalled")

    @property
    def passed(self) -> tuple[str, str]:
        return next((row["reason"], row["message"]) for row in self.status["conditions"] if row["type"] == "Passed")


@pytest.fixture
def world() -> World:
    return World()


async def test_a_run_starts_once_and_follows_without_requests(world: World) -> None:
    world.objects.put(QUESTIONS)
    world.show(**TARGET)
    assert await world.reconcile() == 2
    assert world.objects.calls.count("create Job/smoke") == 1
    assert world.objects.calls.index("status LoadTest/smoke") < world.objects.calls.index("create Job/smoke")
    assert world.passed[0] == "Running"
    assert [event["reason"] for event in world.objects.events] == ["Started"]
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
    assert await world.reconcile() == 10
    assert world.passed[0] == "Pending"
    assert "Job/smoke exists but does not belong to this LoadTest" in world.passed[1]
    assert "startTime" not in world.status


async def test_a_refused_child_keeps_a_run_from_starting_and_is_tried_again(world: World) -> None:
    world.objects.put(QUESTIONS)
    world.objects.refuse["Role"] = forbidden()
    world.show(**TARGET)
    assert await world.reconcile() == 2
    assert world.passed[0] == "Pending"
    assert "you may not" in world.passed[1]
    assert "create Job/smoke" not in world.objects.calls
    del world.objects.refuse["Role"]
    world.later(2)
    await world.reconcile()
    assert world.passed[0] == "Running"


async def test_a_refused_job_ends_the_run_in_the_api_servers_words(world: World) -> None:
    world.objects.put(QUESTIONS)
    world.objects.refuse["Job"] = refusal(403, '{"message":"exceeded quota: q","details":{"name":"smoke"}}')
    world.show(**TARGET)
    await world.reconcile()
    assert world.status["verdict"] == "Error"
    assert world.status["startTime"]
    assert world.passed[0] == "RunError"
    assert "exceeded quota: q" in world.passed[1]
    assert [event["type"] for event in world.objects.events] == ["Normal", "Warning"]


async def test_a_job_is_created_later_if_the_api_server_was_away(world: World) -> None:
    world.objects.put(QUESTIONS)
    world.objects.refuse["Job"] = TimeoutError()
    world.show(**TARGET)
    assert await world.reconcile() == 2
    world.later(60)
    assert await world.reconcile() == 2
    assert world.passed[0] == "Running"
    del world.objects.refuse["Job"]
    world.later(60)
    await world.reconcile()
    assert world.objects.get_now("Job", "smoke")


async def test_a_run_whose_job_is_gone_is_an_error_once_everything_was_listed(world: World) -> None:
    world.objects.put(QUESTIONS)
    world.show(**TARGET)
    await world.reconcile()
    job = world.objects.get_now("Job", "smoke")
    world.later(60)
    world.inventory.gone("Job", job)
    world.inventory.begin_listing("Job")
    assert await world.reconcile() == 2
    world.inventory.end_listing("Job")
    await world.reconcile()
    assert world.passed == ("RunError", "The Job of this run was deleted. Create another LoadTest to run it again.")
    assert world.objects.calls.count("create Job/smoke") == 1


def summary(*categories: str) -> str:
    samples = [Sample("id", "q", name, 0.0, 0.0, 0.1, 0.2, 0.2, 200, output_tokens=2) for name in categories]
    outcome = Outcome(samples, duration=1.0, offered=1, sent=1)
    document = RunDocument(RunTarget("http://x"), "m:1", RunLoad(concurrency=1))
    return msgspec.json.encode(summarize(outcome, document)).decode()


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
    world.show_pod("real", world.objects.get_now("Job", "smoke")["metadata"]["uid"])
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
    assert world.passed == ("RunError", "The Job of this run was deleted. Create another LoadTest to run it again.")


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
    assert world.passed[0] == "Running"
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
