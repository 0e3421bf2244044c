"""Plans the writes for one owner, from its desired children and the inventory. Has no side effects.

state of the child                                desired    not desired
not in the inventory                              Create     -
controlled by another owner, or by none           Refuse     -
being deleted                                     Keep       -
matches its manifest, which has not changed       Keep       Delete
has claim templates that the manifest outgrows    Replace    Delete
any other state                                   Apply      Delete
kind missing, or the delay of a retry not over    Refuse     -
to be written, but a child that it needs is       Hold       -
refused or held and is not ours

A child that another one needs (`dependencies.py`) comes before it in the desired children.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from llmendpoint_operator.cluster.faults import name_conflict, unknown_kind
from llmendpoint_operator.cluster.inventory import HASH_ANNOTATION, Child, Seen, hash_of
from llmendpoint_operator.cluster.keys import ChildKey
from llmendpoint_operator.kube.fault import Fault
from llmendpoint_operator.kube.owner import Manifest, Owner
from llmendpoint_operator.reconcile.claim_templates import outgrows
from llmendpoint_operator.reconcile.desired_children import DesiredChildren, Outline, key_of


@dataclass(frozen=True)
class Create:
    """Create a child that is not in the inventory, if the children in `needs` are ours when its turn comes."""

    manifest: Manifest
    needs: tuple[ChildKey, ...] = ()


@dataclass(frozen=True)
class Apply:
    """Apply a child whose manifest has changed, or that another client has changed.

    The write is meant for the object with this UID, and requires that the children in `needs` are ours.
    """

    manifest: Manifest
    uid: str
    needs: tuple[ChildKey, ...] = ()


@dataclass(frozen=True)
class Replace:
    """Delete a StatefulSet but not its pods, because its claim templates cannot be changed. It is created again later.

    This is meant for the object with this UID, and requires that the children in `needs` are ours.
    """

    manifest: Manifest
    uid: str
    needs: tuple[ChildKey, ...] = ()


@dataclass(frozen=True)
class Keep:
    """Do not write a child, because it is up to date or is being deleted."""

    key: ChildKey


@dataclass(frozen=True)
class Delete:
    """Delete a child that is no longer desired."""

    key: ChildKey
    uid: str


@dataclass(frozen=True)
class Refuse:
    """Do not write a child, and report the reason."""

    fault: Fault


@dataclass(frozen=True)
class Hold:
    """Do not write a child, because a child that it needs is not ours. The fault of `cause` is the reason."""

    key: ChildKey
    cause: ChildKey


#: The steps that write a child.
Write: TypeAlias = Create | Apply | Replace
Step: TypeAlias = Write | Keep | Delete | Refuse | Hold


def plan(
    owner: Owner, desired: DesiredChildren, seen: Seen, missing: Collection[str], prune: Collection[str]
) -> list[Step]:
    """Return the steps for the desired children, in their order, and then the deletions.

    `missing` are the kinds that the cluster does not have. `prune` are the kinds of children that are deleted if they
    are not desired.
    """
    steps: dict[ChildKey, Step] = {}
    for outline in desired.outlines:
        step = _step(owner, outline, desired, seen, missing)
        if isinstance(step, Create | Apply | Replace):
            step = _after_needs(owner, step, steps, seen)
        steps[outline.key] = step
    rest = (child for key, child in seen.children.items() if key not in steps)
    return [*steps.values(), *_deletions(owner, rest, prune)]


def stamped(manifest: Manifest) -> Manifest:
    """Return a manifest with the annotation that contains its hash."""
    return _with_stamp(manifest, hash_of(manifest))


def _with_stamp(manifest: Manifest, stamp: str) -> Manifest:
    metadata = manifest["metadata"]
    annotations = {**metadata.get("annotations", {}), HASH_ANNOTATION: stamp}
    return {**manifest, "metadata": {**metadata, "annotations": annotations}}


def stamp_of(manifest: Manifest) -> str:
    """Return the hash in the annotation of a stamped manifest."""
    return str(manifest["metadata"]["annotations"][HASH_ANNOTATION])


#: Maps and lists of objects that the API server replaces as a whole (`atomic` in its schema): an additional entry is
#: never a default, and may take a Service's pods away.
_ATOMIC = frozenset({"selector", "matchLabels", "nodeSelector", "subjects"})


def covers(live: Any, wanted: Any) -> bool:
    """Return whether a live value contains everything that is in the wanted value.

    The API server adds defaults, and other clients may add fields and items. Such additions are ignored. The API server
    merges lists of objects by a key such as the name, so the position of an object in a list is ignored. A list of
    objects without names must have the same length, and a list of plain values must be equal. A missing live value
    covers an empty wanted value, because the API server drops empty values. Additional entries of atomic maps and lists
    are not ignored.
    """
    if isinstance(wanted, dict):
        return isinstance(live or {}, dict) and all(
            covers((live or {}).get(key), value)
            and (key not in _ATOMIC or len((live or {}).get(key) or ()) == len(value))
            for key, value in wanted.items()
        )
    if not isinstance(wanted, list):
        return bool(live == wanted)
    found = live or []
    if not all(isinstance(item, dict) for item in wanted):
        return bool(found == wanted)
    named = all("name" in item for item in wanted)
    return (named or len(found) == len(wanted)) and all(any(covers(one, item) for one in found) for item in wanted)


def _covers_field(name: str, live: Any, wanted: Any) -> bool:
    return covers(live, wanted) and (name not in _ATOMIC or len(live or ()) == len(wanted))


def _step(owner: Owner, outline: Outline, desired: DesiredChildren, seen: Seen, missing: Collection[str]) -> Step:
    key = outline.key
    if key.kind in missing:
        return Refuse(unknown_kind(key))
    child = seen.children.get(key)
    refusal = seen.refused.get(key)
    if child is not None and child.owner_uid != owner.uid:
        return Refuse(name_conflict(key, owner.kind))
    if child is not None and (child.terminating or _is_as_wanted(child, outline, desired)):
        return Keep(key)
    if refusal is not None and refusal.manifest_hash == outline.stamp:
        return Refuse(refusal.fault)
    manifest = desired.manifest(key)
    wanted = _with_stamp(manifest, outline.stamp)
    if child is None:
        return Create(wanted, outline.needs)
    return (Replace if outgrows(manifest, child.body) else Apply)(wanted, child.uid, outline.needs)


def _after_needs(owner: Owner, step: Write, steps: Mapping[ChildKey, Step], seen: Seen) -> Write | Hold:
    """Return a step, or a Hold if a child that it needs is not ours and is not about to be created."""
    for key in step.needs:
        blocker = steps.get(key)
        if isinstance(blocker, Refuse | Hold) and not is_ours(owner, seen.children.get(key)):
            return Hold(key_of(step.manifest), blocker.cause if isinstance(blocker, Hold) else key)
    return step


def is_ours(owner: Owner, child: Child | None) -> bool:
    """Return whether a child exists and is controlled by this owner."""
    return child is not None and child.owner_uid == owner.uid


def _is_as_wanted(child: Child, outline: Outline, desired: DesiredChildren) -> bool:
    """Return whether a child was applied from its desired manifest and still matches it."""
    if child.applied_hash != outline.stamp:
        return False
    if child.accepted == child.content:
        return True
    body = child.unjudged
    return body is not None and covers(body, _with_stamp(desired.manifest(outline.key), outline.stamp))


def _deletions(owner: Owner, children: Iterable[Child], prune: Collection[str]) -> list[Delete]:
    return [
        Delete(child.key, child.uid)
        for child in children
        if child.key.kind in prune and child.owner_uid == owner.uid and not child.terminating
    ]
