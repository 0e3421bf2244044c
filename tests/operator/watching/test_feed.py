"""The feed: reconciles in a scope start after the first listing of its kinds, and listings end what they do not show."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from llmendpoint_operator.cluster.inventory import Inventory
from llmendpoint_operator.cluster.keys import Key
from llmendpoint_operator.cluster.kinds import KINDS
from llmendpoint_operator.watching.feed import Feed
from support.in_memory.children import KEY, config_map, endpoint_body, live, newer

ENDPOINT, MAP, EVENT = KINDS["LLMEndpoint"], KINDS["ConfigMap"], KINDS["Event"]
PROMETHEUS = KINDS["Prometheus"]


class World:
    """The feed of a scope, and the owners that it marked."""

    def __init__(self, scope: str = "ns") -> None:
        self.marked: list[Key] = []
        self.inventory = Inventory()
        self.feed = Feed(scope, [ENDPOINT, MAP, EVENT], self.inventory, self.marked.append)


@pytest.fixture
async def world() -> World:
    return World()


async def test_owners_are_held_until_each_kind_was_listed(world: World) -> None:
    for kind, body in ((ENDPOINT, endpoint_body()), (MAP, live(config_map()))):
        assert world.marked == []
        assert world.feed.waits_for
        world.feed.begin(kind)
        world.feed.show(kind, body)
        world.feed.end(kind)
    assert world.feed.opened.is_set()
    assert world.marked == [KEY]


async def test_a_lost_kind_holds_nothing_up_and_its_owners_are_marked_when_it_is_found(world: World) -> None:
    world.feed.show(ENDPOINT, endpoint_body())
    world.feed.end(ENDPOINT)
    world.feed.lose(MAP)
    assert world.marked == [KEY]
    assert not world.inventory.is_listed("ConfigMap", "ns")
    world.feed.begin(MAP)
    world.feed.end(MAP)
    assert world.marked == [KEY, KEY]
    assert world.inventory.is_listed("ConfigMap", "ns")


async def test_resources_of_a_lost_kind_are_forgotten_until_it_is_found(world: World) -> None:
    world.feed.open()
    world.feed.show(ENDPOINT, endpoint_body())
    world.inventory.wrote_child(KEY, child := live(config_map()))
    world.feed.lose(ENDPOINT)
    assert world.inventory.resource(KEY) is None
    assert world.inventory.child(KEY, "ConfigMap", child["metadata"]["name"])
    world.feed.begin(ENDPOINT)
    world.feed.show(ENDPOINT, endpoint_body())
    assert world.marked == [KEY, KEY]


async def test_scopes_do_not_affect_each_other() -> None:
    world = World("other")
    world.inventory.shows("LLMEndpoint", endpoint_body())
    world.inventory.wrote_child(KEY, live(config_map()))
    for kind in (ENDPOINT, MAP):
        world.feed.begin(kind)
        world.feed.end(kind)
    assert world.inventory.resource(KEY)
    assert world.inventory.seen(KEY).children
    assert world.inventory.is_listed("ConfigMap", "other")
    assert not world.inventory.is_listed("ConfigMap", "ns")


async def test_a_late_listing_does_not_hold_reconciles_up(world: World) -> None:
    world.feed.show(ENDPOINT, endpoint_body())
    world.feed.open()
    assert world.marked == [KEY]
    assert not world.inventory.is_listed("LLMEndpoint", "ns")


async def test_an_object_that_cannot_be_read_keeps_nothing_from_being_read(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.feed.open()
    world.feed.show(ENDPOINT, {"metadata": {"uid": "x"}})
    world.feed.show(ENDPOINT, body := endpoint_body())
    assert world.marked == [KEY]
    assert "cannot read a LLMEndpoint" in caplog.text
    world.feed.gone(ENDPOINT, newer(body))
    assert world.marked == [KEY, KEY]


async def test_the_owners_of_a_kind_that_is_lost_later_are_marked(world: World) -> None:
    world.feed.show(ENDPOINT, endpoint_body())
    world.feed.open()
    world.marked.clear()
    world.feed.lose(MAP, "configmaps is forbidden")
    assert world.marked == [KEY]
    assert [each.trouble for each in world.inventory.unwatched("ns", ["ConfigMap"])] == ["configmaps is forbidden"]


def prometheus(*labels: str, **status: object) -> dict[str, Any]:
    selector = {"matchLabels": {"release": labels[0]}} if labels else None
    body = {"apiVersion": PROMETHEUS.api_version, "kind": "Prometheus", "status": status,
            "metadata": {"name": "k8s", "namespace": "monitoring"},
            "spec": {"serviceMonitorSelector": selector}}  # fmt: skip
    return newer(live(body, "uid-prometheus", stamp=False))


async def test_endpoints_are_marked_when_what_prometheus_selects_has_changed() -> None:
    """Prometheus objects have no owner of ours, and MonitoringReady depends on them."""
    world = World("")
    world.feed.open()
    world.feed.show(ENDPOINT, endpoint_body())
    world.feed.begin(PROMETHEUS)
    world.feed.end(PROMETHEUS)

    def marks(act: Callable[[], None]) -> bool:
        world.marked.clear()
        act()
        return world.marked == [KEY]

    assert marks(lambda: world.feed.show(PROMETHEUS, prometheus("a")))
    assert not marks(lambda: world.feed.show(PROMETHEUS, prometheus("a", replicas=1)))
    assert marks(lambda: world.feed.show(PROMETHEUS, prometheus("b", replicas=1)))
    assert marks(lambda: world.feed.gone(PROMETHEUS, prometheus("b")))
    assert marks(lambda: world.feed.lose(PROMETHEUS))
    world.feed.begin(PROMETHEUS)
    assert marks(lambda: world.feed.end(PROMETHEUS))
