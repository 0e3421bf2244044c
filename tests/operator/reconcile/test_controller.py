"""Reconciles of an endpoint on a cluster in memory: the steps that all resources share, and those of endpoints."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from kubernetes.aio.client.exceptions import ApiException

from llmendpoint_common.contracts.sidecar import ModelPhase, ModelStatus, SidecarStatus, Totals
from llmendpoint_operator.cluster.inventory import Inventory
from llmendpoint_operator.cluster.keys import Key
from llmendpoint_operator.cluster.pod_status import Silence
from llmendpoint_operator.endpoint.controller import EndpointController
from llmendpoint_operator.policy.document import ALLOW_ALL, Policy
from llmendpoint_operator.reconcile import controller
from llmendpoint_operator.reconcile.controller import Cluster
from llmendpoint_operator.settings import ChildSettings, Images
from support.api_server.claims import bound
from support.api_server.claims import claim as replica_claim
from support.api_server.manifests import pod
from support.in_memory.children import KEY, endpoint_body, live, newer
from support.in_memory.fakes import FakeDiscovery, FakeObjects, forbidden, refusal
from support.waiting import eventually

SETTINGS = ChildSettings(Images("sidecar:1", "loadjob:1", "ollama:1"))
LOADED = ModelStatus("tiny:latest", ModelPhase.READY, present=True, loaded=True, loaded_bytes=1, vram_bytes=1)
LOADING = ModelStatus("tiny:latest", ModelPhase.LOADING, present=True)


class FakePods:
    """Sidecars that all report the same model, or do not answer."""

    def __init__(self) -> None:
        self.model: ModelStatus | None = None
        self.polls = 0
        #: Called during a poll.
        self.meanwhile: Callable[[], object] = lambda: None

    async def sidecar(self, pod: dict[str, Any]) -> SidecarStatus | Silence:
        self.polls += 1
        self.meanwhile()
        if self.model is None:
            return Silence("http://10.0.0.1:8001/status", "no answer within 2 s")
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

    def message(self, kind: str) -> str:
        return str(next(row["message"] for row in self.objects.statuses[-1]["conditions"] if row["type"] == kind))

    def show_pod(self, status: dict[str, Any], name: str = "assistant-0") -> None:
        """Show a StatefulSet and a pod of it that is not ready."""
        body = newer(self.objects.get_now("StatefulSet", "assistant"), status={"replicas": 1, "observedGeneration": 1})
        self.inventory.shows("StatefulSet", body)
        made = live(pod(name, "assistant", body["metadata"]["uid"]), f"uid-{name}", stamp=False, status=status)
        made["metadata"]["namespace"] = "ns"
        self.inventory.shows("Pod", made)

    def warn(self, kind: str, name: str, uid: str, reason: str, message: str) -> dict[str, Any]:
        """Show a Warning Event, and return it."""
        about = {"kind": kind, "name": name, "uid": uid, "namespace": "ns"}
        body = {"apiVersion": "v1", "kind": "Event", "involvedObject": about, "reason": reason, "message": message,
                "type": "Warning", "count": 1, "lastTimestamp": "2026-01-02T03:04:00Z",
                "metadata": {"name": "e", "namespace": "ns", "uid": f"uid-{reason}", "resourceVersion": "1"}}  # fmt: skip
        self.inventory.shows("Event", body)
        return body

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
    assert len(world.objects.calls) == 8
    await world.controller.reconcile(KEY)
    assert len(world.objects.calls) == 8


@pytest.mark.parametrize("generation", [1, 2])
async def test_a_status_is_for_the_newest_version_of_its_spec(world: World, generation: int) -> None:
    """An annotation that changes during each poll must not keep the status from being written; a new spec must."""
    world.show()
    await world.controller.reconcile(KEY)
    world.show_ready_pod()
    polled = world.inventory.resource(KEY)
    assert polled is not None
    edited = newer(polled, metadata={"annotations": {"edited": "yes"}, "generation": generation})
    world.pods.meanwhile = lambda: world.inventory.shows("LLMEndpoint", edited)
    await world.controller.reconcile(KEY)
    expected = edited if generation == 1 else polled
    assert world.objects.written_upon[-1] == expected["metadata"]["resourceVersion"]


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
    assert [(row["type"], row["status"], row["reason"]) for row in rows] == [
        ("Ready", "False", "InvalidSpec"), ("Reconciling", "False", "Stalled"), ("Stalled", "True", "InvalidSpec"),
    ]  # fmt: skip
    assert all(row["message"].startswith("spec.replicas: ") for row in rows if row["reason"] == "InvalidSpec")
    assert "observedGeneration" not in world.objects.statuses[-1]
    # One Event, however often it is read again.
    await world.controller.reconcile(KEY)
    assert [(event["type"], event["reason"]) for event in world.objects.events] == [("Warning", "InvalidSpec")]


async def test_two_names_of_one_model_are_an_invalid_spec(world: World) -> None:
    """An object may have been stored before the schema refused it."""
    world.show(models=[{"name": "tiny:latest"}, {"name": "library/Tiny:latest"}])
    await world.controller.reconcile(KEY)
    assert world.conditions["Stalled"] == "InvalidSpec"
    assert world.message("Stalled") == (
        "spec.models: tiny:latest and library/Tiny:latest are one model for Ollama; remove one of them"
    )
    assert world.objects.calls == ["status LLMEndpoint/assistant"]


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
    await world.controller.reconcile(KEY)
    observed = {"observedGeneration": 1}
    world.inventory.shows("StatefulSet", newer(world.objects.get_now("StatefulSet", "assistant"), status=observed))
    assert await world.controller.reconcile(KEY) == 300
    assert "Ready" not in world.conditions
    assert world.conditions["Reconciling"] == "ScaledToZero"
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
    assert await world.controller.reconcile(KEY) == 300
    assert world.pods.polls == 0


async def test_each_new_reason_becomes_one_event(world: World) -> None:
    world.show()
    for _ in range(2):
        await world.controller.reconcile(KEY)
    assert world.objects.events == []
    world.pods.model = LOADED
    world.show_ready_pod()
    await world.controller.reconcile(KEY)
    assert [event["reason"] for event in world.objects.events] == ["ModelsAnswer", "AllPresent"]
    assert {event["type"] for event in world.objects.events} == {"Normal"}


class Slowness:
    """Lets writes of one kind wait until `end` is set."""

    def __init__(self, objects: FakeObjects, kind: str) -> None:
        self._create, self._kind = objects.create, kind
        self.end = asyncio.Event()
        objects.create = self.create  # type: ignore[method-assign]

    async def create(self, manifest: dict[str, Any]) -> dict[str, Any]:
        if manifest["kind"] == self._kind:
            await self.end.wait()
        return await self._create(manifest)


async def test_the_status_says_which_write_is_slow(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A webhook may hang. Until the API server gives up, the status must not be that of an object nobody has seen."""
    monkeypatch.setattr(controller, "_SLOW_SECONDS", 0.01)
    slow = Slowness(world.objects, "ConfigMap")
    world.show()
    work = asyncio.ensure_future(world.controller.reconcile(KEY))
    await eventually(lambda: bool(world.objects.statuses))
    assert world.conditions == {"Reconciling": "NotApplied"}
    assert "ConfigMap/assistant is being written, but the API server has not answered" in world.message("Reconciling")
    slow.end.set()
    assert await work == 0
    await world.controller.reconcile(KEY)
    assert world.conditions["Reconciling"] == "RollingOut"


async def test_a_slow_write_is_told_once_per_generation(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.show()
    await world.controller.reconcile(KEY)
    monkeypatch.setattr(controller, "_SLOW_SECONDS", 0.01)
    slow = Slowness(world.objects, "ConfigMap")
    world.inventory.gone("ConfigMap", newer(world.objects.get_now("ConfigMap", "assistant")))
    world.objects.remove("ConfigMap", "assistant")
    before = len(world.objects.statuses)
    work = asyncio.ensure_future(world.controller.reconcile(KEY))
    await asyncio.wait([work], timeout=0.05)
    assert len(world.objects.statuses) == before
    slow.end.set()
    assert await work == 300


async def test_a_slow_write_ends_even_if_the_status_cannot_be_written(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(controller, "_SLOW_SECONDS", 0.01)
    slow = Slowness(world.objects, "ConfigMap")
    world.objects.refuse_next["LLMEndpoint"] = refusal(500, "no leader")
    world.show()
    work = asyncio.ensure_future(world.controller.reconcile(KEY))
    await eventually(lambda: "status LLMEndpoint/assistant" in world.objects.calls)
    slow.end.set()
    with pytest.raises(ApiException, match="500"):
        await work
    assert "StatefulSet/assistant" in world.objects.created


NO_NODE_PORTS = Policy(service_types=())


async def test_nothing_is_applied_for_a_spec_that_the_policy_forbids() -> None:
    world = World(NO_NODE_PORTS)
    world.show(service={"type": "NodePort"})
    for _ in range(2):
        assert await world.controller.reconcile(KEY) == 300
    assert world.objects.calls == ["status LLMEndpoint/assistant"]
    assert world.conditions["Stalled"] == world.conditions["Ready"] == "PolicyViolation"
    assert world.conditions["MonitoringReady"] == "NotApplied"
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


@pytest.mark.parametrize("obstacle", [{"service": {"type": "NodePort"}}, {"models": []}])
async def test_what_others_change_while_a_spec_is_refused_is_repaired_afterwards(obstacle: dict[str, Any]) -> None:
    world = World(NO_NODE_PORTS)
    world.show(replicas=1)
    await world.controller.reconcile(KEY)
    world.show(**obstacle)
    await world.controller.reconcile(KEY)
    assert world.conditions["Stalled"] in ("PolicyViolation", "InvalidSpec")
    body = world.objects.get_now("StatefulSet", "assistant")
    world.inventory.shows("StatefulSet", newer(body, spec={**body["spec"], "replicas": 0}))
    await world.controller.reconcile(KEY)
    world.objects.calls.clear()
    world.show(replicas=1)
    await world.controller.reconcile(KEY)
    assert [call for call in world.objects.calls if "StatefulSet" in call] == ["apply StatefulSet/assistant"]


async def test_a_message_that_is_written_too_early_is_written_later(world: World) -> None:
    world.show()
    await world.controller.reconcile(KEY)

    def waits_for(resource: str) -> None:
        unscheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "lastTransitionTime": "2026-01-02T03:04:00Z",
                       "message": f"0/1 nodes are available: 1 Insufficient {resource}."}  # fmt: skip
        world.show_pod({"conditions": [unscheduled]})

    waits_for("cpu")
    assert await world.controller.reconcile(KEY) == 30
    written = len(world.objects.statuses)
    waits_for("memory")
    assert await world.controller.reconcile(KEY) == 10
    assert len(world.objects.statuses) == written


def claim_of(size: str) -> dict[str, Any]:
    """Return the bound claim of the first replica, as the watch shows it."""
    made = replica_claim("models-assistant-0", "fast", size)
    metadata = {**made["metadata"], "namespace": "ns"}
    return live({**made, "metadata": metadata}, stamp=False, status=bound("models-assistant-0", size)["status"])


NOT_EXPANDABLE = (
    r'{"kind":"Status","message":"persistentvolumeclaims \"models-assistant-0\" is forbidden: only dynamically provisioned '
    r'pvc can be resized and the storageclass that provisions the pvc must support resize","details":{"name":"x"}}'
)


async def test_a_refused_claim_is_patched_again_later_and_the_statefulset_keeps_its_size(world: World) -> None:
    world.show()
    await world.controller.reconcile(KEY)
    world.inventory.shows("PersistentVolumeClaim", claim_of("50Gi"))
    world.objects.refuse_patch = refusal(403, NOT_EXPANDABLE)
    world.objects.calls.clear()
    world.show(storage={"size": "80Gi"})
    # The inventory's clock stands still, so that the second reconcile is before the time of the next attempt.
    assert [await world.controller.reconcile(KEY) for _ in range(2)] == [2, 2]
    calls = [call for call in world.objects.calls if not call.startswith("status")]
    assert calls == ["patch PersistentVolumeClaim/models-assistant-0"]
    assert world.conditions["Stalled"] == world.conditions["Degraded"] == "StorageNotExpandable"
    # A larger size is a new attempt.
    world.show(storage={"size": "90Gi"})
    await world.controller.reconcile(KEY)
    assert world.objects.calls.count("patch PersistentVolumeClaim/models-assistant-0") == 2


async def test_a_statefulset_is_replaced_when_its_claims_have_been_patched(world: World) -> None:
    world.show()
    await world.controller.reconcile(KEY)
    body = claim_of("50Gi")
    world.objects.put(body)
    world.inventory.shows("PersistentVolumeClaim", body)
    world.objects.calls.clear()
    world.show(storage={"size": "80Gi"})
    await world.controller.reconcile(KEY)
    calls = [call for call in world.objects.calls if not call.startswith("status")]
    assert calls == [
        "patch PersistentVolumeClaim/models-assistant-0", "try StatefulSet/assistant", "orphan StatefulSet/assistant",
    ]  # fmt: skip


async def test_what_a_load_test_measured_is_in_the_status_until_the_configuration_changes(world: World) -> None:
    world.show()
    await world.controller.reconcile(KEY)
    world.pods.model = msgspec.structs.replace(LOADED, digest="sha256:1")
    world.show_ready_pod()
    await world.controller.reconcile(KEY)
    assert "capacity" not in world.objects.statuses[-1]
    status = {
        "verdict": "Passed", "model": "tiny:latest", "modelDigest": "sha256:1", "replicas": 1, "completionTime": "2026-01-02T03:04:05Z",
        "configurationHash": world.objects.statuses[-1]["configurationHash"],
        "summary": {"requestsPerSecond": "1.5", "outputTokensPerSecond": "60"},
    }  # fmt: skip
    world.cluster.measurements.record(Key("LoadTest", "ns", "nightly"), "assistant", status)
    await world.controller.reconcile(KEY)
    capacity = world.objects.statuses[-1]["capacity"]
    assert (capacity["tokensPerSecond"], capacity["loadTestRef"]) == ("60", {"name": "nightly"})
    world.pods.model = msgspec.structs.replace(LOADED, digest="sha256:2")
    await world.controller.reconcile(KEY)
    assert "capacity" not in world.objects.statuses[-1]


NO_QUOTA = (
    'create Pod assistant-0 in StatefulSet assistant failed error: pods "assistant-0" is forbidden: failed quota: compute: '
    "must specify limits.memory for: ollama"
)


async def test_a_pod_that_admission_refuses_is_why_an_endpoint_is_not_ready(world: World) -> None:
    world.show()
    await world.controller.reconcile(KEY)
    uid = world.inventory.own_child(KEY, "StatefulSet", "assistant", "uid-owner").uid  # type: ignore[union-attr]
    event = world.warn("StatefulSet", "assistant", uid, "FailedCreate", NO_QUOTA)
    await world.controller.reconcile(KEY)
    assert world.conditions["Ready"] == world.conditions["Degraded"] == "QuotaExceeded"
    assert "must specify limits.memory for: ollama. The ResourceQuota requires" in world.message("Ready")
    # The API server deletes Events after an hour. The pod is still missing.
    world.inventory.gone("Event", event)
    await world.controller.reconcile(KEY)
    assert world.conditions["Ready"] == "QuotaExceeded"
    # The children are applied, so this is not about the generation.
    assert world.objects.statuses[-1]["observedGeneration"] == 1
    world.show_pod({"phase": "Pending"})
    await world.controller.reconcile(KEY)
    assert world.conditions["Ready"] == "Starting"
    assert [event["reason"] for event in world.objects.events].count("QuotaExceeded") == 1


async def test_a_sidecar_that_the_operator_cannot_reach_is_named_and_polled_less_often(world: World) -> None:
    world.show()
    await world.controller.reconcile(KEY)
    world.show_ready_pod()
    assert [await world.controller.reconcile(KEY) for _ in range(7)] == [2, 4, 8, 16, 32, 60, 60]
    assert world.conditions["Ready"] == "ModelsAnswer"
    assert world.conditions["ModelsAvailable"] == world.conditions["ModelsLoaded"] == "SidecarUnreachable"
    assert world.message("ModelsAvailable").startswith(
        "The operator cannot reach port 8001 of pod assistant-0 at http://10.0.0.1:8001/status: no answer within 2 s. The "
        "pod is Ready, so the network is the likely cause"
    )
    assert [event["type"] for event in world.objects.events if event["reason"] == "SidecarUnreachable"] == ["Warning"]
    world.pods.model = LOADED
    assert await world.controller.reconcile(KEY) == 30
    assert world.conditions["ModelsAvailable"] == "AllPresent"


async def test_a_sidecar_that_has_just_started_is_not_unreachable(world: World) -> None:
    world.show()
    await world.controller.reconcile(KEY)

    def metering(started: str) -> dict[str, Any]:
        return {
            "podIP": "10.0.0.1",
            "containerStatuses": [{"name": "metering", "state": {"running": {"startedAt": started}}}],
        }

    world.show_pod(metering("2026-01-02T03:04:00Z"))
    assert [await world.controller.reconcile(KEY) for _ in range(3)] == [2, 2, 2]
    assert world.conditions["ModelsAvailable"] == world.conditions["Ready"] == "Starting"
    world.show_pod(metering("2026-01-02T03:03:00Z"))
    await world.controller.reconcile(KEY)
    assert world.conditions["ModelsAvailable"] == world.conditions["Ready"] == "SidecarUnreachable"


async def test_a_pod_that_has_no_place_for_long_stalls_the_endpoint(world: World) -> None:
    world.show()
    await world.controller.reconcile(KEY)

    def unscheduled(since: str) -> dict[str, Any]:
        return {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "lastTransitionTime": since,
                                "message": "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."}]}  # fmt: skip

    world.show_pod(unscheduled("2026-01-02T02:54:06Z"))
    await world.controller.reconcile(KEY)
    assert world.conditions["Ready"] == "Unschedulable"
    assert (world.conditions["Stalled"], world.conditions["Reconciling"]) == ("NotStalled", "RollingOut")
    world.show_pod(unscheduled("2026-01-02T02:54:05Z"))
    await world.controller.reconcile(KEY)
    assert (world.conditions["Stalled"], world.conditions["Reconciling"]) == ("Unschedulable", "Stalled")
    assert "no GPU is free, the pod needs 1 nvidia.com/gpu" in world.message("Stalled")


async def test_a_refusal_with_the_same_words_is_told_once(world: World) -> None:
    world.objects.refuse["StatefulSet"] = refusal(
        422,
        '{"kind":"Status","message":"StatefulSet.apps \\"assistant\\" is invalid: spec: Forbidden","details":{"name":"x"}}',
    )
    world.show()
    for _ in range(3):
        await world.controller.reconcile(KEY)
    assert [event["reason"] for event in world.objects.events] == ["Invalid"]
    assert len(world.objects.statuses) == 1
    assert "observedGeneration" not in world.objects.statuses[-1]
    assert world.conditions["Stalled"] == world.conditions["Degraded"] == world.conditions["Ready"] == "Invalid"
    del world.objects.refuse["StatefulSet"]
    world.show(replicas=2)
    await world.controller.reconcile(KEY)
    assert world.objects.statuses[-1]["observedGeneration"] == 1
    assert world.conditions["Stalled"] == "NotStalled"


SHARED = {"replicas": 2, "storage": {"type": "ExistingClaim", "claimName": "models"}}


def claim(*modes: str) -> dict[str, Any]:
    return {"kind": "PersistentVolumeClaim", "metadata": {"name": "models"}, "spec": {"accessModes": list(modes)}}


async def test_replicas_that_cannot_share_a_claim_are_refused_by_field(world: World) -> None:
    world.objects.put(claim("ReadWriteOnce"))
    world.show(**SHARED)
    await world.controller.reconcile(KEY)
    assert world.conditions["Stalled"] == world.conditions["Ready"] == "InvalidSpec"
    assert world.message("Stalled").startswith(
        "spec.replicas: 2 replicas cannot share PersistentVolumeClaim models (spec.storage.claimName), because its access "
        "mode ReadWriteOnce allows only the pods of one node to use it."
    )
    assert not [call for call in world.objects.calls if call.startswith("create")]
    # A corrected claim is noticed without a change of the spec.
    world.objects.put(claim("ReadWriteOnce", "ReadWriteMany"))
    await world.controller.reconcile(KEY)
    assert "create StatefulSet/assistant" in world.objects.calls
    assert world.conditions["Stalled"] == "NotStalled"
    # It is not read again until the spec changes.
    world.objects.calls.clear()
    await world.controller.reconcile(KEY)
    assert world.objects.calls == []


VOLUMES = [{"name": "a", "emptyDir": {}}, {"name": "b", "persistentVolumeClaim": {"claimName": "models"}}]


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"pod": {"volumes": VOLUMES}}, "spec.pod.volumes"),
        ({"podTemplate": {"spec": {"volumes": VOLUMES}}}, "spec.podTemplate.spec.volumes"),
    ],
)
async def test_replicas_that_cannot_share_a_volume_are_refused_by_field(
    world: World, spec: dict[str, Any], path: str
) -> None:
    world.objects.put(claim("ReadWriteOncePod"))
    world.show(replicas=2, **spec)
    await world.controller.reconcile(KEY)
    assert world.message("Stalled") == (
        "spec.replicas: 2 replicas cannot share PersistentVolumeClaim models "
        f"({path}[1].persistentVolumeClaim.claimName), because its access mode ReadWriteOncePod allows only one "
        "pod to use it. Set spec.replicas to 1, or use a claim with the access mode ReadWriteMany or ReadOnlyMany."
    )
    world.objects.put(claim("ReadOnlyMany"))
    await world.controller.reconcile(KEY)
    assert "create StatefulSet/assistant" in world.objects.calls


@pytest.mark.parametrize("spec", [{**SHARED, "replicas": 1}, {"replicas": 2}])
async def test_a_claim_is_read_only_if_replicas_share_it(world: World, spec: dict[str, Any]) -> None:
    world.show(**spec)
    await world.controller.reconcile(KEY)
    assert not [call for call in world.objects.calls if call.startswith("get")]


async def test_a_replica_that_cannot_run_degrades_an_endpoint_that_answers(world: World) -> None:
    world.show(replicas=2)
    await world.controller.reconcile(KEY)
    world.pods.model = LOADED
    world.show_ready_pod()
    body = newer(world.objects.get_now("StatefulSet", "assistant"))
    unscheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "lastTransitionTime": "2026-01-02T03:04:00Z",
                   "message": "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."}  # fmt: skip
    other = live(
        pod("assistant-1", "assistant", body["metadata"]["uid"]),
        "uid-1",
        stamp=False,
        status={"conditions": [unscheduled]},
    )
    other["metadata"]["namespace"] = "ns"
    world.inventory.shows("Pod", other)
    for _ in range(2):
        await world.controller.reconcile(KEY)
    assert (world.conditions["Ready"], world.conditions["Degraded"]) == ("ModelsAnswer", "Unschedulable")
    assert world.message("Degraded").startswith(
        "1 of 2 replicas are ready to serve requests. assistant-1 cannot be scheduled: no GPU is free, the pod needs 1 "
    )
    assert [event["type"] for event in world.objects.events if event["reason"] == "Unschedulable"] == ["Warning"]


async def test_one_missed_poll_changes_nothing(world: World) -> None:
    world.show()
    await world.controller.reconcile(KEY)
    world.pods.model = LOADED
    world.show_ready_pod()
    await world.controller.reconcile(KEY)
    before = len(world.objects.statuses)
    world.pods.model = None
    await world.controller.reconcile(KEY)
    assert len(world.objects.statuses) == before
    await world.controller.reconcile(KEY)
    assert world.conditions["ModelsAvailable"] == "SidecarUnreachable"


async def test_an_endpoint_whose_objects_cannot_be_seen_is_not_ready_and_not_settled(world: World) -> None:
    world.show()
    await world.controller.reconcile(KEY)
    world.pods.model = LOADED
    world.show_ready_pod()
    await world.controller.reconcile(KEY)
    assert (world.conditions["Ready"], world.conditions["Reconciling"]) == ("ModelsAnswer", "Settled")
    world.inventory.lose("StatefulSet", "ns", "statefulsets.apps is forbidden")
    world.inventory.lose("Pod", "ns", "pods is forbidden")
    world.pods.model = None
    for _ in range(3):
        await world.controller.reconcile(KEY)
    assert {name: world.conditions[name] for name in ("Ready", "Reconciling", "Degraded", "ModelsAvailable")} == {
        "Ready": "NotWatched", "Reconciling": "NotWatched", "Degraded": "NotWatched", "ModelsAvailable": "Starting",
    }  # fmt: skip
    assert "cannot watch StatefulSet, Pod in namespace ns: statefulsets.apps is forbidden" in world.message("Ready")
    told = [event["type"] for event in world.objects.events if event["reason"] == "NotWatched"]
    assert told == ["Warning"]
    # A new spec is not reported as applied.
    applied = world.objects.statuses[-1]["observedGeneration"]
    manifest = world.inventory.resource(KEY) or {}
    world.inventory.shows("LLMEndpoint", newer(manifest, metadata={"generation": applied + 1}))
    await world.controller.reconcile(KEY)
    assert world.objects.statuses[-1]["observedGeneration"] == applied
    for kind in ("StatefulSet", "Pod"):
        world.inventory.end_listing(kind, "ns")
    world.pods.model = LOADED
    await world.controller.reconcile(KEY)
    assert (world.conditions["Ready"], world.conditions["Reconciling"]) == ("ModelsAnswer", "Settled")
    assert world.objects.statuses[-1]["observedGeneration"] == applied + 1
