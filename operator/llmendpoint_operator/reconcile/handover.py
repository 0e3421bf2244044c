"""Gives up fields of a child without changing them.

If the only field manager that has applied a field applies the object without it, the API server removes the field, and
its default comes back: a StatefulSet would fall to one replica when an autoscaler takes over. Therefore the present
value is first applied by another field manager, which never writes again. Then the operator can leave the field out.
A field manager that changes the field afterwards takes it over:
https://kubernetes.io/docs/reference/using-api/server-side-apply/#transferring-ownership
"""

from __future__ import annotations

from typing import Any

from llmendpoint_common.contracts.cluster import FIELD_MANAGER
from llmendpoint_operator.cluster.objects import Objects
from llmendpoint_operator.kube.owner import Manifest


async def hand_over(objects: Objects, manifest: Manifest, uid: str, fields: Manifest) -> None:
    """Give up those of these fields that the operator has applied. They keep the values that they have now.

    `fields` is a part of a manifest; its values do not matter. Raises `API_ERRORS`, among them a conflict if the object
    changes meanwhile.
    """
    metadata = manifest["metadata"]
    live = await objects.get(manifest["kind"], metadata["namespace"], metadata["name"])
    if live is None or live["metadata"]["uid"] != uid:
        return
    held = _held(_applied_fields(live), fields, live)
    if held:
        names = {name: live["metadata"][name] for name in ("name", "namespace", "uid", "resourceVersion")}
        identity = {"apiVersion": manifest["apiVersion"], "kind": manifest["kind"], "metadata": names}
        await objects.apply_as_other({**identity, **held})


def with_fields(manifest: Manifest, fields: Manifest) -> Manifest:
    """Return a manifest with additional fields."""
    merged = {
        name: with_fields(manifest[name], value) if isinstance(value, dict) and name in manifest else value
        for name, value in fields.items()
    }
    return {**manifest, **merged}


def _applied_fields(live: Manifest) -> Any:
    """Return the set of fields that the operator has applied, in the form of `managedFields`."""
    for entry in live["metadata"].get("managedFields") or []:
        is_ours = entry.get("manager") == FIELD_MANAGER and entry.get("operation") == "Apply"
        if is_ours and not entry.get("subresource"):
            return entry.get("fieldsV1") or {}
    return {}


def _held(applied: Any, fields: Manifest, live: Manifest) -> Manifest:
    """Return the live values of those fields that are in a set of applied fields."""
    found: Manifest = {}
    for name, value in fields.items():
        below = applied.get(f"f:{name}")
        if below is None or name not in live:
            continue
        if not isinstance(value, dict):
            found[name] = live[name]
        elif inner := _held(below, value, live[name]):
            found[name] = inner
    return found
