"""A controller of LoadTests on a cluster in memory, with load pods that answer as told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from llmendpoint_common.contracts.loadrun import Progress, RunDocument, RunLoad, RunTarget, StartOrder
from llmendpoint_loadjob.result.timings import Sample
from llmendpoint_operator.cluster.inventory import Inventory
from llmendpoint_operator.cluster.keys import Key
from llmendpoint_operator.loadtest.controller import LoadTestController
from llmendpoint_operator.policy.document import ALLOW_ALL, Policy
from llmendpoint_operator.reconcile.controller import Cluster
from llmendpoint_operator.settings import ChildSettings, Images
from support.in_memory.children import live, newer
from support.in_memory.fakes import FakeDiscovery, FakeObjects
from support.load.outcomes import Outcome, summarize

KEY = Key("LoadTest", "ns", "smoke")
ENDPOINT = Key("LLMEndpoint", "ns", "assistant")
SETTINGS = ChildSettings(Images("sidecar:1", "loadjob:1", "ollama:1"))
QUESTIONS = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "math", "namespace": "chart"},
    "data": {"m.yaml": "x"},
}
TARGET = {"target": {"url": "http://x"}, "model": "m:1"}


class FakePods:
    """Load pods that all report the same progress, or do not answer, except those in `answers`.

    `asked` has their names, and `orders` the orders to start that they have taken. `deaf` refuse orders.
    """

    def __init__(self) -> None:
        self.progress: Progress | None = None
        self.answers: dict[str, Progress | None] = {}
        self.asked: list[str] = []
        self.orders: list[tuple[str, StartOrder]] = []
        self.deaf: set[str] = set()

    async def load(self, pod: dict[str, Any]) -> Progress | None:
        name = pod["metadata"]["name"]
        self.asked.append(name)
        return self.answers.get(name, self.progress)

    async def start(self, pod: dict[str, Any], order: StartOrder) -> bool:
        name = pod["metadata"]["name"]
        if name in self.deaf:
            return False
        self.orders.append((name, order))
        return True


class World:
    """A controller of LoadTests on a cluster in memory."""

    def __init__(self, policy: Policy = ALLOW_ALL) -> None:
        self.objects = FakeObjects()
        self.time = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
        self.seconds = 0.0
        self.inventory = Inventory(lambda: self.seconds)
        self.list_all()
        self.pods = FakePods()
        self._shown: dict[str, dict[str, Any]] = {}
        self.cluster = Cluster(self.objects, self.inventory, FakeDiscovery(), self.pods, lambda: self.time)  # type: ignore[arg-type]
        self.controller = LoadTestController(self.cluster, SETTINGS, "chart", policy)

    def list_all(self) -> None:
        """Complete the listings, which show the objects that the inventory has."""
        for kind in ("ConfigMap", "Job", "Pod", "LLMEndpoint"):
            self.inventory.end_listing(kind)

    def show(self, **spec: Any) -> None:
        body = {"apiVersion": "llmendpoint.dev/v1alpha1", "kind": "LoadTest",
                "metadata": {"name": "smoke", "namespace": "ns"}, "spec": spec}  # fmt: skip
        self.inventory.shows("LoadTest", live(body, "uid-run", stamp=False))

    def show_endpoint(self, *models: str, ready: bool = True) -> None:
        condition = {"type": "Ready", "status": str(ready), "reason": "NameConflict", "message": "taken."}
        conditions = [condition, {**condition, "type": "Stalled", "status": str(not ready)}]
        body = {"apiVersion": "llmendpoint.dev/v1alpha1", "kind": "LLMEndpoint",
                "metadata": {"name": "assistant", "namespace": "ns"},
                "spec": {"models": [{"name": name} for name in models]},
                "status": {"conditions": conditions, "url": "http://assistant"}}  # fmt: skip
        self.inventory.shows("LLMEndpoint", live(body, "uid-endpoint", stamp=False))

    def restart(self) -> None:
        """Replace the controller by that of a new process. The inventory stands for its listings."""
        self.controller = LoadTestController(self.cluster, SETTINGS, "chart")

    def show_pod(self, name: str, controller_uid: str = "", index: int | None = None, **status: Any) -> None:
        controller_uid = controller_uid or self.objects.get_now("Job", "smoke")["metadata"]["uid"]
        controller = {
            "kind": "Job",
            "name": "smoke",
            "uid": controller_uid,
            "controller": True,
            "apiVersion": "batch/v1",
        }
        metadata: dict[str, Any] = {"name": name, "namespace": "ns", "ownerReferences": [controller],
                    "labels": {"llmendpoint.dev/loadtest": "smoke", "app.kubernetes.io/component": "load"}}  # fmt: skip
        if index is not None:
            metadata["labels"] |= {"batch.kubernetes.io/job-completion-index": str(index)}
        if status.pop("deleted", False):
            metadata["deletionTimestamp"] = "2026-01-02T03:04:35Z"
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": {"podIP": "10.0.0.1", **status}}
        self._shown[name] = live(body, f"uid-{name}", stamp=False)
        self.inventory.shows("Pod", self._shown[name])

    def remove_pod(self, name: str) -> None:
        """Show that a pod no longer exists."""
        self.inventory.gone("Pod", newer(self._shown.pop(name)))

    def warn(self, kind: str, name: str, uid: str, reason: str, message: str) -> None:
        """Show a Warning Event, as the controllers of Kubernetes and kubelet write it."""
        about = {"kind": kind, "name": name, "namespace": "ns", "uid": uid}
        metadata = {"name": f"{name}.1", "namespace": "ns", "creationTimestamp": "2026-01-02T03:04:05Z"}
        body = {"apiVersion": "v1", "kind": "Event", "metadata": metadata, "involvedObject": about,
                "reason": reason, "message": message, "type": "Warning"}  # fmt: skip
        self.inventory.shows("Event", live(body, f"uid-{reason}", stamp=False))

    def show_job(self, **status: Any) -> None:
        """Show the Job with a status that the Job controller has written."""
        body = newer(self.objects.get_now("Job", "smoke"), status=status)
        self.objects.put(body)
        self.inventory.shows("Job", body)

    def publish(self, text: str, index: int = 0) -> None:
        """Write a result, as the load pod does."""
        body = newer(self.objects.get_now("ConfigMap", f"smoke-result-{index}"), data={"summary.json": text})
        self.objects.put(body)
        self.inventory.shows("ConfigMap", body)

    async def start(self, **spec: Any) -> None:
        self.objects.put(QUESTIONS)
        self.show(**TARGET, **spec)
        await self.reconcile()

    def later(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)
        self.seconds += seconds

    async def reconcile(self) -> float | None:
        return await self.controller.reconcile(KEY)

    @property
    def status(self) -> dict[str, Any]:
        return dict((self.inventory.resource(KEY) or {})["status"])

    def condition(self, kind: str) -> tuple[str, str]:
        return next((row["status"], row["reason"]) for row in self.status["conditions"] if row["type"] == kind)

    @property
    def stalled(self) -> tuple[str, str]:
        return self.condition("Stalled")

    @property
    def passed(self) -> tuple[str, str]:
        return next((row["reason"], row["message"]) for row in self.status["conditions"] if row["type"] == "Passed")


def summary(*categories: str, partial: bool = False) -> str:
    """Return the result of a run, or of one of its pods, with one request of each category."""
    samples = [Sample("id", "q", name, 0.0, 0.0, 0.1, 0.2, 0.2, 200, output_tokens=2) for name in categories]
    outcome = Outcome(samples, duration=1.0, offered=1, sent=1, interrupted=partial)
    document = RunDocument(RunTarget("http://x"), "m:1", RunLoad(concurrency=1))
    return msgspec.json.encode(summarize(outcome, document)).decode()
