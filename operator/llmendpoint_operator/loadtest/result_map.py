"""The ConfigMaps that receive the results of a run's pods, which are the only objects that load pods may change.

RBAC knows only whole objects: a pod that may write the result may also remove the owner reference, so that the
ConfigMap outlives its LoadTest, add a finalizer, so that it blocks the deletion of its namespace, or remove the labels,
so that the watch no longer shows it. Therefore:

- A ConfigMap is recognized by its UID, which is in the status of the LoadTest, and never by its name or labels alone.
- Metadata that only the operator may set is restored, at most every two seconds.
- If the LoadTest is deleted, a ConfigMap that would survive it is deleted, and its finalizers are removed.
- The pod loses its permission when the run has ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from llmendpoint_common.contracts.cluster import COMPONENT_LABEL, GROUP
from llmendpoint_operator.cluster.inventory import RESULT_COMPONENT, Child, Inventory
from llmendpoint_operator.cluster.keys import Key
from llmendpoint_operator.cluster.objects import Objects
from llmendpoint_operator.kube.owner import Manifest, Owner
from llmendpoint_operator.loadtest.resources.rbac import identity_name, result_name

_KIND = "ConfigMap"
_REPAIR_SECONDS = 2.0
#: Finalizers of Kubernetes itself, which the garbage collector removes.
_OF_KUBERNETES = frozenset({"foregroundDeletion", "orphan"})


class Tended(NamedTuple):
    """The result ConfigMaps that exist, by name, and the seconds until one has to be tended again, if any."""

    bodies: dict[str, Manifest]
    pause: float | None = None


def result_uids(owner: Owner, status: Mapping[str, Any]) -> dict[str, str]:
    """Return the UIDs of the result ConfigMaps of a started run, by name.

    A UID is empty for a run that was started by an older operator.
    """
    several = status.get("podResultConfigMaps") or []
    if several:
        return {item["name"]: item["uid"] for item in several}
    return {result_name(owner): (status.get("resultConfigMap") or {}).get("uid", "")}


@dataclass(frozen=True)
class _Known:
    """A result ConfigMap of a run that has started, and the UID of its LoadTest."""

    name: str
    uid: str
    owner_uid: str


class ResultMaps:
    """Keeps the result ConfigMaps of all runs in order."""

    def __init__(self, objects: Objects, inventory: Inventory, clock: Callable[[], float] = time.monotonic) -> None:
        self._objects = objects
        self._inventory = inventory
        self._clock = clock
        self._known: dict[Key, dict[str, _Known]] = {}
        #: UIDs of ConfigMaps that no longer exist, so that they are looked up only once.
        self._absent: set[str] = set()
        self._repaired: dict[str, float] = {}

    async def tend(self, key: Key, owner: Owner, uids: Mapping[str, str]) -> Tended:
        """Return the ConfigMaps with these UIDs, by name, with their metadata restored.

        A ConfigMap whose UID is empty is recognized by its controller.
        """
        bodies: dict[str, Manifest] = {}
        pauses: list[float] = []
        for name, uid in uids.items():
            known = _Known(name, uid, owner.uid)
            self._known.setdefault(key, {})[name] = known
            body, pause = await self._tend_one(key, owner, known)
            if body is not None:
                bodies[name] = body
            if pause is not None:
                pauses.append(pause)
        return Tended(bodies, min(pauses, default=None))

    async def _tend_one(self, key: Key, owner: Owner, known: _Known) -> tuple[Manifest | None, float | None]:
        body = await self._find(key, known)
        patch = None if body is None else repair(owner, body)
        if body is None or patch is None:
            return body, None
        last = self._repaired.get(known.uid)
        pause = 0.0 if last is None else last + _REPAIR_SECONDS - self._clock()
        if pause > 0:
            return body, pause
        self._repaired[known.uid] = self._clock()
        written = await self._objects.patch(_KIND, key.namespace, known.name, {"metadata": patch})
        self._inventory.wrote_child(key, written)
        return written, None

    async def revoke(self, key: Key, owner: Owner) -> None:
        """Take the permission to change the ConfigMaps away from the load pods. Does nothing if it has none."""
        binding = self._inventory.child(key, "RoleBinding", identity_name(owner))
        if binding is None or binding.owner_uid != owner.uid or binding.terminating:
            return
        await self._objects.delete("RoleBinding", key.namespace, binding.key.name, binding.uid)
        self._inventory.deleting(key, binding.key)

    async def release(self, key: Key, successor: Owner | None = None) -> None:
        """Remove what would keep the ConfigMaps of a LoadTest that is deleted, or is being deleted.

        `successor` is the LoadTest that has the same name now, if there is one.
        """
        for child in self._children(key):
            if child.terminating:
                await self._drop_finalizers(key, child.body)
        for known in tuple(self._known.get(key, {}).values()):
            if successor is None or successor.uid != known.owner_uid:
                await self._release_one(key, known)
        if not self._known.get(key):
            self._known.pop(key, None)

    async def _release_one(self, key: Key, known: _Known) -> None:
        if self._is_deleted_with_its_owner(key, known):
            return
        body = await self._objects.get(_KIND, key.namespace, known.name)
        if body is not None and body["metadata"]["uid"] == known.uid:
            await self._objects.delete(_KIND, key.namespace, known.name, known.uid)
            await self._drop_finalizers(key, body)
        del self._known[key][known.name]
        self._absent.discard(known.uid)
        self._repaired.pop(known.uid, None)

    async def _find(self, key: Key, known: _Known) -> Manifest | None:
        child = self._inventory.child(key, _KIND, known.name)
        if child is not None and not known.uid:
            return child.body if child.owner_uid == known.owner_uid else None
        if child is not None and child.uid == known.uid and _is_kept(child):
            self._absent.discard(known.uid)
            return child.body
        if not known.uid or known.uid in self._absent:
            return None
        # Either it does not exist, or its labels have been changed, so that the watch does not show it.
        body = await self._objects.get(_KIND, key.namespace, known.name)
        if body is None or body["metadata"]["uid"] != known.uid:
            self._absent.add(known.uid)
            return None
        return body

    async def _drop_finalizers(self, key: Key, body: Manifest) -> None:
        finalizers = _repaired_finalizers(body["metadata"])
        if finalizers:
            await self._objects.patch(_KIND, key.namespace, body["metadata"]["name"], {"metadata": finalizers})

    def _children(self, key: Key) -> list[Child]:
        children = self._inventory.seen(key).children.values()
        return [child for child in children if child.key.kind == _KIND and _is_kept(child)]

    def _is_deleted_with_its_owner(self, key: Key, known: _Known) -> bool:
        """Return whether Kubernetes deletes the ConfigMap, because the LoadTest is still its only owner."""
        child = self._inventory.child(key, _KIND, known.name)
        if child is None or child.uid != known.uid:
            return False
        owners = child.body["metadata"].get("ownerReferences") or []
        return child.terminating or (child.owner_uid == known.owner_uid and len(owners) == 1)


def repair(owner: Owner, body: Manifest) -> dict[str, Any] | None:
    """Return a merge patch of the metadata of a result ConfigMap, or None if nothing has to be restored.

    Labels of others stay, except those in our own domain: they select objects for other purposes, such as questions.
    """
    metadata = body["metadata"]
    patch = _repaired_labels(owner, metadata) | _repaired_finalizers(metadata)
    if metadata.get("ownerReferences") != [owner.reference()]:
        patch["ownerReferences"] = [owner.reference()]
    # The patch is refused if the object has changed since, or has been replaced.
    return {**patch, "resourceVersion": metadata["resourceVersion"]} if patch else None


def _repaired_labels(owner: Owner, metadata: Manifest) -> dict[str, Any]:
    wanted, given = owner.labels(RESULT_COMPONENT), metadata.get("labels") or {}
    reserved = {name for name in given if name.startswith(f"{GROUP}/")}
    wrong = {name: wanted.get(name) for name in reserved | wanted.keys() if given.get(name) != wanted.get(name)}
    return {"labels": wrong} if wrong else {}


def _repaired_finalizers(metadata: Manifest) -> dict[str, Any]:
    given = metadata.get("finalizers") or []
    kept = [name for name in given if name in _OF_KUBERNETES]
    return {} if kept == given else {"finalizers": kept or None}


def _is_kept(child: Child) -> bool:
    """Return whether the inventory has the data and all metadata of a ConfigMap, because its label says so."""
    labels = child.body["metadata"].get("labels") or {}
    return bool(labels.get(COMPONENT_LABEL) == RESULT_COMPONENT)
