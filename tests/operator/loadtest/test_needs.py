"""What a run needs before it starts, and what stops it: suspension, traces, baselines and volumes."""

from __future__ import annotations

from typing import Any

import pytest

from support.in_memory.children import live, newer
from support.in_memory.loadtest_world import KEY, QUESTIONS, TARGET, World, summary

ENDED = {"conditions": [{"type": "Complete", "status": "True", "reason": "Finished", "message": ""}]}


@pytest.fixture
def world() -> World:
    world = World()
    world.objects.put(QUESTIONS)
    return world


async def test_a_suspended_run_does_not_start_until_it_may(world: World) -> None:
    world.show(**TARGET, suspend=True)
    assert await world.reconcile() is None
    assert world.condition("Passed") == ("Unknown", "Suspended")
    assert world.condition("Reconciling") == ("False", "Suspended")
    assert world.stalled == ("False", "NotStalled")
    assert world.objects.calls == ["status LoadTest/smoke"]
    assert [(event["reason"], event["type"]) for event in world.objects.events] == [("Suspended", "Normal")]
    world.show(**TARGET, suspend=False)
    await world.reconcile()
    assert world.status["startTime"]


async def test_a_run_that_is_suspended_is_canceled_and_keeps_its_partial_result(world: World) -> None:
    await world.start()
    world.show_pod("smoke-x", phase="Running")
    await world.reconcile()
    body = newer(world.inventory.resource(KEY) or {})
    world.inventory.shows("LoadTest", {**body, "spec": {**body["spec"], "suspend": True}})
    await world.reconcile()
    assert "delete Job/smoke" in world.objects.calls
    await world.reconcile()
    canceled = "The run was canceled, because spec.suspend is true."
    assert world.passed == ("Running", f"{canceled} Waiting for its partial result.")
    assert world.objects.calls.count("delete Job/smoke") == 1
    world.publish(summary("Math", partial=True))
    await world.reconcile()
    assert world.status["verdict"] == "None"
    assert world.condition("Passed") == ("Unknown", "Canceled")
    assert world.passed[1].startswith(canceled)
    assert world.status["summary"]["partial"] is True
    assert [event["reason"] for event in world.objects.events] == ["Started", "Canceling", "None"]


async def test_a_run_that_is_suspended_before_its_pod_starts_ends_without_a_result(world: World) -> None:
    await world.start()
    job = newer(world.objects.get_now("Job", "smoke"))
    body = newer(world.inventory.resource(KEY) or {})
    world.inventory.shows("LoadTest", {**body, "spec": {**body["spec"], "suspend": True}})
    await world.reconcile()
    world.inventory.gone("Job", job)
    await world.reconcile()
    assert (world.status["verdict"], world.passed[0]) == ("None", "Canceled")


TRACED = {**TARGET, "dataset": {"trace": {"configMapKeyRef": {"name": "traces", "key": "a.jsonl"}}}}


def traces(**data: str) -> dict[str, Any]:
    metadata = {"name": "traces", "namespace": "ns"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


async def test_a_run_waits_for_its_trace_and_copies_it(world: World) -> None:
    world.show(**TRACED)
    assert await world.reconcile() == 10
    assert world.passed[1].startswith("ConfigMap traces in spec.dataset.trace.configMapKeyRef does not exist.")
    world.objects.put(traces(other="{}"))
    await world.reconcile()
    assert "has no key a.jsonl" in world.passed[1]
    world.objects.put(traces(other="{}", **{"a.jsonl": '{"timestamp": 0}\n'}))
    await world.reconcile()
    assert world.objects.get_now("ConfigMap", "smoke-trace")["data"] == {"a.jsonl": '{"timestamp": 0}\n'}
    assert world.status["startTime"]
    arguments = world.objects.get_now("Job", "smoke")["spec"]["template"]["spec"]["containers"][0]["args"]
    assert "--trace=/etc/llmendpoint/trace/a.jsonl" in arguments
    assert not [argument for argument in arguments if argument.startswith("--questions")]


STORED = {**TARGET, "results": {"persistentVolumeClaim": {"claimName": "runs"}}}


def claim(*modes: str, metadata: Any = None, phase: str = "Pending", **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "status": {"phase": phase},
            "metadata": {"name": "runs", "namespace": "ns", **(metadata or {})},
            "spec": {"accessModes": [*modes], **spec}}  # fmt: skip


async def test_a_run_waits_for_the_claim_of_its_files(world: World) -> None:
    world.objects.put(QUESTIONS)
    world.show(**STORED)
    assert await world.reconcile() == 10
    assert world.passed[1] == (
        "PersistentVolumeClaim runs in spec.results.persistentVolumeClaim.claimName does not exist. The run starts when "
        "it exists."
    )
    world.objects.put(live(claim("ReadWriteOnce", metadata={"deletionTimestamp": "2026-01-02T03:04:35Z"}), stamp=False))
    await world.reconcile()
    assert "is being deleted" in world.passed[1]
    world.objects.put(live(claim("ReadWriteOnce", phase="Lost"), stamp=False))
    await world.reconcile()
    assert "has lost its volume" in world.passed[1]
    # A class with WaitForFirstConsumer binds a claim when its pod exists.
    world.objects.put(live(claim("ReadWriteOnce"), stamp=False))
    await world.reconcile()
    assert world.status["startTime"]


@pytest.mark.parametrize(
    ("wrong", "load", "sentence"),
    [
        (claim("ReadWriteOnce", volumeMode="Block"), {}, "has the volumeMode Block"),
        (claim("ReadOnlyMany"), {}, "cannot be written to, because its access mode is ReadOnlyMany"),
        (claim("ReadWriteOncePod"), {"concurrency": 2, "parallelism": 2}, "allows only one pod to use it"),
    ],
)
async def test_a_claim_that_cannot_receive_the_files_ends_the_run_soon(
    world: World, wrong: dict[str, Any], load: dict[str, Any], sentence: str
) -> None:
    world.objects.put(QUESTIONS)
    world.objects.put(live(wrong, stamp=False))
    world.show(**STORED, load=load)
    await world.reconcile()
    assert world.stalled == ("True", "Invalid")
    assert sentence in world.passed[1]
    world.later(11)
    await world.reconcile()
    assert world.status["verdict"] == "Error"
    assert sentence in world.passed[1]


@pytest.mark.parametrize(
    ("modes", "load"),
    [
        (["ReadWriteOncePod"], {}),
        (["ReadWriteOnce"], {"concurrency": 2, "parallelism": 2}),
        (["ReadOnlyMany", "ReadWriteMany"], {"concurrency": 2, "parallelism": 2}),
    ],
)
async def test_a_claim_that_may_work_is_used(world: World, modes: list[str], load: dict[str, Any]) -> None:
    world.objects.put(QUESTIONS)
    world.objects.put(live(claim(*modes), stamp=False))
    world.show(**STORED, load=load)
    await world.reconcile()
    assert world.status["startTime"]


COMPARED = {**TARGET, "baselineRef": {"name": "last", "maxRegression": "5%"}}


def show_baseline(world: World, **status: Any) -> None:
    body = {"apiVersion": "llmendpoint.dev/v1alpha1", "kind": "LoadTest", "spec": TARGET, "status": status,
            "metadata": {"name": "last", "namespace": "ns"}}  # fmt: skip
    world.inventory.shows("LoadTest", live(body, "uid-last", stamp=False))


async def test_a_run_waits_for_the_complete_result_of_its_baseline_and_copies_it(world: World) -> None:
    world.show(**COMPARED)
    await world.reconcile()
    assert world.passed[1].startswith("LoadTest last in spec.baselineRef does not exist.")
    show_baseline(world)
    await world.reconcile()
    assert world.passed[1].startswith("LoadTest last in spec.baselineRef has not ended yet.")
    show_baseline(world, **ENDED, verdict="Error")
    await world.reconcile()
    assert world.passed[1].startswith("LoadTest last in spec.baselineRef has no complete result (verdict Error).")
    reference = {"name": "last-result-0", "uid": "uid-result"}
    show_baseline(world, **ENDED, verdict="Passed", summary={"requests": 1}, resultConfigMap=reference)
    result = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"summary.json": summary("Math")},
              "metadata": {"name": "last-result-0", "namespace": "ns"}}  # fmt: skip
    await world.reconcile()
    assert "ConfigMap last-result-0" in world.passed[1]
    world.objects.put(live(result, "uid-result", stamp=False))
    await world.reconcile()
    assert world.objects.get_now("ConfigMap", "smoke-baseline")["data"] == result["data"]
    assert world.status["startTime"]


async def test_a_missing_baseline_ends_the_run_after_ten_minutes(world: World) -> None:
    world.show(**COMPARED)
    await world.reconcile()
    world.later(601)
    await world.reconcile()
    assert world.status["verdict"] == "Error"
    assert world.passed[1] == (
        "The run has ended, because it could not start. The last obstacle was: "
        "LoadTest last in spec.baselineRef does not exist."
    )


async def test_the_status_has_the_load_that_a_scenario_became(world: World) -> None:
    world.show(**TARGET, scenario="Spike", load={"concurrency": 10, "seed": 7})
    await world.reconcile()
    assert world.status["resolvedLoad"] == {
        "stages": [
            {"duration": "120s", "concurrency": 1, "ramp": False},
            {"duration": "60s", "concurrency": 10, "ramp": False},
            {"duration": "120s", "concurrency": 1, "ramp": False},
        ],
        "drainTimeout": "60s",
        "warmup": "0s",
        "seed": 7,
        "parallelism": 1,
    }


@pytest.mark.parametrize(
    ("scenario", "load", "sentence"),
    [
        ("Sweep", {"concurrency": 10}, "the scenario Sweep searches for a rate"),
        ("Traffic", {"parallelism": 9}, "load.parallelism (9) must not be more than load.maxInFlight (8)"),
    ],
)
async def test_a_scenario_that_its_fields_contradict_ends_the_run_with_the_reason(
    world: World, scenario: str, load: dict[str, Any], sentence: str
) -> None:
    world.show(**TARGET, scenario=scenario, load=load)
    await world.reconcile()
    assert world.status["verdict"] == "Error"
    assert sentence in world.passed[1]
