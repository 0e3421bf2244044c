"""Load tests of a schedule beside one that has not ended, by the concurrency policy, and refused deletions."""

from __future__ import annotations

import pytest

from support.in_memory.children import newer
from support.in_memory.fakes import refusal
from support.in_memory.schedule_world import World, name_at


@pytest.fixture
def world() -> World:
    world = World()
    world.show()
    return world


async def test_forbid_waits_for_the_active_one(world: World) -> None:
    await world.until("03:00")
    await world.until("2026-06-02T03:00")
    await world.until("2026-06-02T03:01")
    assert world.created == [name_at("03:00")]
    assert world.events == [("Created", "Normal"), ("AlreadyActive", "Normal")]
    world.end(name_at("03:00"))
    await world.until("2026-06-02T03:30")
    assert world.created[1:] == [name_at("2026-06-02T03:00")]


def message_of(world: World, kind: str = "Reconciling") -> str:
    return next(str(row["message"]) for row in world.status["conditions"] if row["type"] == kind)


async def test_the_status_names_the_load_test_that_the_next_one_waits_for(world: World) -> None:
    await world.until("03:00")
    waiting = {"type": "Complete", "status": "False", "reason": "Pending",
               "message": "LLMEndpoint assistant is not Ready (ScaledToZero). The run starts when it is Ready."}  # fmt: skip
    run = world.objects.get_now("LoadTest", name_at("03:00"))
    world.inventory.shows("LoadTest", newer(run, status={"conditions": [waiting]}))
    await world.until("2026-06-02T03:00")
    assert world.conditions["Reconciling"] == ("False", "Scheduled")
    assert message_of(world) == (
        f"The load test of 2026-06-02T03:00:00Z waits for {name_at('03:00')}, which has not started (Pending: "
        "LLMEndpoint assistant is not Ready (ScaledToZero). The run starts when it is Ready)."
    )
    running = {**waiting, "reason": "Running", "message": "12 requests, 0 errors, 9 tokens"}
    status = {"conditions": [running], "startTime": "2026-06-02T03:00:01Z"}
    world.inventory.shows("LoadTest", newer(newer(run), status=status))
    await world.until("2026-06-02T03:01")
    assert message_of(world).endswith(f"waits for {name_at('03:00')}, which has not ended.")
    world.end(name_at("03:00"))
    await world.until("2026-06-02T03:02")
    assert message_of(world) == "Load tests are created at the scheduled times."


async def test_forbid_says_that_it_waits_for_a_deletion(world: World) -> None:
    await world.until("03:00")
    metadata = {"deletionTimestamp": "2026-06-01T03:30:00Z", "finalizers": ["example.org/keep"]}
    run = world.objects.get_now("LoadTest", name_at("03:00"))
    world.inventory.shows("LoadTest", newer(run, metadata=metadata))
    await world.until("2026-06-02T03:00")
    assert world.created == [name_at("03:00")]
    assert message_of(world).endswith("which is being deleted (finalizers: example.org/keep).")


async def test_allow_runs_both(world: World) -> None:
    world.show(concurrencyPolicy="Allow")
    await world.until("03:00")
    await world.until("2026-06-02T03:00")
    assert len(world.created) == 2
    assert [item["name"] for item in world.status["active"]] == world.created


async def test_replace_deletes_the_active_one(world: World) -> None:
    world.show(concurrencyPolicy="Replace")
    await world.until("03:00")
    await world.until("2026-06-02T03:00")
    assert world.deleted == [name_at("03:00")]
    assert world.created[1:] == [name_at("2026-06-02T03:00")]


DENIED = '{"kind":"Status","message":"admission webhook denied the deletion","details":{"name":"x"}}'


async def test_replace_creates_none_while_the_active_one_cannot_be_deleted(world: World) -> None:
    world.show(concurrencyPolicy="Replace")
    await world.until("03:00")
    world.objects.refuse_delete["LoadTest"] = refusal(403, DENIED)
    await world.until("2026-06-02T03:00")
    assert world.created == [name_at("03:00")]
    assert world.conditions["Reconciling"][0] == "True"
    assert "admission webhook denied the deletion" in message_of(world)
    await world.until("2026-06-02T03:01")
    assert [kind for _, kind in world.events] == ["Normal", "Warning"]
    assert "lastScheduleTime" in world.status
    del world.objects.refuse_delete["LoadTest"]
    await world.until("2026-06-02T03:02")
    assert world.created[1:] == [name_at("2026-06-02T03:00")]
    assert world.conditions["Reconciling"] == ("False", "Scheduled")


async def test_replace_does_not_wait_for_a_finalizer_of_somebody_else(world: World) -> None:
    """The load of a run that is being deleted has been stopped."""
    world.show(concurrencyPolicy="Replace")
    await world.until("03:00")
    metadata = {"deletionTimestamp": "2026-06-01T03:30:00Z", "finalizers": ["example.org/keep"]}
    run = world.objects.get_now("LoadTest", name_at("03:00"))
    world.inventory.shows("LoadTest", newer(run, metadata=metadata))
    await world.until("2026-06-02T03:00")
    assert world.deleted == []
    assert world.created[1:] == [name_at("2026-06-02T03:00")]


async def test_an_old_load_test_that_cannot_be_deleted_is_said_and_the_schedule_goes_on(world: World) -> None:
    world.show(successfulRunsHistoryLimit=0)
    world.objects.refuse_delete["LoadTest"] = refusal(403, DENIED)
    await world.until("03:00")
    world.end(name_at("03:00"))
    await world.until("03:10")
    assert world.conditions["Reconciling"][0] == "True"
    assert "admission webhook denied the deletion" in message_of(world)
    assert world.status["lastRun"]["verdict"] == "Passed"
    await world.until("2026-06-02T03:00")
    assert world.created[1:] == [name_at("2026-06-02T03:00")]
    assert world.status["lastScheduleTime"] == "2026-06-02T03:00:00Z"
