"""Runs with several pods: they start together, and their results become one, also if pods are lost."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from llmendpoint_common.contracts.loadrun import Progress, StartState, Summary, parse_result
from support.in_memory.loadtest_world import World, summary

TWO = {"load": {"concurrency": 4, "parallelism": 2}}
EVICTION = {
    "type": "DisruptionTarget",
    "status": "True",
    "reason": "EvictionByEvictionAPI",
    "message": "Eviction API: evicting",
}


def progress(start: StartState, percent: int = 0, requests: int = 0) -> Progress:
    return Progress(percent, requests, 1, 1, 9, 0.5, start=start)


@pytest.fixture
async def world() -> World:
    """A run with two pods, whose Job has been released."""
    world = World()
    await world.start(**TWO)
    return world


def show_pods(world: World, *states: StartState | None) -> None:
    for index, state in enumerate(states):
        world.show_pod(f"smoke-{index}", index=index, phase="Running")
        world.pods.answers[f"smoke-{index}"] = progress(state) if state else None


def end_pod(world: World, index: int, phase: str = "Succeeded", **status: Any) -> None:
    world.show_pod(f"smoke-{index}", index=index, phase=phase, **status)


def result_of(world: World) -> Summary:
    return parse_result(world.objects.get_now("ConfigMap", "smoke-result")["data"]["summary.json"])


async def test_each_pod_has_a_slice_and_a_map_of_its_own(world: World) -> None:
    job = world.objects.get_now("Job", "smoke")["spec"]
    assert (job["completionMode"], job["completions"], job["parallelism"]) == ("Indexed", 2, 2)
    arguments = job["template"]["spec"]["containers"][0]["args"]
    assert "--slice=$(JOB_COMPLETION_INDEX)/2" in arguments
    assert "--result-config-map=ns/smoke-result-$(JOB_COMPLETION_INDEX)" in arguments
    maps = world.status["podResultConfigMaps"]
    assert [item["name"] for item in maps] == ["smoke-result-0", "smoke-result-1"]
    assert [item["uid"] for item in maps] == [
        world.objects.get_now("ConfigMap", item["name"])["metadata"]["uid"] for item in maps
    ]
    assert "resultConfigMap" not in world.status
    assert world.status["pods"] == 2


async def test_the_pods_are_ordered_to_start_when_all_of_them_are_ready(world: World) -> None:
    show_pods(world, StartState.READY)
    await world.reconcile()
    assert world.passed == ("Pending", "The pod of the run is starting.")
    show_pods(world, StartState.READY, StartState.PREPARING)
    await world.reconcile()
    assert world.passed == ("Pending", "1 of 2 pods are ready to start.")
    assert world.pods.orders == []
    show_pods(world, StartState.READY, StartState.READY)
    await world.reconcile()
    assert [(name, order.pod) for name, order in world.pods.orders] == [
        ("smoke-0", "ns/smoke-result-0"),
        ("smoke-1", "ns/smoke-result-1"),
    ]
    assert [round(order.in_seconds) for _, order in world.pods.orders] == [5, 5]
    show_pods(world, StartState.STARTED, StartState.STARTED)
    world.pods.answers["smoke-0"] = progress(StartState.STARTED, 60, 12)
    world.pods.answers["smoke-1"] = progress(StartState.STARTED, 40, 8)
    await world.reconcile()
    assert world.passed == ("Running", "20 requests, 2 errors, 18 tokens, 2 of 2 pods answer")
    assert world.status["progressPercent"] == 40
    assert "startDeadline" not in world.status
    assert len(world.pods.orders) == 2


async def test_a_pod_that_an_earlier_operator_has_not_ordered_is_ordered_by_the_next(world: World) -> None:
    show_pods(world, StartState.ORDERED, StartState.READY)
    world.restart()
    await world.reconcile()
    assert [name for name, _ in world.pods.orders] == ["smoke-1"]


@pytest.mark.parametrize("deaf", [True, False])
async def test_pods_that_the_operator_cannot_reach_end_the_run_with_advice(world: World, deaf: bool) -> None:
    show_pods(world, StartState.READY, StartState.READY if deaf else None)
    world.pods.deaf = {"smoke-1"} if deaf else set()
    await world.reconcile()
    assert world.passed[1].startswith("The operator cannot reach pod smoke-1 on port 8001")
    world.later(601)
    await world.reconcile()
    assert world.status["verdict"] == "Error"
    assert "NetworkPolicies" in world.passed[1]
    await world.reconcile()
    assert "delete Job/smoke" in world.objects.calls


async def test_a_pod_that_fails_before_the_start_ends_the_run(world: World) -> None:
    show_pods(world, StartState.READY)
    ended = {"state": {"terminated": {"exitCode": 2, "message": "coding.yaml:3: no prompt"}}}
    end_pod(world, 1, "Failed", containerStatuses=[ended])
    await world.reconcile()
    assert world.status["verdict"] == "Error"
    assert world.passed == ("RunError", "Pod smoke-1 has failed: coding.yaml:3: no prompt")
    await world.reconcile()
    assert "delete Job/smoke" in world.objects.calls


async def test_a_pod_that_is_deleted_before_the_start_ends_the_run(world: World) -> None:
    show_pods(world, StartState.READY)
    world.show_pod("smoke-1", index=1, phase="Pending", deleted=True)
    await world.reconcile()
    assert (world.status["verdict"], world.passed[0]) == ("None", "Canceled")
    assert world.passed[1] == (
        "Pod smoke-1 was deleted during the run. All pods of a run start together, so the run has ended. It left no "
        "result. Create another LoadTest to run it again."
    )
    await world.reconcile()
    assert "delete Job/smoke" in world.objects.calls


async def test_a_pod_that_has_gone_before_the_start_ends_the_run(world: World) -> None:
    """The other pod waits for the order to start, so the Job itself does not end."""
    show_pods(world, StartState.READY)
    world.show_job(active=1, failed=1, failedIndexes="1")
    await world.reconcile()
    assert (world.status["verdict"], world.passed[0]) == ("None", "Canceled")
    assert world.passed[1].startswith("1 of 2 pods was deleted during the run. All pods of a run start together")


async def test_pods_that_end_are_not_said_to_be_out_of_reach(world: World) -> None:
    """A pod stops answering before it writes its result."""
    show_pods(world, StartState.STARTED, StartState.STARTED)
    for index, requests in enumerate((12, 8)):
        world.pods.answers[f"smoke-{index}"] = progress(StartState.STARTED, 97 + index, requests)
    await world.reconcile()
    world.pods.answers = {"smoke-0": None, "smoke-1": progress(StartState.STARTED, 99, 9)}
    world.later(6)
    await world.reconcile()
    assert world.passed == ("Running", "21 requests, 2 errors, 18 tokens, 1 of 2 pods answer")
    world.pods.answers = {"smoke-0": None, "smoke-1": None}
    for ended in ((), (0,), (0, 1)):
        for index in ended:
            end_pod(world, index)
        world.later(6)
        await world.reconcile()
        assert world.passed == (
            "Running",
            "21 requests, 2 errors, 18 tokens. No load pod answers any more, as is normal at the end of a run.",
        )
        assert world.status["progressPercent"] == 99
        assert world.status["progress"]["requests"] == 21
    world.restart()
    world.later(6)
    await world.reconcile()
    assert world.passed == ("Running", "The load pods have ended, and their results are awaited.")
    assert world.status["progress"]["requests"] == 21


async def test_a_pod_that_has_ended_is_not_asked(world: World) -> None:
    """Its address may belong to another pod by now."""
    show_pods(world, StartState.STARTED, StartState.STARTED)
    await world.reconcile()
    end_pod(world, 0)
    world.pods.asked.clear()
    world.later(6)
    await world.reconcile()
    assert world.pods.asked == ["smoke-1"]


async def test_the_other_pods_go_on_when_one_is_deleted_during_the_run(world: World) -> None:
    show_pods(world, StartState.STARTED, StartState.STARTED)
    world.pods.answers = {f"smoke-{index}": progress(StartState.STARTED, 50, 10) for index in range(2)}
    await world.reconcile()
    world.remove_pod("smoke-1")
    world.show_job(active=1, failed=1, failedIndexes="1")
    world.pods.answers["smoke-0"] = progress(StartState.STARTED, 60, 15)
    world.later(6)
    await world.reconcile()
    assert world.passed == ("Running", "25 requests, 2 errors, 18 tokens, 1 of 2 pods answer")
    assert world.status["progressPercent"] == 60
    end_pod(world, 0)
    world.later(6)
    await world.reconcile()
    assert world.passed[0] == "Running"
    world.publish(summary("Math"), 0)
    world.show_job(failed=1, succeeded=1, conditions=[{"type": "Failed", "status": "True"}])
    await world.reconcile()
    assert (world.status["verdict"], world.passed[0]) == ("None", "Canceled")
    assert world.passed[1].startswith("1 of 2 pods was deleted during the run.")
    assert world.status["summary"]["partial"] is True


async def test_a_run_whose_pods_were_all_deleted_is_canceled(world: World) -> None:
    await finish(world, None, None)
    for index in range(2):
        end_pod(world, index, "Failed", deleted=True)
    world.show_job(conditions=[{"type": "Failed", "status": "True", "message": "failed indexes"}])
    await world.reconcile()
    assert (world.status["verdict"], world.passed[0]) == ("None", "Canceled")
    assert world.passed[1].endswith("It left no result. Create another LoadTest to run it again.")


async def finish(world: World, *texts: str | None) -> None:
    show_pods(world, StartState.STARTED, StartState.STARTED)
    await world.reconcile()
    for index, text in enumerate(texts):
        if text is not None:
            world.publish(text, index)


async def test_the_results_of_the_pods_become_one_result(world: World) -> None:
    await finish(world, summary("Math"), summary("Math", "Coding"))
    await world.reconcile()
    assert "verdict" not in world.status
    end_pod(world, 0)
    end_pod(world, 1)
    world.show_job(conditions=[{"type": "Complete", "status": "True"}])
    await world.reconcile()
    assert world.status["verdict"] == "None"
    assert world.passed[0] == "NoObjectives"
    assert world.status["summary"]["requests"] == 3
    assert [(item["category"], item["requests"]) for item in world.status["summary"]["categories"]] == [
        ("Coding", 1),
        ("Math", 2),
    ]
    assert "partial" not in world.status["summary"]
    kept = world.objects.get_now("ConfigMap", "smoke-result")
    assert world.status["resultConfigMap"] == {"name": "smoke-result", "uid": kept["metadata"]["uid"]}
    assert result_of(world).requests == 3
    assert result_of(world).environment.pods == 2
    assert kept["metadata"]["ownerReferences"][0]["uid"] == "uid-run"


async def test_the_result_of_an_evicted_pod_is_part_of_a_result_that_is_marked_partial(world: World) -> None:
    await finish(world, summary("Math"), None)
    end_pod(world, 1, conditions=[EVICTION], deleted=True)
    await world.reconcile()
    assert world.passed[0] == "Running"
    world.publish(summary("Math", partial=True), 1)
    end_pod(world, 1, "Failed", conditions=[EVICTION])
    end_pod(world, 0)
    world.show_job(conditions=[{"type": "Failed", "status": "True"}])
    await world.reconcile()
    assert (world.status["verdict"], world.passed[0]) == ("None", "Canceled")
    assert world.passed[1].startswith("Pod smoke-1 was stopped: Eviction API: evicting.")
    assert world.status["summary"]["requests"] == 2
    assert world.status["summary"]["partial"] is True


async def test_a_pod_that_left_nothing_makes_the_result_partial(world: World) -> None:
    await finish(world, summary("Math"), None)
    end_pod(world, 0)
    end_pod(world, 1, "Failed", reason="NodeLost", message="gone")
    world.show_job(conditions=[{"type": "Failed", "status": "True"}])
    await world.reconcile()
    assert (world.status["verdict"], world.passed[0]) == ("None", "Canceled")
    assert world.status["summary"]["partial"] is True
    assert result_of(world).partial


async def test_a_job_that_is_deleted_leaves_the_partial_results_of_its_pods(world: World) -> None:
    await finish(world, None, None)
    job = world.objects.get_now("Job", "smoke")
    world.objects.remove("Job", "smoke")
    world.inventory.gone("Job", job)
    await world.reconcile()
    assert world.passed[1] == "Job/smoke was deleted during the run. Waiting for its partial result."
    for index in range(2):
        world.publish(summary("Math", partial=True), index)
        end_pod(world, index, controller_uid=job["metadata"]["uid"])
    await world.reconcile()
    assert (world.status["verdict"], world.status["summary"]["requests"]) == ("None", 2)


async def test_a_result_that_cannot_be_merged_ends_the_run_with_the_reason(world: World) -> None:
    wrong = msgspec.json.decode(summary("Math"))
    wrong["measurements"]["whole"]["errors"] = 10
    await finish(world, summary("Math"), msgspec.json.encode(wrong).decode())
    end_pod(world, 0)
    end_pod(world, 1)
    world.show_job(conditions=[{"type": "Complete", "status": "True"}])
    await world.reconcile()
    assert world.status["verdict"] == "Error"
    assert "cannot be merged: the measurements are not valid" in world.passed[1]


async def test_an_operator_that_died_while_it_merged_writes_the_same_result(world: World) -> None:
    await finish(world, summary("Math"), summary("Math"))
    end_pod(world, 0)
    end_pod(world, 1)
    world.show_job(conditions=[{"type": "Complete", "status": "True"}])
    world.objects.refuse["LoadTest"] = TimeoutError()
    with pytest.raises(TimeoutError):
        await world.reconcile()
    first = result_of(world)
    del world.objects.refuse["LoadTest"]
    world.restart()
    await world.reconcile()
    assert result_of(world) == first
    assert world.status["summary"]["requests"] == 2
