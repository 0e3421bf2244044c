"""The ConfigMap of a result, which its load pod may patch: it is restored, and it never outlives its LoadTest."""

from __future__ import annotations

from typing import Any

import pytest

from llmendpoint_operator.cluster.inventory import Inventory
from llmendpoint_operator.cluster.keys import Key
from llmendpoint_operator.kube.owner import Manifest, Owner
from llmendpoint_operator.loadtest.resources.rbac import access
from llmendpoint_operator.loadtest.result_map import ResultMaps, repair
from support.in_memory.children import live, newer
from support.in_memory.fakes import FakeObjects

OWNER = Owner("LoadTest", "ns", "smoke", "uid-run")
KEY = Key("LoadTest", "ns", "smoke")
NAME, UID = "smoke-result-0", "uid-map"
LABELS = OWNER.labels("result")
DELETED = {"deletionTimestamp": "2026-01-01T00:00:00Z"}


def made() -> Manifest:
    return live(access(OWNER)[0], UID)


@pytest.mark.parametrize(
    ("metadata", "patch"),
    [
        ({}, None),
        ({"ownerReferences": []}, {"ownerReferences": [OWNER.reference()]}),
        ({"ownerReferences": [OWNER.reference(), {"uid": "x"}]}, {"ownerReferences": [OWNER.reference()]}),
        (
            {"ownerReferences": [{**OWNER.reference(), "controller": False}]},
            {"ownerReferences": [OWNER.reference()]},
        ),
        ({"finalizers": ["example.com/stay"]}, {"finalizers": None}),
        ({"finalizers": ["foregroundDeletion", "example.com/stay"]}, {"finalizers": ["foregroundDeletion"]}),
        ({"finalizers": ["foregroundDeletion"]}, None),
        ({"labels": {}}, {"labels": LABELS}),
        ({"labels": {**LABELS, "llmendpoint.dev/loadtest": "a"}}, {"labels": {"llmendpoint.dev/loadtest": "smoke"}}),
        ({"labels": {**LABELS, "llmendpoint.dev/questions": "true"}}, {"labels": {"llmendpoint.dev/questions": None}}),
        # Of no concern to the operator.
        ({"labels": {**LABELS, "example.com/team": "a"}}, None),
        ({"annotations": {"example.com/note": "x"}}, None),
    ],
)
def test_what_only_the_operator_may_set_is_restored(metadata: dict[str, Any], patch: dict[str, Any] | None) -> None:
    body = newer(made(), metadata=metadata)
    wanted = None if patch is None else {**patch, "resourceVersion": body["metadata"]["resourceVersion"]}
    assert repair(OWNER, body) == wanted


class World:
    """The result ConfigMap of a run, as the watch shows it and as it is on the API server."""

    def __init__(self) -> None:
        self.now = 0.0
        self.objects, self.inventory = FakeObjects(), Inventory(lambda: self.now)
        self.maps = ResultMaps(self.objects, self.inventory, lambda: self.now)  # type: ignore[arg-type]
        self.show(made())

    def show(self, body: Manifest) -> None:
        self.objects.put(body)
        self.inventory.shows("ConfigMap", body)

    def tamper(self, **metadata: Any) -> None:
        self.show(newer(self.body, metadata=metadata))

    def hide(self, **metadata: Any) -> None:
        """Remove the labels by which the watch selects: it shows the deletion of an object that still exists."""
        self.tamper(labels={}, **metadata)
        self.inventory.gone("ConfigMap", self.body)
        self.objects.calls.clear()

    @property
    def body(self) -> Manifest:
        return self.objects.get_now("ConfigMap", NAME)


@pytest.fixture
def world() -> World:
    return World()


async def test_an_untouched_map_costs_no_request(world: World) -> None:
    for _ in range(3):
        assert (await world.maps.tend(KEY, OWNER, {NAME: UID})).bodies
    await world.maps.release(KEY, successor=OWNER)
    assert world.objects.calls == []


async def test_a_map_is_restored_with_one_request(world: World) -> None:
    world.tamper(ownerReferences=[], finalizers=["example.com/stay"])
    tended = await world.maps.tend(KEY, OWNER, {NAME: UID})
    body = tended.bodies[NAME]
    assert repair(OWNER, body) is None
    assert world.objects.calls == [f"patch ConfigMap/{NAME}"]
    assert repair(OWNER, world.body) is None


async def test_a_pod_that_changes_it_again_and_again_costs_one_request_in_two_seconds(world: World) -> None:
    for _ in range(100):
        world.tamper(finalizers=["example.com/stay"])
        tended = await world.maps.tend(KEY, OWNER, {NAME: UID})
        assert NAME in tended.bodies
        world.now += 0.1
    assert world.objects.calls == [f"patch ConfigMap/{NAME}"] * 5
    assert tended.pause is not None


async def test_a_map_that_the_watch_no_longer_shows_is_found_by_its_uid(world: World) -> None:
    world.hide(ownerReferences=[])
    tended = await world.maps.tend(KEY, OWNER, {NAME: UID})
    assert NAME in tended.bodies
    assert world.objects.calls == [f"get ConfigMap/{NAME}", f"patch ConfigMap/{NAME}"]
    assert world.body["metadata"]["labels"] == LABELS
    # The response of the repair is in the inventory.
    assert (await world.maps.tend(KEY, OWNER, {NAME: UID})).bodies
    assert len(world.objects.calls) == 2


async def test_a_strangers_map_of_the_same_name_is_not_the_result(world: World) -> None:
    world.show(live(access(OWNER)[0], "uid-other"))
    for _ in range(3):
        assert await world.maps.tend(KEY, OWNER, {NAME: UID}) == ({}, None)
    assert world.objects.calls == [f"get ConfigMap/{NAME}"]


@pytest.mark.parametrize("references", [[], [{**OWNER.reference(), "uid": "uid-other"}]])
async def test_the_map_of_a_run_that_an_older_operator_started_is_known_by_its_controller(
    world: World, references: list[Any]
) -> None:
    assert (await world.maps.tend(KEY, OWNER, {NAME: ""})).bodies
    world.tamper(ownerReferences=references)
    assert (await world.maps.tend(KEY, OWNER, {NAME: ""})).bodies == {}


async def test_a_deleted_map_loses_its_finalizers_even_if_its_test_is_gone(world: World) -> None:
    world.show(newer(made(), metadata={**DELETED, "finalizers": ["example.com/stay"]}))
    await world.maps.release(KEY)
    assert world.objects.calls == [f"patch ConfigMap/{NAME}"]
    assert "finalizers" not in world.body["metadata"]


@pytest.mark.parametrize("references", [[], [OWNER.reference(), {"uid": "x", "kind": "ConfigMap", "apiVersion": "v1"}]])
async def test_a_map_that_would_outlive_its_test_is_deleted(world: World, references: list[Any]) -> None:
    await world.maps.tend(KEY, OWNER, {NAME: UID})
    world.tamper(ownerReferences=references)
    await world.maps.release(KEY)
    assert f"delete ConfigMap/{NAME}" in world.objects.calls


async def test_a_hidden_map_is_deleted_with_its_test(world: World) -> None:
    await world.maps.tend(KEY, OWNER, {NAME: UID})
    world.hide(ownerReferences=[])
    await world.maps.release(KEY)
    assert world.objects.calls == [f"get ConfigMap/{NAME}", f"delete ConfigMap/{NAME}"]


async def test_a_map_that_kubernetes_deletes_with_its_test_costs_one_look(world: World) -> None:
    await world.maps.tend(KEY, OWNER, {NAME: UID})
    await world.maps.release(KEY)
    assert world.objects.calls == []
    gone = world.body
    world.objects.remove("ConfigMap", NAME)
    world.inventory.gone("ConfigMap", gone)
    for _ in range(3):
        await world.maps.release(KEY)
    assert world.objects.calls == [f"get ConfigMap/{NAME}"]


async def test_a_successor_of_the_same_name_is_not_blocked_by_a_hidden_map(world: World) -> None:
    await world.maps.tend(KEY, OWNER, {NAME: UID})
    world.hide(ownerReferences=[])
    await world.maps.release(KEY, successor=Owner("LoadTest", "ns", "smoke", "uid-next"))
    assert f"delete ConfigMap/{NAME}" in world.objects.calls


async def test_the_permission_is_taken_away_once(world: World) -> None:
    binding = access(OWNER)[-1]
    world.objects.put(live(binding))
    world.inventory.wrote_child(KEY, live(binding))
    for _ in range(2):
        await world.maps.revoke(KEY, OWNER)
    assert world.objects.calls == ["delete RoleBinding/smoke-load"]


async def test_a_strangers_binding_is_left_alone(world: World) -> None:
    world.inventory.shows("RoleBinding", live(access(Owner("LoadTest", "ns", "smoke", "uid-other"))[-1]))
    await world.maps.revoke(KEY, OWNER)
    assert world.objects.calls == []
