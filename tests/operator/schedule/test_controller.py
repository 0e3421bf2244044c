"""The controller of schedules, on a cluster in memory and in virtual time: one load test for each scheduled time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from llmendpoint_operator.cluster.keys import Key
from llmendpoint_operator.policy.document import Policy
from llmendpoint_operator.reconcile.controller import Cluster
from support.in_memory.children import live
from support.in_memory.fakes import FakeDiscovery, refusal
from support.in_memory.schedule_world import API_VERSION, TEMPLATE, World, name_at


@pytest.fixture
def world() -> World:
    world = World()
    world.show()
    return world


async def test_a_load_test_is_created_at_its_time_and_belongs_to_the_schedule(world: World) -> None:
    await world.until("02:59:59")
    assert world.created == []
    assert world.status["nextScheduleTime"] == "2026-06-01T03:00:00Z"
    await world.until("03:00")
    assert world.created == [name_at("03:00")]
    made = world.objects.get_now("LoadTest", name_at("03:00"))
    assert made["spec"] == TEMPLATE["spec"]
    assert made["metadata"]["ownerReferences"][0]["uid"] == "uid-schedule"
    assert made["metadata"]["labels"]["llmendpoint.dev/schedule"] == "nightly"
    assert made["metadata"]["annotations"]["llmendpoint.dev/scheduled-time"] == "2026-06-01T03:00:00Z"
    assert world.status["lastScheduleTime"] == "2026-06-01T03:00:00Z"
    assert world.status["nextScheduleTime"] == "2026-06-02T03:00:00Z"
    assert world.status["active"] == [{"name": name_at("03:00")}]
    assert world.conditions == {"Reconciling": ("False", "Scheduled"), "Stalled": ("False", "NotStalled")}
    assert world.events == [("Created", "Normal")]


async def test_in_between_nothing_is_sent(world: World) -> None:
    await world.until("01:00")
    calls = len(world.objects.calls)
    for minute in range(10, 60):
        await world.until(f"01:{minute}")
    assert len(world.objects.calls) == calls


async def test_the_next_look_is_at_the_scheduled_time_or_soon(world: World) -> None:
    await world.until("02:59:58")
    assert await world.reconcile() == 2
    await world.until("01:00")
    assert await world.reconcile() == 5


async def test_labels_and_annotations_of_the_template_are_on_the_load_test(world: World) -> None:
    metadata = {"labels": {"team": "a"}, "annotations": {"note": "x"}}
    world.show(template={**TEMPLATE, "metadata": metadata})
    await world.until("03:00")
    made = world.objects.get_now("LoadTest", name_at("03:00"))["metadata"]
    assert (made["labels"]["team"], made["annotations"]["note"]) == ("a", "x")


async def test_a_load_test_is_reconciled_if_its_creation_was_answered_before_the_watch_showed_it(world: World) -> None:
    world.show()
    await world.until("03:00")
    created = world.objects.get_now("LoadTest", name_at("03:00"))
    assert world.inventory.shows("LoadTest", created) is None
    assert world.marked == [Key("LoadTest", "ns", name_at("03:00"))]


async def test_an_operator_that_died_after_it_created_one_creates_no_second_one(world: World) -> None:
    world.objects.refuse["LoadTestSchedule"] = TimeoutError()
    world.time = datetime(2026, 6, 1, 3, tzinfo=UTC)
    with pytest.raises(TimeoutError):
        await world.reconcile()
    assert world.created == [name_at("03:00")]
    del world.objects.refuse["LoadTestSchedule"]
    world.restart()
    await world.until("03:01")
    assert world.created == [name_at("03:00")]
    assert world.status["lastScheduleTime"] == "2026-06-01T03:00:00Z"


async def test_two_operators_create_one_load_test(world: World) -> None:
    other = World()
    other.objects = world.objects
    other.cluster = Cluster(world.objects, other.inventory, FakeDiscovery(), None, lambda: other.time)  # type: ignore[arg-type]
    other.restart()
    other.show()
    await world.until("03:00")
    await other.until("03:00")
    made = [name for name in world.created if name == name_at("03:00")]
    # The second attempt was refused, because the name exists.
    assert len(made) == 2
    assert other.status["lastScheduleTime"] == "2026-06-01T03:00:00Z"
    assert [event["reason"] for event in world.objects.events] == ["Created"]


async def test_after_an_outage_only_the_last_missed_load_test_is_created(world: World) -> None:
    await world.until("2026-06-05T12:00")
    assert world.created == [name_at("2026-06-05T03:00")]


async def test_a_missed_load_test_is_not_created_after_its_deadline(world: World) -> None:
    world.show(startingDeadlineSeconds=600)
    await world.until("2026-06-05T03:10:01")
    assert world.created == []
    assert world.events == [("Missed", "Warning")]
    await world.until("2026-06-05T03:20")
    assert len(world.events) == 1
    await world.until("2026-06-06T03:10")
    assert world.created == [name_at("2026-06-06T03:00")]


async def test_a_clock_that_jumps_back_creates_nothing_twice(world: World) -> None:
    await world.until("03:00")
    world.end(name_at("03:00"))
    await world.until("02:00")
    await world.until("03:00")
    await world.until("2026-06-02T02:59")
    assert world.created == [name_at("03:00")]
    await world.until("2026-06-02T03:00")
    assert world.created == [name_at("03:00"), name_at("2026-06-02T03:00")]


async def test_a_clock_that_was_years_ahead_does_not_stop_the_schedule(world: World) -> None:
    await world.until("03:00")
    world.end(name_at("03:00"))
    await world.until("2031-01-01T03:00")
    world.end(name_at("2031-01-01T03:00"))
    await world.until("04:00")
    assert "lastScheduleTime" not in world.status
    assert world.status["scheduledSince"] == "2026-06-01T04:00:00Z"
    assert world.status["nextScheduleTime"] == "2026-06-02T03:00:00Z"
    await world.until("2026-06-02T03:00")
    assert world.created == [name_at(text) for text in ("03:00", "2031-01-01T03:00", "2026-06-02T03:00")]
    assert world.status["lastScheduleTime"] == "2026-06-02T03:00:00Z"


async def test_a_schedule_that_was_changed_while_the_clock_was_ahead_applies_from_the_present_time_on(
    world: World,
) -> None:
    await world.until("2031-01-01T12:00")
    world.end(name_at("2031-01-01T03:00"))
    world.show(schedule="0 4 * * *")
    await world.until("2031-01-01T12:05")
    await world.until("12:00")
    await world.until("2026-06-02T04:00")
    assert world.created[1:] == [name_at("2026-06-02T04:00")]


async def test_the_next_time_is_one_at_which_a_load_test_is_created(world: World) -> None:
    """The clock was ahead by some hours: 03:00 has been used already."""
    await world.until("03:00")
    world.end(name_at("03:00"))
    await world.until("01:00")
    assert world.status["nextScheduleTime"] == "2026-06-02T03:00:00Z"


async def test_a_suspended_schedule_creates_nothing_and_makes_up_for_the_last_time_afterwards(world: World) -> None:
    world.show(suspend=True)
    await world.until("2026-06-03T12:00")
    assert world.created == []
    assert world.conditions["Reconciling"] == ("False", "Suspended")
    assert "nextScheduleTime" not in world.status
    world.show(suspend=False)
    await world.reconcile()
    assert world.created == [name_at("2026-06-03T03:00")]


async def test_a_changed_schedule_applies_from_now_on(world: World) -> None:
    await world.until("12:00")
    world.end(name_at("03:00"))
    world.show(schedule="0 11 * * *")
    await world.until("12:05")
    assert world.created == [name_at("03:00")]
    assert world.status["scheduledSince"] == "2026-06-01T12:05:00Z"
    await world.until("2026-06-02T11:00")
    assert world.created[1:] == [name_at("2026-06-02T11:00")]


async def test_only_the_newest_load_tests_are_kept(world: World) -> None:
    world.show(successfulRunsHistoryLimit=2, failedRunsHistoryLimit=1)
    verdicts = ["Passed", "Failed", "None", "Invalid", "Passed"]
    for day, verdict in enumerate(verdicts, 1):
        await world.until(f"2026-06-{day:02}T03:00")
        world.time += timedelta(minutes=10)
        world.end(name_at(f"2026-06-{day:02}T03:00"), verdict, "NoObjectives")
        await world.reconcile()
    assert world.deleted == [name_at("2026-06-02T03:00"), name_at("2026-06-01T03:00")]
    assert world.status["lastRun"] == {"name": name_at("2026-06-05T03:00"), "verdict": "Passed"}
    assert world.status["lastSuccessfulTime"] == "2026-06-05T03:10:00Z"


async def test_a_canceled_load_test_is_not_a_success(world: World) -> None:
    await world.until("03:00")
    world.end(name_at("03:00"), "None", "Canceled")
    await world.reconcile()
    assert "lastSuccessfulTime" not in world.status
    assert world.status["lastRun"]["verdict"] == "None"


async def test_a_strangers_load_test_of_the_name_is_left_alone(world: World) -> None:
    body = {
        "apiVersion": API_VERSION,
        "kind": "LoadTest",
        "spec": {},
        "metadata": {"name": name_at("03:00"), "namespace": "ns"},
    }
    stranger = live(body, "uid-stranger", stamp=False)
    world.objects.put(stranger)
    world.inventory.shows("LoadTest", stranger)
    await world.until("03:00")
    await world.until("03:01")
    assert world.deleted == []
    assert world.events == [("NameConflict", "Warning")]
    assert "active" not in world.status


@pytest.mark.parametrize(
    ("code", "words", "reason", "stalled"),
    [(403, "exceeded quota: q", "QuotaExceeded", False), (422, "spec.model: too long", "Invalid", True)],
)
async def test_a_refused_load_test_is_said_and_tried_again(
    world: World, code: int, words: str, reason: str, stalled: bool
) -> None:
    world.objects.refuse["LoadTest"] = refusal(code, f'{{"message":"{words}","details":{{"name":"x"}}}}')
    await world.until("03:00")
    assert world.conditions["Stalled"][0] == str(stalled)
    assert world.conditions["Reconciling"] == (str(not stalled), reason)
    assert words in str(world.status["conditions"])
    assert world.events == [(reason, "Warning")]
    del world.objects.refuse["LoadTest"]
    await world.until("03:01")
    assert world.created[-1] == name_at("03:00")
    assert world.conditions["Stalled"] == ("False", "NotStalled")


async def test_the_policy_applies_to_the_template() -> None:
    world = World(Policy(target_hosts=()))
    world.show(template={"spec": {"target": {"url": "http://evil.example"}, "model": "m"}})
    await world.until("03:00")
    assert world.created == []
    assert world.conditions["Stalled"] == ("True", "PolicyViolation")
    assert "spec.template.spec.target.url" in str(world.status["conditions"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schedule": "0 0 30 2 *"}, "spec.schedule: not a cron expression: bad day-of-month"),
        ({"timeZone": "Mars/Olympus"}, "spec.timeZone: the time zone 'Mars/Olympus' is not known"),
    ],
)
async def test_a_schedule_that_the_schema_cannot_refuse_is_stalled(world: World, change: Any, words: str) -> None:
    await world.until("01:00")
    world.show(**change)
    await world.until("03:00")
    assert world.created == []
    assert world.conditions["Stalled"] == ("True", "InvalidSpec")
    assert "nextScheduleTime" not in world.status
    assert words in str(world.status["conditions"])


async def test_load_tests_that_cannot_be_watched_are_not_created(world: World) -> None:
    world.inventory.lose("LoadTest", "", "403: loadtests is forbidden")
    await world.until("03:00")
    assert world.created == []
    assert world.conditions["Reconciling"] == ("True", "NotWatched")


async def test_before_the_load_tests_are_listed_nothing_is_decided(world: World) -> None:
    world.inventory.begin_listing("LoadTest")
    await world.until("03:00")
    assert world.objects.calls == []
