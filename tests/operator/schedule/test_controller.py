"""The controller of schedules, on a cluster in memory and in virtual time: one load test for each scheduled time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from llmendpoint_operator.cluster.inventory import Inventory
from llmendpoint_operator.cluster.keys import Key
from llmendpoint_operator.policy.document import ALLOW_ALL, Policy
from llmendpoint_operator.reconcile.controller import Cluster
from llmendpoint_operator.schedule.controller import ScheduleController
from support.children import live, newer
from support.fakes import FakeDiscovery, FakeObjects, refusal

KEY = Key("LoadTestSchedule", "ns", "nightly")
TEMPLATE = {"spec": {"endpointRef": {"name": "assistant"}}}
API_VERSION = "llmendpoint.dev/v1alpha1"


class World:
    """A schedule that was created at 00:00, on a cluster in memory."""

    def __init__(self, policy: Policy = ALLOW_ALL) -> None:
        self.objects = FakeObjects()
        self.time = datetime(2026, 6, 1, tzinfo=UTC)
        self.inventory = Inventory(lambda: 0.0)
        self.inventory.end_listing("LoadTest")
        self.marked: list[Key] = []
        self.cluster = Cluster(
            self.objects,  # type: ignore[arg-type]
            self.inventory,
            FakeDiscovery(),  # type: ignore[arg-type]
            None,  # type: ignore[arg-type]
            lambda: self.time,
            mark=self.marked.append,
        )
        self.controller = ScheduleController(self.cluster, policy)

    def show(self, **spec: Any) -> None:
        metadata = {"name": "nightly", "namespace": "ns", "creationTimestamp": "2026-06-01T00:00:00Z"}
        whole = {"schedule": "0 3 * * *", "template": TEMPLATE, **spec}
        before = self.inventory.resource(KEY)
        if before is None:
            body = {"apiVersion": API_VERSION, "kind": "LoadTestSchedule", "metadata": metadata, "spec": whole}
            self.inventory.shows("LoadTestSchedule", live(body, "uid-schedule", stamp=False))
        else:
            generation = before["metadata"]["generation"] + 1
            body = newer({**before, "spec": whole}, metadata={"generation": generation})
            self.inventory.shows("LoadTestSchedule", body)

    def restart(self) -> None:
        self.controller = ScheduleController(self.cluster)

    async def until(self, text: str) -> None:
        """Let the clock show a time of day, which may be earlier, and reconcile."""
        self.time = datetime.fromisoformat(text if "T" in text else f"2026-06-01T{text}").replace(tzinfo=UTC)
        await self.controller.reconcile(KEY)

    async def reconcile(self) -> float | None:
        return await self.controller.reconcile(KEY)

    def end(self, name: str, verdict: str = "Passed", reason: str = "ObjectivesMet") -> None:
        """Show that a load test has ended now."""
        complete = {"type": "Complete", "status": "True", "reason": "Finished", "message": ""}
        passed = {"type": "Passed", "status": "True", "reason": reason, "message": ""}
        status = {"conditions": [complete, passed], "verdict": verdict,
                  "completionTime": self.time.strftime("%Y-%m-%dT%H:%M:%SZ")}  # fmt: skip
        self.inventory.shows("LoadTest", newer(self.objects.get_now("LoadTest", name), status=status))

    @property
    def created(self) -> list[str]:
        return [call.removeprefix("create LoadTest/") for call in self.objects.calls if call.startswith("create")]

    @property
    def deleted(self) -> list[str]:
        calls = dict.fromkeys(self.objects.calls)
        return [call.removeprefix("delete LoadTest/") for call in calls if call.startswith("delete")]

    @property
    def status(self) -> dict[str, Any]:
        return dict((self.inventory.resource(KEY) or {})["status"])

    @property
    def conditions(self) -> dict[str, tuple[str, str]]:
        return {row["type"]: (row["status"], row["reason"]) for row in self.status["conditions"]}

    @property
    def events(self) -> list[tuple[str, str]]:
        return [(event["reason"], event["type"]) for event in self.objects.events]


def name_at(text: str) -> str:
    """Return the name of the load test of a time."""
    moment = datetime.fromisoformat(text if "T" in text else f"2026-06-01T{text}").replace(tzinfo=UTC)
    return f"nightly-{int(moment.timestamp()) // 60}"


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
