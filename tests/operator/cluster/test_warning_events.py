"""Warning Events: which are about a resource's children, pods or claims, and which are kept."""

from __future__ import annotations

from typing import Any

import pytest

from llmendpoint_operator.cluster.inventory import Inventory
from support.api_server.manifests import pod
from support.in_memory.children import KEY, live, stateful_set


def event(number: int, kind: str, name: str, uid: str, **fields: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": f"e{number}", "namespace": "ns", "uid": f"uid-{number}", "resourceVersion": f"{number}",
                     "creationTimestamp": "2026-01-01T00:00:00Z"},
        "involvedObject": {"kind": kind, "name": name, "uid": uid}, "type": "Warning", "reason": "FailedCreate",
        "message": f"message {number}", "count": 1, "lastTimestamp": f"2026-01-01T00:00:{number % 60:02}Z", **fields,
    }  # fmt: skip


@pytest.fixture
def inventory() -> Inventory:
    found = Inventory()
    found.wrote_child(KEY, live(stateful_set()))
    body = live(pod("assistant-0", "assistant", "uid-set"), "uid-pod", stamp=False)
    body["metadata"]["namespace"] = "ns"
    found.shows("Pod", body)
    return found


def test_events_about_children_pods_and_claims_are_the_owners_newest_first(inventory: Inventory) -> None:
    events = [
        event(1, "StatefulSet", "assistant", "uid-StatefulSet-assistant"),
        event(3, "Pod", "assistant-0", "uid-pod", lastTimestamp=None, eventTime="2026-01-01T00:00:03.000000Z"),
        event(2, "PersistentVolumeClaim", "models-assistant-0", "uid-claim"),
    ]
    assert [inventory.shows("Event", body) for body in events] == [KEY] * 3
    found = inventory.warnings(KEY)
    assert [(item.kind, item.name, item.message) for item in found] == [
        ("Pod", "assistant-0", "message 3"),
        ("PersistentVolumeClaim", "models-assistant-0", "message 2"),
        ("StatefulSet", "assistant", "message 1"),
    ]
    assert found[0].last_seen > found[1].last_seen


def test_other_events_are_not_kept(inventory: Inventory) -> None:
    assert inventory.shows("Event", event(1, "Pod", "stranger", "uid-stranger")) is None
    assert inventory.shows("Event", event(2, "PersistentVolumeClaim", "data-assistant-0", "uid-x")) is None
    assert inventory.warnings(KEY) == []


def test_only_a_new_occurrence_makes_the_owner_dirty(inventory: Inventory) -> None:
    body = event(1, "Pod", "assistant-0", "uid-pod")
    assert inventory.shows("Event", body) == KEY
    assert inventory.shows("Event", body) is None
    again = event(1, "Pod", "assistant-0", "uid-pod", series={"count": 7, "lastObservedTime": "2026-01-01T00:01:00Z"})
    assert inventory.shows("Event", again) == KEY
    assert [(item.count, item.first_seen.minute, item.last_seen.minute) for item in inventory.warnings(KEY)] == [
        (7, 0, 1)
    ]


def test_events_that_expire_are_gone(inventory: Inventory) -> None:
    for number in (1, 2):
        inventory.shows("Event", event(number, "Pod", "assistant-0", "uid-pod"))
    assert inventory.gone("Event", event(1, "Pod", "assistant-0", "uid-pod")) == KEY
    inventory.begin_listing("Event", "ns")
    inventory.end_listing("Event", "ns")
    assert inventory.warnings(KEY) == []


def test_the_oldest_are_dropped(inventory: Inventory) -> None:
    for number in range(50):
        inventory.shows("Event", event(number, "Pod", "assistant-0", "uid-pod"))
    assert [item.message for item in inventory.warnings(KEY)] == [f"message {number}" for number in range(49, 17, -1)]
