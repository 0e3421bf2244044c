"""Growth of the claims of an endpoint's replicas, if `storage.size` was raised.

Kubernetes grows a claim if its request is raised: a driver grows the volume, and kubelet then grows the file system,
mostly while the pod runs. Claims are compared with the spec in every reconcile, so that also those are grown that were
kept from an earlier time: of replicas that are added again, or of an endpoint that was created again.

The claim template of the StatefulSet is for new claims. It cannot be changed, so the StatefulSet is replaced when the
claims have been patched (`reconcile/plan.py`). Until then, and if a patch is refused, it stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from llmendpoint_common.api import defaults
from llmendpoint_common.api.endpoint.spec import LLMEndpointSpec
from llmendpoint_common.api.endpoint.storage import StorageType
from llmendpoint_common.api.quantity import parse_quantity
from llmendpoint_operator.cluster.client import API_ERRORS
from llmendpoint_operator.cluster.faults import classify
from llmendpoint_operator.cluster.inventory import Inventory
from llmendpoint_operator.cluster.keys import ChildKey, Key
from llmendpoint_operator.cluster.objects import Objects
from llmendpoint_operator.cluster.warning_events import WarningEvent
from llmendpoint_operator.endpoint import layout
from llmendpoint_operator.kube.fault import Fault
from llmendpoint_operator.kube.owner import Manifest, Owner
from llmendpoint_operator.reconcile.claim_templates import requested

_KIND = "PersistentVolumeClaim"
_FILE_SYSTEM_PENDING = "FileSystemResizePending"
#: Conditions of a claim whose message says why it does not grow.
_ERRORS = ("ControllerResizeError", "NodeResizeError")


class Growth:
    """Raises the requests of claims. The inventory keeps refusals, so that not every reconcile repeats a patch."""

    def __init__(self, objects: Objects, inventory: Inventory) -> None:
        self._objects = objects
        self._inventory = inventory

    async def grow(self, key: Key, size: str, claims: Iterable[Manifest]) -> tuple[Fault, ...]:
        """Raise the requests of these claims to `size`, and return the faults of refused patches."""
        waiting = self._inventory.seen(key).refused
        faults: list[Fault] = []
        for claim in claims:
            name = ChildKey(_KIND, claim["metadata"]["name"])
            refusal = waiting.get(name)
            if refusal is not None and refusal.manifest_hash == size:
                faults.append(refusal.fault)
                continue
            try:
                body = await self._objects.patch(_KIND, key.namespace, name.name, _patch(claim, size))
            except API_ERRORS as error:
                fault = classify(error, name)
                self._inventory.refused(key, name, size, fault)
                faults.append(fault)
            else:
                self._inventory.wrote_child(key, body)
        return tuple(faults)


def wanted_size(spec: LLMEndpointSpec) -> str:
    """Return the size of each replica's claim, or nothing if the replicas have no claims of their own."""
    storage = spec.storage
    return (storage.size or defaults.STORAGE_SIZE) if storage.type is StorageType.PERSISTENT_VOLUME_CLAIM else ""


def claims_in_use(owner: Owner, claims: Iterable[Manifest], replicas: int) -> list[Manifest]:
    """Return the claims of the first replicas. Claims of replicas that do not exist now grow when these come back."""
    prefix = f"{layout.MODELS_VOLUME}-{layout.statefulset_name(owner)}"
    numbers = ((claim, layout.ordinal_of(claim["metadata"]["name"], prefix)) for claim in claims)
    return [claim for claim, number in numbers if number is not None and number < replicas]


def too_small(claims: Iterable[Manifest], size: str) -> list[Manifest]:
    """Return the claims whose request has to be raised. Kubernetes refuses this while a claim has no volume."""
    return [claim for claim in claims if _is_bound(claim) and _is_below(requested(claim), size)]


def sentences(claims: Iterable[Manifest], size: str, warnings: Sequence[WarningEvent]) -> tuple[str, ...]:
    """Return a sentence for each claim that does not have this size yet and was not refused it."""
    found = (_sentence(claim, size, warnings) for claim in claims)
    return tuple(sentence for sentence in found if sentence)


def _sentence(claim: Manifest, size: str, warnings: Sequence[WarningEvent]) -> str:
    name = f"PersistentVolumeClaim {claim['metadata']['name']}"
    status = claim.get("status") or {}
    if not _is_bound(claim):
        has_less = _is_below(requested(claim), size)
        return f"{name} has no volume yet. It will be resized to {size} when it has one." if has_less else ""
    capacity = (status.get("capacity") or {}).get("storage", "0")
    if _is_below(requested(claim), size) or not _is_below(capacity, size):
        return ""
    return f"{name} is being resized from {capacity} to {size}. {_progress(claim, warnings)}".rstrip()


def _progress(claim: Manifest, warnings: Sequence[WarningEvent]) -> str:
    """Return what the driver of the volume or kubelet says about a resize, and advice."""
    conditions = {row["type"]: row for row in (claim.get("status") or {}).get("conditions") or []}
    for kind in _ERRORS:
        if conditions.get(kind, {}).get("status") == "True":
            return f"It fails: {conditions[kind].get('message', kind).rstrip('. ')}."
    uid = claim["metadata"]["uid"]
    failed = next((each for each in warnings if each.uid == uid and "Resize" in each.reason), None)
    if failed is not None:
        return f"It fails: {failed.message.rstrip('. ')}."
    if conditions.get(_FILE_SYSTEM_PENDING, {}).get("status") == "True":
        pod = claim["metadata"]["name"].removeprefix(f"{layout.MODELS_VOLUME}-")
        return (
            "Its volume has grown, but its file system has not. If this does not change, delete the pod "
            f"{pod}: its driver may only be able to resize a file system before it is mounted."
        )
    return ""


def _is_bound(claim: Manifest) -> bool:
    return bool((claim.get("status") or {}).get("phase") == "Bound")


def _is_below(size: str, wanted: str) -> bool:
    return parse_quantity(size) < parse_quantity(wanted)


def _patch(claim: Manifest, size: str) -> Manifest:
    """Return a patch for this claim. The UID prevents that a claim which has replaced it is changed."""
    metadata = {"uid": claim["metadata"]["uid"]}
    return {"metadata": metadata, "spec": {"resources": {"requests": {"storage": size}}}}
