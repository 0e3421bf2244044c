"""The inventory: its content after events and after our own writes, and the owners that become dirty."""

from __future__ import annotations

from typing import Any

import pytest

from llmendpoint_common.contracts.cluster import FaultReason
from llmendpoint_operator.cluster.inventory import Inventory
from llmendpoint_operator.cluster.keys import ChildKey
from llmendpoint_operator.kube.fault import Fault
from support.api_server.manifests import pod
from support.clock import Clock
from support.in_memory.children import KEY, OWNER, config_map, endpoint_body, live, newer, stateful_set

CONFIG = ChildKey("ConfigMap", "assistant")
SET = ChildKey("StatefulSet", "assistant")
REFUSED = Fault(FaultReason.FORBIDDEN, "ConfigMap/assistant", "no")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def inventory(clock: Clock) -> Inventory:
    return Inventory(clock)


def test_the_event_of_our_own_write_marks_nothing(inventory: Inventory) -> None:
    body = live(config_map())
    inventory.wrote_child(KEY, body)
    assert inventory.shows("ConfigMap", body) is None
    child = inventory.seen(KEY).children[CONFIG]
    assert child.accepted == child.content
    assert child.unjudged is None


def test_a_late_event_of_an_older_version_changes_nothing(inventory: Inventory) -> None:
    old = live(config_map("old"))
    inventory.wrote_child(KEY, newer(old, data={"models.json": "new"}))
    assert inventory.shows("ConfigMap", old) is None
    child = inventory.seen(KEY).children[CONFIG]
    assert child.accepted == child.content


def test_an_event_that_is_faster_than_the_response_of_our_write_is_not_lost(inventory: Inventory) -> None:
    ours = live(config_map())
    edited = newer(ours, data={"models.json": "edited"})
    assert inventory.shows("ConfigMap", edited) == KEY
    inventory.wrote_child(KEY, ours)
    child = inventory.seen(KEY).children[CONFIG]
    assert child.accepted != child.content
    assert child.unjudged is not None


@pytest.mark.parametrize(
    ("change", "dirty"),
    [
        ({"data": {"models.json": "edited"}}, True),
        ({"metadata": {"labels": {}}}, True),
        ({"metadata": {"annotations": {"note": "x"}}}, True),
        ({"metadata": {"finalizers": ["example.com/x"]}}, True),
        ({"metadata": {"managedFields": []}}, False),
        ({"metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"}}, False),
    ],
)
def test_only_changed_content_of_a_child_marks_its_owner(
    inventory: Inventory, change: dict[str, Any], dirty: bool
) -> None:
    body = live(config_map())
    inventory.wrote_child(KEY, body)
    assert (inventory.shows("ConfigMap", newer(body, **change)) == KEY) is dirty
    assert (inventory.seen(KEY).children[CONFIG].unjudged is not None) is dirty


def test_a_status_is_news_but_no_change_of_content(inventory: Inventory) -> None:
    body = live(stateful_set(), status={"replicas": 0})
    inventory.wrote_child(KEY, body)
    assert inventory.shows("StatefulSet", newer(body, status={"replicas": 1})) == KEY
    child = inventory.seen(KEY).children[SET]
    assert child.accepted == child.content
    assert child.body["status"] == {"replicas": 1}
    assert child.body["spec"].keys() == {"replicas"}


def test_only_the_data_of_a_result_is_kept(inventory: Inventory) -> None:
    result = {**OWNER.child("ConfigMap", "result-0", "result"), "data": {"summary.json": "{}"}}
    inventory.wrote_child(KEY, live(result))
    inventory.wrote_child(KEY, live(config_map()))
    children = inventory.seen(KEY).children
    assert children[ChildKey("ConfigMap", "result-0")].body["data"] == {"summary.json": "{}"}
    assert "data" not in children[CONFIG].body


def test_a_child_belongs_to_its_controller_even_if_its_labels_were_edited(inventory: Inventory) -> None:
    body = live(config_map())
    inventory.wrote_child(KEY, body)
    assert inventory.shows("ConfigMap", newer(body, metadata={"labels": {"llmendpoint.dev/endpoint": "other"}})) == KEY


def test_pods_mark_the_owner_of_their_labels_but_belong_to_their_controller(inventory: Inventory) -> None:
    body = live(pod("assistant-0", "assistant", "uid-set"), "uid-pod", stamp=False, status={"podIP": "10.0.0.1"})
    stranger = live(pod("assistant-1", "assistant", "uid-other"), "uid-other-pod", stamp=False)
    for item in (body, stranger):
        item["metadata"]["namespace"] = "ns"
        assert inventory.shows("Pod", item) == KEY
    assert [item["status"] for item in inventory.pods(KEY, "uid-set")] == [{"podIP": "10.0.0.1"}]
    assert inventory.gone("Pod", body) == KEY
    assert inventory.pods(KEY, "uid-set") == []


def test_a_pod_without_a_controller_belongs_to_nobody(inventory: Inventory) -> None:
    body = live(pod("assistant-0", "assistant", "uid-set"), "uid-pod", stamp=False)
    body["metadata"] |= {"namespace": "ns", "ownerReferences": []}
    inventory.shows("Pod", body)
    assert inventory.pods(KEY, "uid-set") == []


def test_a_new_object_of_the_same_name_survives_the_late_deletion_of_the_old(inventory: Inventory) -> None:
    old, new = live(config_map(), "uid-old"), live(config_map(), "uid-new")
    inventory.wrote_child(KEY, old)
    inventory.shows("ConfigMap", new)
    assert inventory.gone("ConfigMap", old) is None
    assert inventory.seen(KEY).children[CONFIG].uid == "uid-new"


@pytest.mark.parametrize(
    ("change", "dirty"),
    [
        ({"spec": {}, "metadata": {"generation": 2}}, True),
        ({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}, True),
        ({"metadata": {"annotations": {"a": "b"}}}, True),
        ({"status": {"url": "somebody else wrote this"}}, True),
        ({"metadata": {"managedFields": [{}]}}, False),
    ],
)
def test_a_resource_is_dirty_if_its_spec_metadata_or_status_changed(
    inventory: Inventory, change: dict[str, Any], dirty: bool
) -> None:
    body = endpoint_body()
    assert inventory.shows("LLMEndpoint", body) == KEY
    written = newer(body, status={"url": "x"})
    inventory.wrote_resource(written)
    assert inventory.shows("LLMEndpoint", written) is None
    assert (inventory.shows("LLMEndpoint", newer(written, **change)) == KEY) is dirty
    assert "managedFields" not in (inventory.resource(KEY) or {})["metadata"]


def test_a_listing_removes_what_it_does_not_show(inventory: Inventory) -> None:
    kept, gone = live(config_map(), "uid-kept"), live(stateful_set(), "uid-gone")
    for body in (kept, gone):
        inventory.wrote_child(KEY, body)
    inventory.shows("LLMEndpoint", endpoint_body())
    for kind in ("LLMEndpoint", "ConfigMap", "StatefulSet"):
        inventory.begin_listing(kind)
    listed = [inventory.is_listed("ConfigMap", "ns")]
    inventory.shows("ConfigMap", kept)
    during = live(config_map(name="written-meanwhile"), "uid-new")
    inventory.wrote_child(KEY, during)
    assert inventory.end_listing("ConfigMap") == set()
    assert inventory.end_listing("StatefulSet") == {KEY}
    assert inventory.end_listing("LLMEndpoint") == {KEY}
    assert [*listed, inventory.is_listed("ConfigMap", "ns")] == [False, True]
    assert {child.uid for child in inventory.seen(KEY).children.values()} == {"uid-kept", "uid-new"}
    assert inventory.resource(KEY) is None


def test_a_refusal_is_kept_longer_each_time_and_ends_with_a_write(inventory: Inventory, clock: Clock) -> None:
    pauses = []
    for _ in range(8):
        inventory.refused(KEY, CONFIG, "hash", REFUSED)
        pauses.append(inventory.seconds_to_retry(KEY))
        assert inventory.seen(KEY).refused[CONFIG].fault is REFUSED
        clock.now += pauses[-1] or 0
        seen = inventory.seen(KEY)
        assert CONFIG not in seen.refused
        inventory.postponed(KEY, seen.refused)
        assert inventory.seconds_to_retry(KEY) is None
    assert pauses == [2, 4, 8, 16, 32, 60, 60, 60]
    inventory.refused(KEY, CONFIG, "another manifest", REFUSED)
    assert inventory.seconds_to_retry(KEY) == 2
    inventory.wrote_child(KEY, live(config_map()))
    assert inventory.seconds_to_retry(KEY) is None


def test_a_retry_that_becomes_due_during_a_reconcile_is_not_lost(inventory: Inventory, clock: Clock) -> None:
    inventory.refused(KEY, CONFIG, "hash", REFUSED)
    clock.now += 1.99
    inventory.postponed(KEY, inventory.seen(KEY).refused)
    clock.now += 0.02
    assert inventory.seconds_to_retry(KEY) == 0
    # The next plan retries the write, or finds that it would be refused again: no further look is due because of it.
    inventory.postponed(KEY, inventory.seen(KEY).refused)
    assert inventory.seconds_to_retry(KEY) is None


def test_the_api_server_may_ask_for_a_longer_pause(inventory: Inventory) -> None:
    inventory.refused(KEY, CONFIG, "hash", Fault(FaultReason.UNAVAILABLE, "ConfigMap/assistant", "busy", 30.0))
    assert inventory.seconds_to_retry(KEY) == 30


def test_refusals_of_children_that_are_no_longer_desired_are_forgotten(inventory: Inventory) -> None:
    inventory.refused(KEY, CONFIG, "hash", REFUSED)
    inventory.keep_refusals(KEY, [SET])
    assert inventory.seconds_to_retry(KEY) is None


def test_bodies_of_children_that_nobody_judges_are_not_kept(inventory: Inventory) -> None:
    inventory.shows("ConfigMap", live(config_map()))
    assert inventory.seen(KEY).children[CONFIG].unjudged is not None
    inventory.set_aside(KEY)
    assert inventory.seen(KEY).children[CONFIG].unjudged is None


def prometheus(name: str) -> dict[str, Any]:
    metadata = {"namespace": "monitoring", "name": name, "uid": f"uid-{name}", "resourceVersion": "1"}
    return {"metadata": metadata, "spec": {"serviceMonitorSelector": {}}}


def test_prometheus_servers_are_unknown_until_they_have_been_listed() -> None:
    inventory = Inventory()
    inventory.shows("Prometheus", prometheus("a"))
    assert inventory.prometheus_servers() is None
    inventory.begin_listing("Prometheus")
    inventory.shows("Prometheus", prometheus("b"))
    # Endpoints do not become dirty: they are reconciled often enough.
    assert inventory.end_listing("Prometheus") == set()
    assert [server.name for server in inventory.prometheus_servers() or ()] == ["b"]
    assert inventory.gone("Prometheus", prometheus("b")) is None
    assert inventory.prometheus_servers() == []
    inventory.lose("Prometheus")
    assert inventory.prometheus_servers() is None


def test_a_late_response_does_not_bring_a_deleted_object_back(inventory: Inventory) -> None:
    child, endpoint = live(config_map()), endpoint_body()
    inventory.wrote_child(KEY, child)
    inventory.shows("LLMEndpoint", endpoint)
    inventory.gone("ConfigMap", newer(child))
    inventory.gone("LLMEndpoint", newer(endpoint))
    inventory.wrote_child(KEY, child)
    inventory.wrote_resource(endpoint)
    assert inventory.shows("ConfigMap", child) is None
    assert inventory.seen(KEY).children == {}
    assert inventory.resource(KEY) is None


def test_a_child_that_no_watch_shows_is_kept_until_it_was_read(inventory: Inventory) -> None:
    """The watch reports an object that loses our label as deleted, with the version of the object."""
    inventory.shows("LLMEndpoint", endpoint_body())
    child = live(config_map())
    inventory.wrote_child(KEY, child)
    without_label = newer(child, data={"models.json": "changed"})
    assert inventory.gone("ConfigMap", without_label) == KEY
    assert (inventory.unshown(KEY), set(inventory.seen(KEY).children)) == ((CONFIG,), {CONFIG})
    inventory.found(KEY, without_label)
    found = inventory.seen(KEY).children[CONFIG]
    assert found.unjudged is not None
    # Its changes cause no events, so it is read again.
    assert inventory.unshown(KEY) == (CONFIG,)
    inventory.missing(KEY, CONFIG)
    assert (inventory.unshown(KEY), inventory.seen(KEY).children) == ((), {})


def test_a_child_that_a_watch_shows_again_does_not_have_to_be_read(inventory: Inventory) -> None:
    inventory.shows("LLMEndpoint", endpoint_body())
    child = live(config_map())
    inventory.wrote_child(KEY, child)
    inventory.gone("ConfigMap", newer(child))
    inventory.wrote_child(KEY, newer(newer(child)))
    assert inventory.unshown(KEY) == ()


def test_a_child_that_was_being_deleted_does_not_have_to_be_read(inventory: Inventory) -> None:
    inventory.shows("LLMEndpoint", endpoint_body())
    child = live(config_map())
    inventory.wrote_child(KEY, child)
    inventory.deleting(KEY, CONFIG)
    inventory.gone("ConfigMap", newer(child))
    assert (inventory.unshown(KEY), inventory.seen(KEY).children) == ((), {})


def test_an_object_that_gets_its_label_back_is_known_again(inventory: Inventory) -> None:
    """The watch reports an object that loses our label as deleted. It keeps its UID."""
    child = live(config_map())
    inventory.wrote_child(KEY, child)
    inventory.gone("ConfigMap", newer(child))
    inventory.wrote_child(KEY, newer(child))
    assert CONFIG in inventory.seen(KEY).children


def test_a_listing_of_one_namespace_says_nothing_about_another(inventory: Inventory) -> None:
    inventory.wrote_child(KEY, live(config_map()))
    inventory.begin_listing("ConfigMap", "other")
    assert inventory.end_listing("ConfigMap", "other") == set()
    assert CONFIG in inventory.seen(KEY).children
    assert inventory.is_listed("ConfigMap", "other")
    assert not inventory.is_listed("ConfigMap", "ns")


def test_a_kind_that_may_not_be_watched_is_told_until_it_was_listed(inventory: Inventory) -> None:
    inventory.lose("Service", "ns", "services is forbidden")
    inventory.lose("Pod", "", "pods is forbidden")
    # A kind that the cluster does not have.
    inventory.lose("ServiceMonitor", "ns")
    kinds = ("Service", "ServiceMonitor", "Pod")
    assert [(each.kind, each.scope) for each in inventory.unwatched("ns", kinds)] == [("Service", "ns"), ("Pod", "")]
    assert [each.kind for each in inventory.unwatched("other", kinds)] == ["Pod"]
    inventory.begin_listing("Pod")
    assert inventory.unwatched("other", kinds)
    inventory.end_listing("Pod")
    assert not inventory.unwatched("other", kinds)
