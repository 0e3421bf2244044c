"""Fields that the operator gives up: which ones it holds, and how they are written."""

from __future__ import annotations

from typing import Any

import pytest

from llmendpoint_operator.reconcile.handover import hand_over, with_fields
from support.in_memory.children import live, stateful_set
from support.in_memory.fakes import FakeObjects

FIELDS = {"spec": {"replicas": 1}}
REPLICAS: dict[str, Any] = {"f:spec": {"f:replicas": {}, "f:template": {}}}


def held_by(manager: str, fields: Any = REPLICAS, **entry: Any) -> list[dict[str, Any]]:
    return [{"manager": manager, "operation": "Apply", "fieldsV1": fields, **entry}]


async def handed_over(managed: list[dict[str, Any]], uid: str = "") -> Any:
    """Return what is written for a StatefulSet with three replicas whose fields have these managers."""
    objects = FakeObjects()
    body = live(stateful_set(3))
    body["metadata"]["managedFields"] = managed
    objects.put(body)
    await hand_over(objects, stateful_set(), uid or body["metadata"]["uid"], FIELDS)  # type: ignore[arg-type]
    return objects.handed_over


async def test_a_field_that_the_operator_holds_keeps_its_value() -> None:
    (written,) = await handed_over(held_by("llmendpoint-operator"))
    assert written["spec"] == {"replicas": 3}
    assert written["metadata"].keys() == {"name", "namespace", "uid", "resourceVersion"}


@pytest.mark.parametrize(
    "managed",
    [
        [],
        held_by("kube-controller-manager", operation="Update", subresource="scale"),
        held_by("llmendpoint-operator", {"f:spec": {"f:template": {}}}),
        held_by("llmendpoint-operator", subresource="status"),
    ],
)
async def test_a_field_that_others_hold_is_not_written(managed: list[dict[str, Any]]) -> None:
    assert await handed_over(managed) == []


async def test_an_object_that_has_replaced_the_child_is_not_written() -> None:
    assert await handed_over(held_by("llmendpoint-operator"), uid="uid-before") == []


def test_fields_are_added_beside_the_others() -> None:
    manifest = {"kind": "X", "spec": {"template": {}}}
    assert with_fields(manifest, FIELDS) == {"kind": "X", "spec": {"template": {}, "replicas": 1}}
    assert with_fields(manifest, {}) == manifest
