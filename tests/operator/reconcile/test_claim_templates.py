"""Sizes in the claim templates of StatefulSets, and the plan for a StatefulSet that has outgrown them."""

from __future__ import annotations

from typing import Any

import pytest

from llmendpoint_operator.cluster.inventory import Inventory
from llmendpoint_operator.cluster.keys import ChildKey
from llmendpoint_operator.reconcile.claim_templates import outgrows, with_sizes_of
from llmendpoint_operator.reconcile.desired_children import DesiredChildren
from llmendpoint_operator.reconcile.plan import Apply, Hold, Keep, Replace, plan
from support.in_memory.children import KEY, OWNER, live, newer, stateful_set

SET = ChildKey("StatefulSet", "assistant")


def sized(size: str | None, replicas: int = 1) -> dict[str, Any]:
    """Return the manifest of a StatefulSet with one claim template."""
    made = stateful_set(replicas)
    template = {"metadata": {"name": "models"}, "spec": {"accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": size}}}}  # fmt: skip
    return {**made, "spec": {**made["spec"], "volumeClaimTemplates": [template]}} if size else made


@pytest.mark.parametrize(
    ("wanted", "present", "larger"),
    [
        ("80Gi", "50Gi", True),
        ("50Gi", "50Gi", False),
        ("51200Mi", "50Gi", False),
        ("1e12", "50Gi", True),
        ("40Gi", "50Gi", False),
        (None, None, False),
    ],
)
def test_only_a_larger_template_outgrows_the_present_one(wanted: str | None, present: str | None, larger: bool) -> None:
    assert outgrows(sized(wanted), sized(present)) is larger


def test_a_manifest_with_the_present_sizes_keeps_everything_else() -> None:
    assert with_sizes_of(sized("80Gi", 3), sized("50Gi")) == sized("50Gi", 3)
    assert with_sizes_of(stateful_set(3), sized("50Gi")) == stateful_set(3)


def planned(wanted: dict[str, Any], body: dict[str, Any], **seen: Any) -> list[Any]:
    inventory = Inventory()
    inventory.shows("StatefulSet", body)
    return plan(OWNER, DesiredChildren.of([wanted]), inventory.seen(KEY), (), ())


def test_a_statefulset_that_has_outgrown_its_templates_is_replaced() -> None:
    (step,) = planned(sized("80Gi"), live(sized("50Gi"), "uid-1"))
    assert isinstance(step, Replace)
    assert step.uid == "uid-1"


def test_a_change_without_a_larger_size_is_applied() -> None:
    (step,) = planned(sized("50Gi", 3), live(sized("50Gi")))
    assert isinstance(step, Apply)


def test_a_statefulset_that_is_being_replaced_is_kept_until_it_is_gone() -> None:
    body = newer(live(sized("50Gi")), metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"})
    assert planned(sized("80Gi"), body) == [Keep(SET)]


def test_a_statefulset_is_not_deleted_while_it_could_not_be_created_again() -> None:
    """A stranger's ServiceAccount has the name of ours, so that a new StatefulSet would not be written."""
    account = {**OWNER.child("ServiceAccount", "assistant", "identity")}
    stranger = live({**account, "metadata": {**account["metadata"], "ownerReferences": []}})
    inventory = Inventory()
    inventory.shows("StatefulSet", live(sized("50Gi")))
    inventory.shows("ServiceAccount", stranger)
    steps = plan(OWNER, DesiredChildren.of([account, sized("80Gi")]), inventory.seen(KEY), (), ())
    assert isinstance(steps[1], Hold)
