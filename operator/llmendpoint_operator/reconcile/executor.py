"""Carries out plans: writes children one after the other, and records the results in the inventory.

If a child is refused, the others are still written, except those that need it. The inventory keeps the fault, so that a
reconcile for another reason does not repeat the write before the delay has passed.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from http import HTTPStatus
from types import MappingProxyType

from kubernetes.aio.client.exceptions import ApiException

from llmendpoint_common.contracts.cluster import MANAGED_BY, MANAGED_BY_LABEL, FaultReason
from llmendpoint_operator.cluster.client import API_ERRORS
from llmendpoint_operator.cluster.discovery import Discovery
from llmendpoint_operator.cluster.faults import classify, describe, name_conflict
from llmendpoint_operator.cluster.inventory import Inventory
from llmendpoint_operator.cluster.keys import ChildKey, Key
from llmendpoint_operator.cluster.objects import Objects
from llmendpoint_operator.kube.fault import Fault
from llmendpoint_operator.kube.owner import Manifest, Owner, is_controlled_by
from llmendpoint_operator.reconcile.desired_children import DesiredChildren, key_of
from llmendpoint_operator.reconcile.handover import hand_over, with_fields
from llmendpoint_operator.reconcile.plan import (
    Apply,
    Create,
    Delete,
    Hold,
    Keep,
    Refuse,
    Replace,
    Write,
    is_ours,
    plan,
    stamp_of,
)

log = logging.getLogger(__name__)


class Executor:
    """Creates, updates and deletes the children of an owner."""

    def __init__(self, objects: Objects, inventory: Inventory, discovery: Discovery) -> None:
        self._objects = objects
        self._inventory = inventory
        self._discovery = discovery
        #: The child that is being written, by owner.
        self.writing: dict[Key, ChildKey] = {}

    async def look_up(self, owner: Owner, expected: Iterable[ChildKey] = ()) -> None:
        """Read the children that no watch shows, because somebody may have removed the label by which they are watched.

        `expected` are further children that should exist. They are read if the inventory does not have them.
        """
        key = Key(owner.kind, owner.namespace, owner.name)
        absent = (name for name in expected if self._inventory.child(key, *name) is None)
        for name in dict.fromkeys((*self._inventory.unshown(key), *absent)):
            try:
                body = await self._objects.get(name.kind, owner.namespace, name.name)
            except API_ERRORS as error:
                log.info("%s: cannot read %s: %s", key, name, describe(error))
                continue
            if body is not None and is_controlled_by(body, owner):
                self._inventory.found(key, body)
            else:
                self._inventory.missing(key, name)

    async def converge(
        self,
        owner: Owner,
        desired: DesiredChildren,
        prune: Collection[str] = (),
        initial: Mapping[ChildKey, Manifest] = MappingProxyType({}),
    ) -> tuple[Fault, ...]:
        """Write the children that differ from the desired ones, and return the faults of refused writes.

        Children of the kinds in `prune` that are not desired are deleted. `initial` has fields that are not in a
        desired manifest: the child gets them when it is created, and then they belong to others.
        """
        key = Key(owner.kind, owner.namespace, owner.name)
        self._inventory.keep_refusals(key, desired.keys)
        seen = self._inventory.seen(key)
        self._inventory.postponed(key, seen.refused)
        faults: list[Fault] = []
        #: The children that are not written now, and for each one the child whose fault is the reason.
        held: dict[ChildKey, ChildKey] = {}
        for step in plan(owner, desired, seen, self._discovery.missing, prune):
            match step:
                case Keep(name):
                    self._inventory.accept(key, name)
                case Refuse(fault):
                    faults.append(fault)
                case Hold(name, cause):
                    held[name] = cause
                case Delete(name, uid):
                    faults.extend(await self._delete(key, name, uid))
                case Create(manifest) | Apply(manifest) | Replace(manifest):
                    # The plan expected that the children which this one needs would be written before it.
                    blocker = self._first_not_ours(key, owner, step.needs)
                    if blocker is None:
                        faults.extend(await self._write(key, owner, step, initial.get(key_of(manifest), {})))
                    else:
                        held[key_of(manifest)] = held.get(blocker, blocker)
        return tuple(_with_held(fault, held) for fault in faults)

    def preview(self, owner: Owner, desired: DesiredChildren, prune: Collection[str] = ()) -> tuple[ChildKey, ...]:
        """Return the children that `converge` would create, change or delete, without writing them."""
        key = Key(owner.kind, owner.namespace, owner.name)
        withheld: list[ChildKey] = []
        for step in plan(owner, desired, self._inventory.seen(key), self._discovery.missing, prune):
            match step:
                case Keep(name):
                    self._inventory.accept(key, name)
                case Delete(name):
                    withheld.append(name)
                case Create(manifest) | Apply(manifest) | Replace(manifest):
                    withheld.append(key_of(manifest))
        return tuple(withheld)

    def _first_not_ours(self, key: Key, owner: Owner, names: Iterable[ChildKey]) -> ChildKey | None:
        return next((name for name in names if not is_ours(owner, self._inventory.child(key, *name))), None)

    async def _write(self, key: Key, owner: Owner, step: Write, initial: Manifest) -> list[Fault]:
        manifest = step.manifest
        name = key_of(manifest)
        fault: Fault | None = None
        self.writing[key] = name
        try:
            if isinstance(step, Create):
                fault = await self._create(key, owner, manifest, initial)
            elif isinstance(step, Replace):
                await self._replace(key, manifest, step.uid)
            else:
                await self._apply(key, manifest, step.uid, initial)
        except API_ERRORS as error:
            fault = classify(error, name)
        finally:
            del self.writing[key]
        if fault is None:
            return []
        if fault.reason is FaultReason.UNKNOWN_KIND:
            self._discovery.lost(name.kind)
        log.info("%s: cannot write %s: %s", key, name, fault.message)
        self._inventory.refused(key, name, stamp_of(manifest), fault)
        return [fault]

    async def _create(self, key: Key, owner: Owner, manifest: Manifest, initial: Manifest) -> Fault | None:
        """Create a child. If the name exists, read the object: apply our own child, or return a name conflict."""
        try:
            self._inventory.wrote_child(key, await self._objects.create(with_fields(manifest, initial)))
        except ApiException as error:
            if error.status != HTTPStatus.CONFLICT:
                raise
            name = key_of(manifest)
            existing = await self._objects.get(name.kind, owner.namespace, name.name)
            if existing is None:
                raise
            if not is_controlled_by(existing, owner):
                return name_conflict(name, owner.kind)
            # The UID prevents that an object which has replaced the one that was read is changed.
            await self._apply(key, manifest, existing["metadata"]["uid"], initial)
        return None

    async def _replace(self, key: Key, manifest: Manifest, uid: str) -> None:
        """Delete a child but not its pods. The watch shows when it is gone, and the next plan then creates it.

        If the API server would not create it, for example because a policy refuses a changed template, it stays.
        """
        name = key_of(manifest)
        await self._objects.try_create(manifest)
        await self._make_watched(key, name, uid)
        await self._objects.delete(name.kind, key.namespace, name.name, uid, orphan=True)
        self._inventory.deleting(key, name)

    async def _apply(self, key: Key, manifest: Manifest, uid: str, initial: Manifest) -> None:
        if initial:
            await hand_over(self._objects, manifest, uid, initial)
        self._inventory.wrote_child(key, await self._objects.apply(manifest, uid))

    async def _delete(self, key: Key, name: ChildKey, uid: str) -> list[Fault]:
        try:
            await self._make_watched(key, name, uid)
            await self._objects.delete(name.kind, key.namespace, name.name, uid)
        except API_ERRORS as error:
            return [classify(error, name)]
        self._inventory.deleting(key, name)
        return []

    async def _make_watched(self, key: Key, name: ChildKey, uid: str) -> None:
        """Give a child its label back before it is deleted. Otherwise, no watch would show when it is gone."""
        if self._inventory.is_unshown(key, name):
            patch = {"metadata": {"uid": uid, "labels": {MANAGED_BY_LABEL: MANAGED_BY}}}
            self._inventory.shows(name.kind, await self._objects.patch(name.kind, key.namespace, name.name, patch))


def _with_held(fault: Fault, held: Mapping[ChildKey, ChildKey]) -> Fault:
    """Return a fault whose message also names the children that are not written because of it."""
    names = [str(name) for name, cause in held.items() if str(cause) == fault.child]
    if not names:
        return fault
    return replace(fault, message=f"{fault.message} Until then, {' and '.join(names)} will not be written.")
