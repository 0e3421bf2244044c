"""`status.progress` of a run: added up over its pods, written seldom, and removed at its end."""

from __future__ import annotations

import msgspec

from llmendpoint_common.contracts.loadrun import MetricName, ObjectiveSoFar, Progress, StartState
from support.in_memory.loadtest_world import World, summary

SLO = [{"metric": "TTFT", "percentile": 95, "threshold": "250ms"}, {"metric": "ErrorRate", "threshold": "1%"}]


def answer(requests: int, errors: int = 0, value: float = 0.2, **fields: object) -> Progress:
    met = requests - errors
    so_far = (
        ObjectiveSoFar(MetricName.TTFT, 95, requests, met, 0, value),
        ObjectiveSoFar(MetricName.ERROR_RATE, None, requests, met),
    )
    progress = Progress(40, requests, errors, 1, 9, 0.5, completed_rate=2.5, so_far=so_far)
    return msgspec.structs.replace(progress, **fields)


async def test_the_progress_of_two_pods_is_added_up() -> None:
    world = World()
    await world.start(load={"concurrency": 4, "parallelism": 2}, slo=SLO)
    assert "progress" not in world.status
    for index, value in ((0, 0.2), (1, 0.24)):
        world.show_pod(f"smoke-{index}", index=index, phase="Running")
        world.pods.answers[f"smoke-{index}"] = answer(100, index, value)
    await world.reconcile()
    assert world.status["progress"] == {
        "requests": 200,
        "errors": 1,
        "inFlight": 2,
        "requestsPerSecond": "5",
        "slo": [
            {"metric": "TTFT", "percentile": 95, "threshold": "250ms", "measured": "200ms to 240ms", "met": True},
            {"metric": "ErrorRate", "threshold": "1%", "measured": "0.5%", "met": True},
        ],
    }


async def test_an_objective_is_not_judged_while_a_pod_does_not_answer() -> None:
    world = World()
    await world.start(load={"concurrency": 4, "parallelism": 2}, slo=SLO[:1])
    for index in (0, 1):
        world.show_pod(f"smoke-{index}", index=index, phase="Running")
    world.pods.answers = {"smoke-0": answer(100), "smoke-1": None}
    await world.reconcile()
    (objective,) = world.status["progress"]["slo"]
    assert "met" not in objective


async def test_a_pod_that_reports_other_objectives_changes_none_of_the_run() -> None:
    world = World()
    await world.start(slo=SLO[:1])
    world.show_pod("smoke-x", phase="Running")
    forged = tuple(ObjectiveSoFar(MetricName.ATTAINMENT, None, 9, 9) for _ in range(256))
    world.pods.progress = answer(9, so_far=forged, awaiting="x" * 4096)
    await world.reconcile()
    progress = world.status["progress"]
    assert progress["slo"] == [
        {"metric": "TTFT", "percentile": 95, "threshold": "250ms", "measured": "nothing measured"}
    ]
    assert len(progress["awaiting"]) == 256


async def test_a_minute_of_a_run_writes_its_status_at_most_every_five_seconds() -> None:
    world = World()
    await world.start()
    world.show_pod("smoke-x", phase="Running")
    versions = set()
    for second in range(0, 60, 2):
        world.pods.progress = answer(second + 1)
        assert await world.reconcile() == 2
        versions.add(world.status["progress"]["requests"])
        world.later(2)
    assert 9 <= len(versions) <= 12


async def test_a_run_that_has_just_begun_is_written_immediately() -> None:
    world = World()
    await world.start()
    world.show_pod("smoke-x", phase="Running")
    world.pods.progress = answer(0, start=StartState.PREPARING, awaiting="opening connections")
    await world.reconcile()
    assert world.status["progress"]["awaiting"] == "opening connections"
    world.pods.progress = answer(3)
    await world.reconcile()
    assert world.status["progress"]["requests"] == 3
    assert "awaiting" not in world.status["progress"]


async def test_the_summary_replaces_the_progress_at_the_end() -> None:
    world = World()
    await world.start()
    world.show_pod("smoke-x", phase="Running")
    world.pods.progress = answer(3)
    await world.reconcile()
    assert "progress" in world.status
    world.publish(summary("Math"))
    await world.reconcile()
    assert world.status["summary"]["requests"] == 1
    assert "progress" not in world.status
