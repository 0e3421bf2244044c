"""The executor: the requests that it sends, the faults that it returns, and the other writes after a refusal."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmendpoint_common.contracts.cluster import FaultReason
from llmendpoint_operator.cluster.inventory import Inventory
from llmendpoint_operator.kube.owner import Manifest
from llmendpoint_operator.reconcile.desired_children import DesiredChildren, key_of
from llmendpoint_operator.reconcile.executor import Executor
from support.in_memory.children import KEY, OWNER, config_map, endpoint_body, live, newer, service, stateful_set
from support.in_memory.fakes import FakeDiscovery, FakeObjects, forbidden, plain_not_found

CHILDREN = [config_map(), stateful_set()]


class World:
    """An executor on a cluster in memory."""

    def __init__(self) -> None:
        self.objects = FakeObjects()
        self.inventory = Inventory(lambda: self.now)
        self.discovery = FakeDiscovery()
        self.executor = Executor(self.objects, self.inventory, self.discovery)  # type: ignore[arg-type]
        self.now = 0.0

    async def converge(self, *children: Manifest, prune: tuple[str, ...] = ()) -> list[FaultReason]:
        return [fault.reason for fault in await self.executor.converge(OWNER, DesiredChildren.of(children), prune)]


@pytest.fixture
def world() -> World:
    return World()


async def test_children_are_created_once(world: World) -> None:
    assert await world.converge(*CHILDREN) == []
    assert world.objects.calls == ["create ConfigMap/assistant", "create StatefulSet/assistant"]
    assert await world.converge(*CHILDREN) == []
    assert len(world.objects.calls) == 2


async def test_a_child_is_created_with_fields_that_it_then_keeps(world: World) -> None:
    child = {**stateful_set(), "spec": {"serviceName": "x"}}
    initial = {key_of(child): {"spec": {"replicas": 3}}}
    await world.executor.converge(OWNER, DesiredChildren.of([child]), (), initial)
    assert world.objects.created["StatefulSet/assistant"]["spec"] == {"serviceName": "x", "replicas": 3}
    # The fields are not part of the manifest with which the child is compared.
    await world.executor.converge(OWNER, DesiredChildren.of([child]), (), {key_of(child): {"spec": {"replicas": 2}}})
    assert world.objects.calls == ["create StatefulSet/assistant"]


async def test_a_field_is_given_up_before_the_child_is_applied_without_it(world: World) -> None:
    await world.converge(stateful_set(3))
    body = world.objects.get_now("StatefulSet", "assistant")
    fields = {"manager": "llmendpoint-operator", "operation": "Apply", "fieldsV1": {"f:spec": {"f:replicas": {}}}}
    world.objects.put({**body, "metadata": {**body["metadata"], "managedFields": [fields]}})
    world.objects.calls.clear()
    child = {**stateful_set(), "spec": {}}
    await world.executor.converge(OWNER, DesiredChildren.of([child]), (), {key_of(child): {"spec": {"replicas": 1}}})
    assert [call.partition(" Stat")[0] for call in world.objects.calls] == ["get", "hand over", "apply"]
    assert world.objects.handed_over[0]["spec"] == {"replicas": 3}


async def test_only_the_changed_child_is_applied(world: World) -> None:
    await world.converge(*CHILDREN)
    world.objects.calls.clear()
    await world.converge(config_map("b"), stateful_set())
    assert world.objects.calls == ["apply ConfigMap/assistant"]


async def test_a_child_that_is_no_longer_desired_is_deleted_once(world: World) -> None:
    await world.converge(*CHILDREN)
    world.objects.calls.clear()
    for _ in range(2):
        await world.converge(stateful_set(), prune=("ConfigMap",))
    assert world.objects.calls == ["delete ConfigMap/assistant"]


async def test_a_child_without_its_label_gets_it_back_before_it_is_deleted(world: World) -> None:
    """Otherwise, no watch would show when it is gone."""
    world.inventory.shows("LLMEndpoint", endpoint_body())
    await world.converge(*CHILDREN)
    world.inventory.gone("ConfigMap", world.objects.get_now("ConfigMap", "assistant"))
    world.objects.calls.clear()
    await world.executor.look_up(OWNER)
    await world.converge(stateful_set(), prune=("ConfigMap",))
    assert world.objects.calls == [
        "get ConfigMap/assistant", "patch ConfigMap/assistant", "delete ConfigMap/assistant",
    ]  # fmt: skip


async def test_a_child_that_somebody_deleted_is_read_once_and_created_again(world: World) -> None:
    world.inventory.shows("LLMEndpoint", endpoint_body())
    await world.converge(*CHILDREN)
    body = world.objects.get_now("ConfigMap", "assistant")
    world.objects.remove("ConfigMap", "assistant")
    world.inventory.gone("ConfigMap", newer(body))
    world.objects.calls.clear()
    for _ in range(2):
        await world.executor.look_up(OWNER)
    await world.converge(*CHILDREN)
    assert world.objects.calls == ["get ConfigMap/assistant", "create ConfigMap/assistant"]


async def test_a_strangers_object_is_read_once_and_never_written(world: World) -> None:
    world.objects.put(live(config_map(owner=replace(OWNER, uid="other")), stamp=False))
    assert await world.converge(*CHILDREN) == [FaultReason.NAME_CONFLICT]
    # The pods would use the stranger's ConfigMap, so the StatefulSet waits.
    assert world.objects.calls == ["create ConfigMap/assistant", "get ConfigMap/assistant"]
    # Reconciles for other reasons do not retry before the delay has passed.
    assert await world.converge(*CHILDREN) == [FaultReason.NAME_CONFLICT]
    assert len(world.objects.calls) == 2
    # Its deletion does not cause an event, because it does not have our labels.
    world.objects.remove("ConfigMap", "assistant")
    world.now += 2
    assert await world.converge(*CHILDREN) == []
    assert world.objects.calls[2:] == ["create ConfigMap/assistant", "create StatefulSet/assistant"]


async def test_a_child_that_a_stranger_replaced_stops_changes_of_what_uses_it(world: World) -> None:
    await world.converge(*CHILDREN)
    world.inventory.gone("ConfigMap", world.objects.get_now("ConfigMap", "assistant"))
    world.objects.put(live(config_map(owner=replace(OWNER, uid="other")), stamp=False))
    world.objects.calls.clear()
    (fault,) = await world.executor.converge(OWNER, DesiredChildren.of([config_map(), stateful_set(replicas=2)]))
    assert world.objects.calls == ["create ConfigMap/assistant", "get ConfigMap/assistant"]
    assert fault.message.endswith("Until then, StatefulSet/assistant will not be written.")
    # The StatefulSet that exists is left as it is. If it has not changed, there is nothing to say about it.
    (fault,) = await world.executor.converge(OWNER, DesiredChildren.of(CHILDREN))
    assert "StatefulSet" not in fault.message
    assert world.objects.get_now("StatefulSet", "assistant")["spec"] == {"replicas": 1}


async def test_an_object_that_replaced_ours_after_the_plan_is_not_taken_over(world: World) -> None:
    await world.converge(config_map())
    # The watch has not shown yet that a stranger's object has the name now.
    world.objects.put(live(config_map("theirs", owner=replace(OWNER, uid="other")), "uid-theirs", stamp=False))
    assert await world.converge(config_map("b")) == [FaultReason.CONFLICT]
    assert world.objects.get_now("ConfigMap", "assistant")["data"] == {"models.json": "theirs"}


async def test_our_own_object_that_the_inventory_does_not_know_is_applied(world: World) -> None:
    world.objects.put(live(config_map("old")))
    assert await world.converge(config_map()) == []
    assert world.objects.calls == ["create ConfigMap/assistant", "get ConfigMap/assistant", "apply ConfigMap/assistant"]


async def test_a_refused_child_does_not_stop_the_others_and_comes_later(world: World) -> None:
    children = [config_map(name="first"), config_map(name="second")]
    world.objects.refuse["ConfigMap"] = forbidden()
    assert await world.converge(*children, service()) == [FaultReason.FORBIDDEN, FaultReason.FORBIDDEN]
    assert world.objects.calls[-1] == "create Service/assistant"
    del world.objects.refuse["ConfigMap"]
    assert await world.converge(*children, service()) == [FaultReason.FORBIDDEN, FaultReason.FORBIDDEN]
    world.now += 2
    assert await world.converge(*children, service()) == []
    assert world.inventory.seconds_to_retry(KEY) is None


async def test_a_refused_child_is_tried_at_once_if_its_manifest_changes(world: World) -> None:
    world.objects.refuse["ConfigMap"] = forbidden()
    await world.converge(config_map())
    del world.objects.refuse["ConfigMap"]
    assert await world.converge(config_map("b")) == []


async def test_a_kind_that_is_gone_is_remembered(world: World) -> None:
    world.objects.refuse["ConfigMap"] = plain_not_found()
    assert await world.converge(*CHILDREN) == [FaultReason.UNKNOWN_KIND]
    assert world.discovery.missing == {"ConfigMap"}
    world.now += 1000
    calls = len(world.objects.calls)
    assert await world.converge(*CHILDREN) == [FaultReason.UNKNOWN_KIND]
    assert len(world.objects.calls) == calls


async def test_an_edited_child_is_applied_once(world: World) -> None:
    await world.converge(config_map())
    edited = newer(world.objects.get_now("ConfigMap", "assistant"), data={"models.json": "edited"})
    assert world.inventory.shows("ConfigMap", edited) == KEY
    world.objects.calls.clear()
    for _ in range(2):
        await world.converge(config_map())
    assert world.objects.calls == ["apply ConfigMap/assistant"]
