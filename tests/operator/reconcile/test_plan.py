"""Plans for desired children and the content of the inventory, as tables."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from llmendpoint_common.contracts.cluster import FaultReason
from llmendpoint_operator.cluster.inventory import Inventory, Refusal, Seen
from llmendpoint_operator.cluster.keys import ChildKey, Key
from llmendpoint_operator.kube.fault import Fault
from llmendpoint_operator.kube.owner import Manifest
from llmendpoint_operator.reconcile.desired_children import DesiredChildren, key_of
from llmendpoint_operator.reconcile.plan import (
    Apply,
    Create,
    Delete,
    Hold,
    Keep,
    Refuse,
    Step,
    covers,
    plan,
    stamp_of,
    stamped,
)
from support.in_memory import loadtests
from support.in_memory.children import KEY, OWNER, config_map, live, newer, stateful_set

CONFIG = ChildKey("ConfigMap", "assistant")
STRANGER = replace(OWNER, uid="uid-of-an-owner-that-is-gone")


def seen(*bodies: Manifest, written: tuple[Manifest, ...] = ()) -> Seen:
    """Return the content of the inventory after our writes, and then after the events of these bodies."""
    inventory = Inventory()
    for body in written:
        inventory.wrote_child(KEY, body)
    for body in bodies:
        inventory.shows(body["kind"], body)
    return inventory.seen(KEY)


def only(known: Seen, desired: Manifest | None = None, **given: Any) -> Step:
    missing, prune = given.get("missing", ()), given.get("prune", ("ConfigMap",))
    (step,) = plan(OWNER, DesiredChildren.of([desired or config_map()]), known, missing, prune)
    return step


OURS = live(config_map())


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        # Not in the inventory.
        (seen(), Create),
        # Unchanged since our write.
        (seen(written=(OURS,)), Keep),
        # Unchanged, after a restart of the operator: only the watch has shown it.
        (seen(OURS), Keep),
        # Applied from another manifest: an earlier one, or that of an older version of the operator.
        (seen(written=(live(config_map("b")),)), Apply),
        (seen(live(config_map("b"))), Apply),
        (seen(live(config_map(), stamp=False)), Apply),
        # Edited, while the operator was running or while it was not.
        (seen(newer(OURS, data={"models.json": "edited"}), written=(OURS,)), Apply),
        (seen(newer(OURS, data={"models.json": "edited"})), Apply),
        (seen(newer(OURS, data={})), Apply),
        # Another client added a field.
        (seen(newer(OURS, data={**OURS["data"], "more": "x"}), written=(OURS,)), Keep),
        # Being deleted. The watch shows when it no longer exists.
        (seen(newer(OURS, metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"})), Keep),
        # Controlled by another owner, or by none.
        (seen(live(config_map(owner=STRANGER))), Refuse),
        (seen(newer(OURS, metadata={"ownerReferences": []})), Refuse),
    ],
)
def test_a_desired_child(known: Seen, expected: type[Step]) -> None:
    assert isinstance(only(known), expected)


def test_a_created_child_carries_its_hash() -> None:
    step = only(seen())
    assert isinstance(step, Create)
    assert step.manifest == stamped(config_map())
    assert stamp_of(step.manifest) == stamp_of(stamped(config_map()))
    assert stamp_of(step.manifest) != stamp_of(stamped(config_map("b")))


def test_somebody_elses_child_is_named_with_advice() -> None:
    step = only(seen(live(config_map(owner=STRANGER))))
    assert isinstance(step, Refuse)
    assert step.fault.reason is FaultReason.NAME_CONFLICT
    assert step.fault.child == "ConfigMap/assistant"
    assert step.fault.message == (
        "ConfigMap/assistant exists but does not belong to this LLMEndpoint. Delete it, or give this resource another name."
    )


def test_a_child_of_a_kind_that_the_cluster_lacks_is_not_written() -> None:
    step = only(seen(), missing=("ConfigMap",))
    assert isinstance(step, Refuse)
    assert step.fault.reason is FaultReason.UNKNOWN_KIND


@pytest.mark.parametrize(("manifest", "expected"), [(config_map(), Refuse), (config_map("changed"), Create)])
def test_a_refused_manifest_waits_and_a_changed_one_does_not(manifest: Manifest, expected: type[Step]) -> None:
    fault = Fault(FaultReason.QUOTA_EXCEEDED, "ConfigMap/assistant", "exceeded quota")
    refusal = Refusal(fault, stamp_of(stamped(config_map())), 1, 0.0)
    assert isinstance(only(Seen({}, {CONFIG: refusal}), manifest), expected)


@pytest.mark.parametrize(
    ("body", "prune", "expected"),
    [
        (OURS, ("ConfigMap",), [Delete(CONFIG, "uid-ConfigMap-assistant")]),
        (OURS, (), []),
        (live(config_map(owner=STRANGER)), ("ConfigMap",), []),
        (newer(OURS, metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}), ("ConfigMap",), []),
    ],
)
def test_a_child_that_is_not_desired(body: Manifest, prune: tuple[str, ...], expected: list[Step]) -> None:
    assert plan(OWNER, DesiredChildren.of([]), seen(body), (), prune) == expected


def refusal_of(manifest: Manifest) -> Refusal:
    """Return a refusal that is remembered for a manifest."""
    fault = Fault(FaultReason.NAME_CONFLICT, str(key_of(manifest)), "exists")
    return Refusal(fault, stamp_of(stamped(manifest)), 1, 0.0)


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        # Neither exists: the ConfigMap is created first.
        (seen(), [Create, Create]),
        # The ConfigMap is ours, or is ours and being deleted.
        (seen(OURS), [Keep, Create]),
        (seen(newer(OURS, metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"})), [Keep, Create]),
        # It belongs to another owner, or to none, whether or not the StatefulSet exists and has changed.
        (seen(live(config_map(owner=STRANGER))), [Refuse, Hold]),
        (seen(newer(OURS, metadata={"ownerReferences": []})), [Refuse, Hold]),
        (seen(live(config_map(owner=STRANGER)), live(stateful_set(replicas=3))), [Refuse, Hold]),
        (seen(live(config_map(owner=STRANGER)), live(stateful_set())), [Refuse, Keep]),
        # It does not exist, and its creation was refused.
        (Seen({}, {CONFIG: refusal_of(config_map())}), [Refuse, Hold]),
        # It is ours, and a change of it was refused.
        (Seen(seen(live(config_map("b"))).children, {CONFIG: refusal_of(config_map())}), [Refuse, Create]),
    ],
)
def test_a_child_that_needs_another_one(known: Seen, expected: list[type[Step]]) -> None:
    steps = plan(OWNER, DesiredChildren.of([config_map(), stateful_set()]), known, (), ())
    assert [type(step) for step in steps] == expected


def test_a_child_is_held_because_of_the_first_cause() -> None:
    """The result map belongs to a stranger, so the Role that would open it waits, and so do the Binding and the Job."""
    owner, made = loadtests.OWNER, list(loadtests.children({"endpointRef": {"name": "a"}}).values())
    theirs = live(next(item for item in made if item["metadata"]["name"] == "smoke-result-0"))
    theirs["metadata"]["ownerReferences"] = []
    inventory = Inventory()
    inventory.shows("ConfigMap", theirs)
    known = inventory.seen(Key("LoadTest", "ns", "smoke"))
    held = {
        step.key.kind: step.cause
        for step in plan(owner, DesiredChildren.of(made), known, (), ())
        if isinstance(step, Hold)
    }
    result = ChildKey("ConfigMap", "smoke-result-0")
    assert held == {"Role": result, "RoleBinding": result, "Job": result}


def test_children_are_planned_in_their_order_and_deletions_come_last() -> None:
    known = seen(live(config_map(name="old")))
    steps = plan(OWNER, DesiredChildren.of([config_map(), stateful_set()]), known, (), ("ConfigMap",))
    assert [type(step) for step in steps] == [Create, Create, Delete]


@pytest.mark.parametrize(
    ("found", "wanted", "expected"),
    [
        ({"a": 1, "default": True}, {"a": 1}, True),
        ({"a": 2}, {"a": 1}, False),
        ({}, {"a": 1}, False),
        ({}, {"a": {}, "b": []}, True),
        ({"a": "x"}, {"a": {"b": 1}}, False),
        ([1, 2], [1, 2], True),
        ([2, 1], [1, 2], False),
        ([{"name": "b", "v": 2}, {"name": "a", "v": 1}], [{"name": "a", "v": 1}], True),
        ([{"name": "a", "v": 2}], [{"name": "a", "v": 1}], False),
        ([{"key": "a", "effect": "x"}], [{"key": "a"}], True),
        ([{"key": "a"}, {"key": "b"}], [{"key": "a"}], False),
        (None, [{"name": "a"}], False),
        ({"selector": {"a": "1", "b": "2"}}, {"selector": {"a": "1"}}, False),
        ({"nodeSelector": {"a": "1", "b": "2"}}, {"nodeSelector": {"a": "1"}}, False),
        ({"matchLabels": {"a": "1"}}, {"matchLabels": {"a": "1"}}, True),
        ({"subjects": [{"name": "a"}, {"name": "b"}]}, {"subjects": [{"name": "a"}]}, False),
        ({"labels": {"a": "1", "b": "2"}}, {"labels": {"a": "1"}}, True),
    ],
)
def test_what_a_live_value_covers(found: Any, wanted: Any, expected: bool) -> None:
    assert covers(found, wanted) is expected
