"""A cluster in memory with one LoadTestSchedule, in virtual time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from llmendpoint_operator.cluster.inventory import Inventory
from llmendpoint_operator.cluster.keys import Key
from llmendpoint_operator.policy.document import ALLOW_ALL, Policy
from llmendpoint_operator.reconcile.controller import Cluster
from llmendpoint_operator.schedule.controller import ScheduleController
from support.in_memory.children import live, newer
from support.in_memory.fakes import FakeDiscovery, FakeObjects

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
