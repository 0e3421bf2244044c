"""Plans what to write for one owner: desired children on one side, the inventory on the other. Pure.

child in the cluster                              desired    not desired
unknown                                           Create     -
belongs to nobody, or to another owner            Refuse     -
being deleted                                     Keep       -
as we left it, and the manifest is the same       Keep       Delete
anything else                                     Apply      Delete
its kind is missing, or it was refused just now   Refuse     -
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from llmendpoint_operator.cluster.faults import name_conflict, unknown_kind
from llmendpoint_operator.cluster.inventory import HASH_ANNOTATION, Child, Seen, hash_of
from llmendpoint_operator.cluster.keys import ChildKey
from llmendpoint_operator.kube.fault import Fault
from llmendpoint_operator.kube.owner import Manifest, Owner


@dataclass(frozen=True)
class Create:
    """Create a child that the inventory does not know."""

    manifest: Manifest


@dataclass(frozen=True)
class Apply:
    """Apply a child whose manifest changed, or that somebody else changed."""

    manifest: Manifest


@dataclass(frozen=True)
class Keep:
    """Leave a child alone: it is as it should be, or it is being deleted."""

    key: ChildKey


@dataclass(frozen=True)
class Delete:
    """Delete a child that is no longer desired."""

    key: ChildKey
    uid: str


@dataclass(frozen=True)
class Refuse:
    """Write nothing, and report why."""

    fault: Fault


Step: TypeAlias = Create | Apply | Keep | Delete | Refuse


def plan(
    owner: Owner, desired: Sequence[Manifest], seen: Seen, missing: Collection[str], prune: Collection[str]
) -> list[Step]:
    """Return the steps in the order of the desired children, then the deletions.

    `missing` are the kinds that the cluster lacks, and `prune` the kinds of children that are deleted if not desired.
    """
    steps = [_step(owner, manifest, seen, missing) for manifest in desired]
    wanted = {key_of(manifest) for manifest in desired}
    return [*steps, *_deletions(owner, (child for key, child in seen.children.items() if key not in wanted), prune)]


def key_of(manifest: Manifest) -> ChildKey:
    """Return the key of a child's manifest."""
    return ChildKey(manifest["kind"], manifest["metadata"]["name"])


def stamped(manifest: Manifest) -> Manifest:
    """Return a manifest with its own hash as an annotation."""
    metadata = manifest["metadata"]
    annotations = {**metadata.get("annotations", {}), HASH_ANNOTATION: hash_of(manifest)}
    return {**manifest, "metadata": {**metadata, "annotations": annotations}}


def stamp_of(manifest: Manifest) -> str:
    """Return the hash that a stamped manifest carries."""
    return str(manifest["metadata"]["annotations"][HASH_ANNOTATION])


def covers(live: Any, wanted: Any) -> bool:
    """Tell whether a live value says everything that a wanted one says.

    The API server adds defaults, and others may add fields and items of their own: what is not wanted does not count.
    An item of a list is covered by any item, because lists of objects are merged by keys such as a name. A list of
    objects without a name, and a list of plain values, have to be of the same length. The API server drops empty
    values.
    """
    if isinstance(wanted, dict):
        return isinstance(live or {}, dict) and all(
            covers((live or {}).get(key), value) for key, value in wanted.items()
        )
    if not isinstance(wanted, list):
        return bool(live == wanted)
    found = live or []
    if not all(isinstance(item, dict) for item in wanted):
        return bool(found == wanted)
    named = all("name" in item for item in wanted)
    return (named or len(found) == len(wanted)) and all(any(covers(one, item) for one in found) for item in wanted)


def _step(owner: Owner, manifest: Manifest, seen: Seen, missing: Collection[str]) -> Step:
    key, wanted = key_of(manifest), stamped(manifest)
    if key.kind in missing:
        return Refuse(unknown_kind(key))
    child = seen.children.get(key)
    refusal = seen.refused.get(key)
    if child is not None and child.owner_uid != owner.uid:
        return Refuse(name_conflict(key, owner.kind))
    if child is not None and (child.terminating or _is_as_wanted(child, wanted)):
        return Keep(key)
    if refusal is not None and refusal.manifest_hash == stamp_of(wanted):
        return Refuse(refusal.fault)
    return Create(wanted) if child is None else Apply(wanted)


def _is_as_wanted(child: Child, wanted: Manifest) -> bool:
    """Tell whether a child was applied from this manifest and still says it."""
    if child.applied_hash != stamp_of(wanted):
        return False
    return child.accepted == child.content or (child.unjudged is not None and covers(child.unjudged, wanted))


def _deletions(owner: Owner, children: Iterable[Child], prune: Collection[str]) -> list[Delete]:
    return [
        Delete(child.key, child.uid)
        for child in children
        if child.key.kind in prune and child.owner_uid == owner.uid and not child.terminating
    ]
