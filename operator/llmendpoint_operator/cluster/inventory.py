"""The objects in the cluster, as the watches last showed them. Reconciles read them here, not from the API server.

The inventory keeps the last body of each of our own resources. Of a child, it keeps the identity, a digest of the
content, the hash of the manifest that the operator last applied, and the fields that reconciles read (`Kind.keeps`).

The content of a child is *accepted* if it is the result of our last write, or if a plan found it up to date. If another
client changes the child, or if the operator has just started, the child may not match its manifest. The inventory then
keeps the complete body (`Child.unjudged`) until the next plan has compared it with the manifest.

A watch reports a child from which somebody has removed our label as deleted. Therefore, a child that a watch no longer
shows stays as it was last seen, and is `unshown` until a reconcile has read it by its name.

Three things make an owner dirty: a new or deleted child, changed content of a child, and a change of the fields that
reconciles read. The event of our own write is none of these, because the response to the write was recorded before.
Events can arrive late, after a response has shown a newer version. They are recognized by their resourceVersion:
Kubernetes documents that resourceVersions can be compared as numbers (KEP-5504).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from llmendpoint_operator.cluster.keys import ChildKey, Key
from llmendpoint_operator.cluster.kinds import KINDS, Role
from llmendpoint_operator.cluster.snapshots import (
    HASH_ANNOTATION,
    RESULT_COMPONENT,
    Child,
    Resource,
    child_of,
    decoded,
    hash_of,
    is_news,
    judged,
    owner_key,
    resource_of,
    version_of,
)
from llmendpoint_operator.cluster.unshown import Unshown
from llmendpoint_operator.cluster.warning_events import WarningEvent, Warnings
from llmendpoint_operator.kube.fault import Fault
from llmendpoint_operator.kube.owner import Manifest
from llmendpoint_operator.kube.scraping import PrometheusServer, server_of
from llmendpoint_operator.kube.unwatched import Unwatched

__all__ = ["HASH_ANNOTATION", "RESULT_COMPONENT", "Child", "Inventory", "Refusal", "Seen", "hash_of", "owner_key"]

_FIRST_RETRY_SECONDS = 2.0
_LAST_RETRY_SECONDS = 60.0
_MAX_DELETED = 4096


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refused write. It is not retried before `until` (monotonic seconds), unless the manifest changes."""

    fault: Fault
    manifest_hash: str
    attempts: int
    until: float


class Listing(NamedTuple):
    """The objects of a kind in a namespace, or in all namespaces if `scope` is empty."""

    kind: str
    scope: str


@dataclass(frozen=True)
class Seen:
    """The input of a plan for one owner: its children, and the refused writes that must not be retried yet."""

    children: Mapping[ChildKey, Child]
    refused: Mapping[ChildKey, Refusal]


class Inventory:
    """The objects in the cluster, from the watches and from the responses to our own writes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._resources: dict[Key, Resource] = {}
        self._children: dict[Key, dict[ChildKey, Child]] = {}
        self._places: dict[str, tuple[Key, ChildKey]] = {}
        self._refusals: dict[Key, dict[ChildKey, Refusal]] = {}
        #: Children that wait for a retry since the last plan.
        self._waiting: dict[Key, set[ChildKey]] = {}
        #: The objects that the present listing of a kind in a scope has not shown yet.
        self._unlisted: dict[Listing, set[str]] = {}
        self._listed: set[Listing] = set()
        self._unwatched: dict[Listing, Unwatched] = {}
        self._unshown = Unshown()
        self._warnings = Warnings()
        self._prometheus_servers: dict[str, PrometheusServer] = {}
        #: The last versions of objects that were deleted recently, by UID.
        self._deleted: dict[str, int] = {}

    # Methods for reconciles.

    def resource(self, key: Key) -> Manifest | None:
        """Return one of our resources without its managedFields, or None if it does not exist."""
        found = self._resources.get(key)
        return decoded(found.body) if found else None

    def resources(self) -> tuple[Key, ...]:
        """Return the keys of all our resources."""
        return tuple(self._resources)

    def seen(self, key: Key) -> Seen:
        """Return the input of a plan for an owner."""
        now = self._clock()
        waiting = {child: refusal for child, refusal in self._refusals.get(key, {}).items() if refusal.until > now}
        return Seen(dict(self._children.get(key, {})), waiting)

    def child(self, key: Key, kind: str, name: str) -> Child | None:
        """Return the object with the name of a child, whoever controls it, or None if it does not exist."""
        return self._children.get(key, {}).get(ChildKey(kind, name))

    def own_child(self, key: Key, kind: str, name: str, owner_uid: str) -> Child | None:
        """Return a child that the owner with this UID controls, or None if it does not exist."""
        child = self.child(key, kind, name)
        return child if child is not None and child.owner_uid == owner_uid else None

    def unshown(self, key: Key) -> tuple[ChildKey, ...]:
        """Return the children that no watch shows any more, and that may exist: they have to be read."""
        return self._unshown.of(key)

    def is_unshown(self, key: Key, name: ChildKey) -> bool:
        """Return whether no watch shows a child, although it may exist."""
        return self._unshown.has(key, name)

    def pods(self, key: Key, *controller_uids: str) -> list[Manifest]:
        """Return the pods that the StatefulSet or Job with one of these UIDs controls, sorted by name.

        Labels alone do not make a pod ours: whoever creates a pod chooses its labels. The UID of a pod without a
        controller is empty.
        """
        return [child.body for child in self._of_kind(key, "Pod") if child.owner_uid in controller_uids]

    def claims(self, key: Key) -> list[Manifest]:
        """Return the claims with the label of an endpoint, sorted by name."""
        return [child.body for child in self._of_kind(key, "PersistentVolumeClaim")]

    def is_listed(self, kind: str, namespace: str) -> bool:
        """Return whether all objects of a kind in a namespace are known. If not, others may exist."""
        return Listing(kind, namespace) in self._listed or Listing(kind, "") in self._listed

    def unwatched(self, namespace: str, kinds: Iterable[str]) -> tuple[Unwatched, ...]:
        """Return which of these kinds the operator may not watch in a namespace, in the order of the kinds.

        The inventory has them as they were last seen. Kinds that the cluster does not have are not among them.
        """
        if not self._unwatched:
            return ()
        listings = (Listing(kind, scope) for kind in kinds for scope in ("", namespace))
        return tuple(self._unwatched[listing] for listing in listings if listing in self._unwatched)

    def warnings(self, key: Key) -> list[WarningEvent]:
        """Return the newest Warning Events about the children, pods and claims of an owner, newest first."""
        return self._warnings.of(key)

    def seconds_to_retry(self, key: Key) -> float | None:
        """Return the number of seconds until the next retry of a refused child, or None if no child is waiting.

        It is 0 if the retry became due after the last plan. A refusal that was due before that plan does not count:
        the plan retried the write, or found that it would be refused again.
        """
        refusals, waiting = self._refusals.get(key, {}), self._waiting.get(key, set())
        now = self._clock()
        times = [refusal.until - now for name, refusal in refusals.items() if name in waiting]
        return max(0.0, min(times)) if times else None

    def prometheus_servers(self) -> list[PrometheusServer] | None:
        """Return the Prometheus servers of the cluster, or None if the operator cannot watch them."""
        return list(self._prometheus_servers.values()) if self.is_listed("Prometheus", "") else None

    # Methods for the watches. They return the owners that have become dirty.

    def shows(self, kind: str, body: Manifest) -> Key | None:
        """Record an object from a listing or a watch."""
        uid = body["metadata"]["uid"]
        self._confirm(kind, body)
        if self._is_late(body):
            return None
        role = KINDS[kind].role
        if role is Role.RESOURCE:
            return self._shows_resource(kind, body)
        if role is Role.REPORTED:
            return self._warnings.add(body, self._owner_of)
        if role is Role.CONSULTED:
            self._prometheus_servers[uid] = server_of(body)
            return None
        return self._shows_child(kind, body)

    def gone(self, kind: str, body: Manifest) -> Key | None:
        """Record the deletion of an object, or that it is no longer ours. Late responses do not bring it back."""
        uid = body["metadata"]["uid"]
        self._confirm(kind, body)
        self._deleted[uid] = version_of(body)
        while len(self._deleted) > _MAX_DELETED:
            del self._deleted[next(iter(self._deleted))]
        role = KINDS[kind].role
        if role is Role.REPORTED:
            return self._warnings.remove(uid)
        if role is Role.CONSULTED:
            self._prometheus_servers.pop(uid, None)
            return None
        if role is not Role.RESOURCE:
            return self._left(uid)
        key = Key(kind, body["metadata"]["namespace"], body["metadata"]["name"])
        known = self._resources.get(key)
        if known is None or known.uid != uid:
            return None
        self.forget(key)
        return key

    def begin_listing(self, kind: str, scope: str = "") -> None:
        """Start a listing of a kind in a namespace, or in all namespaces if `scope` is empty.

        `end_listing` removes the objects that are not shown until then.
        """
        listing = Listing(kind, scope)
        self._listed.discard(listing)
        self._unlisted[listing] = set(self._uids(listing))

    def end_listing(self, kind: str, scope: str = "") -> set[Key]:
        """Remove the objects that the listing did not contain, and return the owners that have become dirty."""
        listing = Listing(kind, scope)
        self._listed.add(listing)
        self._unwatched.pop(listing, None)
        return self._drop(kind, self._unlisted.pop(listing, set()))

    def lose(self, kind: str, scope: str = "", trouble: str = "") -> None:
        """Record that a kind cannot be watched in a scope. Our resources of the kind are forgotten until it can be.

        Children stay in the inventory as they were last seen. `trouble` is the refusal of the API server, or empty if
        the cluster does not have the kind.
        """
        listing = Listing(kind, scope)
        self._listed.discard(listing)
        if trouble:
            self._unwatched[listing] = Unwatched(kind, scope, trouble)
        self._unlisted.pop(listing, None)
        if KINDS[kind].role is Role.RESOURCE:
            self._drop(kind, set(self._uids(listing)))

    # Methods for the results of our own requests.

    def found(self, key: Key, body: Manifest) -> None:
        """Record a child that was read by its name because no watch shows it. It has to be read again later."""
        name, uid = ChildKey(body["kind"], body["metadata"]["name"]), body["metadata"]["uid"]
        # The event that an object leaves a selector has the version of the object itself. A deletion has a newer one.
        if version_of(body) < self._deleted.get(uid, -1):
            return
        known = self._known(uid)
        if known is None or known.version < version_of(body):
            self._place(key, judged(known, child_of(name, body), body))
        self._unshown.add(key, name)

    def missing(self, key: Key, name: ChildKey) -> None:
        """Record that a child which was read by its name does not exist."""
        child = self.child(key, *name)
        if child is not None and self._unshown.has(key, name):
            self._remove(child.uid)
        self._unshown.discard(key, name)

    def wrote_child(self, key: Key, body: Manifest) -> None:
        """Record the response to a write of a child. Its content is accepted."""
        name = ChildKey(body["kind"], body["metadata"]["name"])
        self._confirm(body["kind"], body)
        self._refusals.get(key, {}).pop(name, None)
        if self._is_late(body):
            return
        written = child_of(name, body)
        known = self._known(written.uid)
        # If the watch has already shown a newer change of another client, the next plan has to compare that body.
        newest = known if known is not None and known.version > written.version else written
        self._place(key, replace(newest, accepted=written.content))
        self._unshown.discard(key, name)

    def wrote_resource(self, body: Manifest) -> None:
        """Record the response to a write of one of our resources."""
        self._confirm(body["kind"], body)
        if not self._is_late(body):
            self._shows_resource(body["kind"], body)

    def accept(self, key: Key, name: ChildKey) -> None:
        """Record that a plan found the child up to date."""
        self._refusals.get(key, {}).pop(name, None)
        child = self._children.get(key, {}).get(name)
        if child is not None and child.accepted != child.content:
            self._children[key][name] = replace(child, accepted=child.content, complete=b"")

    def set_aside(self, key: Key) -> None:
        """Drop the bodies of children that no plan compares now, because their owner is deleted or cannot be applied.

        If a later plan compares such a child after all, it is applied again, because somebody may have changed it.
        """
        self._refusals.pop(key, None)
        for name, child in tuple(self._children.get(key, {}).items()):
            if child.complete:
                self._children[key][name] = replace(child, complete=b"")

    def deleting(self, key: Key, name: ChildKey) -> None:
        """Record that the operator has deleted a child, until the watch shows that it no longer exists."""
        child = self._children.get(key, {}).get(name)
        if child is not None:
            self._children[key][name] = replace(child, terminating=True)

    def refused(self, key: Key, name: ChildKey, manifest_hash: str, fault: Fault) -> None:
        """Record a refused write. The delay before the next attempt doubles with each refusal of the same manifest."""
        refusals = self._refusals.setdefault(key, {})
        last = refusals.get(name)
        attempts = last.attempts + 1 if last is not None and last.manifest_hash == manifest_hash else 1
        pause = min(_LAST_RETRY_SECONDS, _FIRST_RETRY_SECONDS * 2 ** min(attempts - 1, 10))
        until = self._clock() + max(pause, fault.retry_after or 0.0)
        refusals[name] = Refusal(fault, manifest_hash, attempts, until)
        self._waiting.setdefault(key, set()).add(name)

    def postponed(self, key: Key, names: Iterable[ChildKey]) -> None:
        """Record the refused children whose retry is not yet due for the plan that begins."""
        self._waiting[key] = set(names)

    def keep_refusals(self, key: Key, names: Iterable[ChildKey]) -> None:
        """Forget the refused writes of all children except these. Those of claims, which are not children, stay."""
        wanted = set(names)
        refusals = self._refusals.get(key, {}).items()
        kept = {
            name: refusal for name, refusal in refusals if name in wanted or KINDS[name.kind].role is not Role.CHILD
        }
        if kept:
            self._refusals[key] = kept
        else:
            self._refusals.pop(key, None)
            self._waiting.pop(key, None)

    def forget(self, key: Key) -> None:
        """Forget one of our resources. Its children are removed when the watch shows that they no longer exist."""
        for name in self._unshown.of(key):
            self.missing(key, name)
        self._resources.pop(key, None)
        self._refusals.pop(key, None)
        self._waiting.pop(key, None)

    def _shows_child(self, kind: str, body: Manifest) -> Key | None:
        key = owner_key(body)
        if key is None:
            return self.gone(kind, body)
        name = ChildKey(kind, body["metadata"]["name"])
        known = self._known(body["metadata"]["uid"])
        self._unshown.discard(key, name)
        if known is not None and known.version >= version_of(body):
            return None
        self._place(key, judged(known, child_of(name, body), body))
        return key if known is None or is_news(known, self._children[key][name]) else None

    def _shows_resource(self, kind: str, body: Manifest) -> Key | None:
        key = Key(kind, body["metadata"]["namespace"], body["metadata"]["name"])
        known = self._resources.get(key)
        shown = resource_of(body)
        same = known is not None and known.uid == shown.uid
        if known is not None and same and known.version >= shown.version:
            return None
        self._resources[key] = shown
        return None if known is not None and same and known.wanted == shown.wanted else key

    def _of_kind(self, key: Key, kind: str) -> list[Child]:
        """Return the objects of a kind that belong to an owner, sorted by name."""
        found = (child for name, child in self._children.get(key, {}).items() if name.kind == kind)
        return sorted(found, key=lambda child: child.key.name)

    def _uids(self, listing: Listing) -> Iterable[str]:
        """Return the UIDs of all known objects of a kind in a scope."""
        kind, scope = listing
        role = KINDS[kind].role
        if role is Role.REPORTED:
            return self._warnings.uids(scope)
        if role is Role.CONSULTED:
            return tuple(self._prometheus_servers)
        if role is Role.RESOURCE:
            found = (item for item in self._resources.items() if item[0].kind == kind)
            return [resource.uid for key, resource in found if scope in ("", key.namespace)]
        places = self._places.items()
        return [uid for uid, (key, name) in places if name.kind == kind and scope in ("", key.namespace)]

    def _drop(self, kind: str, uids: set[str]) -> set[Key]:
        """Remove the objects with these UIDs, and return the owners that have become dirty."""
        role = KINDS[kind].role
        if role is Role.CONSULTED:
            for uid in uids:
                self._prometheus_servers.pop(uid, None)
            return set()
        if role is not Role.RESOURCE:
            owners = {self._warnings.remove(uid) if role is Role.REPORTED else self._left(uid) for uid in uids}
            return {key for key in owners if key is not None}
        gone = {key for key, resource in self._resources.items() if key.kind == kind and resource.uid in uids}
        for key in gone:
            self.forget(key)
        return gone

    def _confirm(self, kind: str, body: Manifest) -> None:
        """Record that a present listing does not have to show this object any more."""
        if self._unlisted:
            for scope in ("", body["metadata"]["namespace"]):
                self._unlisted.get(Listing(kind, scope), set()).discard(body["metadata"]["uid"])

    def _is_late(self, body: Manifest) -> bool:
        return version_of(body) <= self._deleted.get(body["metadata"]["uid"], -1)

    def _owner_of(self, uid: str) -> Key | None:
        place = self._places.get(uid)
        return place[0] if place else None

    def _known(self, uid: str) -> Child | None:
        place = self._places.get(uid)
        return self._children[place[0]][place[1]] if place else None

    def _place(self, key: Key, child: Child) -> None:
        before = self._places.get(child.uid)
        if before is not None and before != (key, child.key):
            self._remove(child.uid)
        replaced = self._children.setdefault(key, {}).get(child.key)
        if replaced is not None and replaced.uid != child.uid:
            self._places.pop(replaced.uid, None)
        self._children[key][child.key] = child
        self._places[child.uid] = (key, child.key)

    def _left(self, uid: str) -> Key | None:
        """Remove an object that no watch shows any more.

        A child whose deletion was not known stays as it was last seen until it has been read, because it may exist.
        """
        child, place = self._known(uid), self._places.get(uid)
        if child is None or place is None or place[0] not in self._resources:
            return self._remove(uid)
        if KINDS[child.key.kind].role is not Role.CHILD or child.terminating:
            return self._remove(uid)
        self._unshown.add(*place)
        return place[0]

    def _remove(self, uid: str) -> Key | None:
        place = self._places.pop(uid, None)
        if place is None:
            return None
        key, name = place
        self._unshown.discard(key, name)
        self._children[key].pop(name, None)
        if not self._children[key]:
            del self._children[key]
        return key
