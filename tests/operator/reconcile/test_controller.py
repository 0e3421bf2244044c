"""Reconciles of an endpoint on a cluster in memory: the steps that all resources share, and those of endpoints."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from llmendpoint_common.contracts.sidecar import ModelPhase, ModelStatus, SidecarStatus, Totals
from llmendpoint_operator.cluster.inventory import Inventory
from llmendpoint_operator.endpoint.controller import EndpointController
from llmendpoint_operator.policy.document import ALLOW_ALL, Policy
from llmendpoint_operator.reconcile.controller import Cluster
from llmendpoint_operator.settings import ChildSettings, Images
from support.children import KEY, endpoint_body, live, newer
from support.fakes import FakeDiscovery, FakeObjects, forbidden, refusal
from support.manifests import pod

SETTINGS = ChildSettings(Images("sidecar:1", "loadjob:1", "ollama:1"))
LOADED = ModelStatus("tiny:latest", ModelPhase.READY, present=True, loaded=True, loaded_bytes=1, vram_bytes=1)
LOADING = ModelStatus("tiny:latest", ModelPhase.LOADING, present=True)


class FakePods:
    """Sidecars that all report the same model, or do not answer."""

    def __init__(self) -> None:
        self.model: ModelStatus | None = None
        self.polls = 0

    async def sidecar(self, pod: dict[str, Any]) -> SidecarStatus | None:
        self.polls += 1
        if self.model is None:
            return None
        return SidecarStatus("1", True, False, True, "0.17.4", (self.model,), Totals())


class World:
    """An endpoint's controller on a cluster in memory."""

    def __init__(self, policy: Policy = ALLOW_ALL) -> None:
        self.objects, self.pods, self.discovery = FakeObjects(), FakePods(), FakeDiscovery()
        self.inventory = Inventory(lambda: 0.0)
        cluster = Cluster(self.objects, self.inventory, self.discovery, self.pods, self.now)  # type: ignore[arg-type]
        self.cluster = cluster
        self.controller = EndpointController(cluster, SETTINGS, policy)

    @staticmethod
    def now() -> datetime:
        return datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

    def show(self, **spec: Any) -> None:
        body = endpoint_body()
        self.inventory.shows("LLMEndpoint", {**body, "spec": {**body["spec"], **spec}})

    def show_ready_pod(self) -> None:
        replicas = {"replicas": 1, "readyReplicas": 1, "observedGeneration": 1}
        body = newer(self.objects.get_now("StatefulSet", "assistant"), status=replicas)
        self.inventory.shows("StatefulSet", body)
        status = {"podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]}
        made = live(pod("assistant-0", "assistant", body["metadata"]["uid"]), "uid-pod", stamp=False, status=status)
        made["metadata"]["namespace"] = "ns"
        self.inventory.shows("Pod", made)

    @property
    def conditions(self) -> dict[str, str]:
        return {row["type"]: row["reason"] for row in self.objects.statuses[-1]["conditions"]}


@pytest.fixture
def world() -> World:
    return World()


async def test_a_reconcile_reads_nothing_and_a_second_one_sends_nothing(world: World) -> None:
    world.show()
    await world.controller.reconcile(KEY)
    assert not [call for call in world.objects.calls if not call.startswith(("create", "status"))]
    assert len(world.objects.calls) == 7
    await world.controller.reconcile(KEY)
    assert len(world.objects.calls) == 7


async def test_a_resource_that_is_gone_or_on_its_way_is_left_alone(world: World) -> None:
    assert await world.controller.reconcile(KEY) is None
    body = endpoint_body()
    world.inventory.shows("LLMEndpoint", newer(body, metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}))
    assert await world.controller.reconcile(KEY) is None
    assert world.objects.calls == []


async def test_a_spec_that_cannot_be_parsed_is_reported_by_field(world: World) -> None:
    world.show(replicas="many")
    assert await world.controller.reconcile(KEY) is None
    assert world.objects.calls == ["status LLMEndpoint/assistant"]
    rows = world.objects.statuses[-1]["conditions"]
    assert [(row["type"], row["status"]) for row in rows] == [("Ready", "False"), ("Stalled", "True")]
    assert {row["reason"] for row in rows} == {"InvalidSpec"}
    assert all(row["message"].startswith("spec.replicas: ") for row in rows)


async def test_a_refused_child_does_not_stop_the_others_nor_the_status(world: World) -> None:
    world.objects.refuse["ServiceMonitor"] = forbidden()
    world.show()
    assert await world.controller.reconcile(KEY) == 2
    assert "create StatefulSet/assistant" in world.objects.calls
    assert world.conditions["Degraded"] == "Forbidden"


async def test_pods_are_not_made_while_a_child_that_they_use_is_refused(world: World) -> None:
    world.objects.refuse["ServiceAccount"] = forbidden()
    world.show()
    assert await world.controller.reconcile(KEY) == 2
    assert "create StatefulSet/assistant" not in world.objects.calls
    assert "create Service/assistant" in world.objects.calls
    degraded = next(row for row in world.objects.statuses[-1]["conditions"] if row["type"] == "Degraded")
    assert degraded["reason"] == "Forbidden"
    assert degraded["message"].endswith("Until then, StatefulSet/assistant will not be written.")


async def test_a_status_that_meets_no_resource_means_that_it_is_gone(world: World) -> None:
    world.objects.refuse["LLMEndpoint"] = refusal(404, "{}")
    world.show()
    await world.controller.reconcile(KEY)
    assert world.inventory.resource(KEY) is None


@pytest.mark.parametrize(
    ("model", "replicas", "seconds"),
    [(LOADED, 1, 30), (LOADING, 1, 2), (None, 1, 2)],
)
async def test_sidecars_are_polled_often_while_models_load(
    world: World, model: ModelStatus | None, replicas: int, seconds: float
) -> None:
    world.show(replicas=replicas)
    await world.controller.reconcile(KEY)
    world.pods.model = model
    world.show_ready_pod()
    assert await world.controller.reconcile(KEY) == seconds
    assert world.pods.polls == 1


async def test_an_endpoint_that_is_scaled_to_zero_is_settled(world: World) -> None:
    world.show(replicas=0)
    assert await world.controller.reconcile(KEY) == 30
    assert world.conditions["Ready"] == "ScaledToZero"
    # If its last pod still exists, it is not settled yet.
    world.show_ready_pod()
    assert await world.controller.reconcile(KEY) == 2


async def test_a_pod_that_only_has_our_labels_is_not_polled(world: World) -> None:
    world.show()
    await world.controller.reconcile(KEY)
    world.pods.model = LOADED
    forged = live(pod("assistant-9", "assistant", "uid-other"), "uid-pod", stamp=False, status={"podIP": "10.0.0.9"})
    forged["metadata"]["namespace"] = "ns"
    world.inventory.shows("Pod", forged)
    await world.controller.reconcile(KEY)
    assert world.pods.polls == 0
    assert world.conditions["ModelsAvailable"] == "Starting"


async def test_an_endpoint_without_pods_waits_for_events(world: World) -> None:
    world.show()
    assert await world.controller.reconcile(KEY) == 30
    assert world.pods.polls == 0


async def test_each_new_reason_becomes_one_event(world: World) -> None:
    world.show()
    for _ in range(2):
        await world.controller.reconcile(KEY)
    assert [event["reason"] for event in world.objects.events] == ["Starting"]
    world.pods.model = LOADED
    world.show_ready_pod()
    await world.controller.reconcile(KEY)
    assert [event["reason"] for event in world.objects.events] == ["Starting", "ModelsAnswer", "AllPresent"]
    assert {event["type"] for event in world.objects.events} == {"Normal"}


NO_NODE_PORTS = Policy(service_types=())


async def test_nothing_is_applied_for_a_spec_that_the_policy_forbids() -> None:
    world = World(NO_NODE_PORTS)
    world.show(service={"type": "NodePort"})
    for _ in range(2):
        assert await world.controller.reconcile(KEY) == 30
    assert world.objects.calls == ["status LLMEndpoint/assistant"]
    assert world.conditions["Stalled"] == world.conditions["Ready"] == "PolicyViolation"
    assert [event["type"] for event in world.objects.events if event["reason"] == "PolicyViolation"] == ["Warning"]
    world.show(service={"type": "ClusterIP"})
    await world.controller.reconcile(KEY)
    assert "create StatefulSet/assistant" in world.objects.calls
    assert world.conditions["Stalled"] == "NotStalled"


async def test_an_endpoint_that_runs_is_left_as_it_is_if_the_policy_forbids_its_spec(world: World) -> None:
    world.show(service={"type": "NodePort"})
    await world.controller.reconcile(KEY)
    world.pods.model = LOADED
    world.show_ready_pod()
    await world.controller.reconcile(KEY)
    world.objects.calls.clear()
    # Another operator starts with a policy, and the spec is changed.
    controller = EndpointController(world.cluster, SETTINGS, NO_NODE_PORTS)
    world.show(service={"type": "NodePort"}, replicas=5)
    await controller.reconcile(KEY)
    assert world.objects.calls == ["status LLMEndpoint/assistant"]
    assert world.conditions["Ready"] == "ModelsAnswer"
    assert world.conditions["Stalled"] == "PolicyViolation"
    assert [event["type"] for event in world.objects.events if event["reason"] == "PolicyViolation"] == ["Warning"]
