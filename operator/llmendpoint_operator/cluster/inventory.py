"""What exists in the cluster, as the watches last showed it. Reconciles read from here and not from the API server.

Of our own resources, the inventory keeps the last body. Of a child it keeps its identity, a digest of its content and
the hash of what the operator last applied, and of the rest only the field that a reconcile reads (`Kind.keeps`).

A child is *as we left it* if its content has the digest that our last write returned. If somebody changed it, or if it
was listed at the start of the operator, nobody knows whether it still says what we applied. Its whole body is then kept
until the next plan has compared it with the manifest: `Child.unjudged`.

Three things make an owner dirty: a new or deleted child, changed content of a child, and a change of the field that
reconciles read. The event of our own write changes none of these, because the write's response is already known here.
Events may also arrive late, when a newer version is known from a response. They are recognised by resourceVersion,
which Kubernetes documents as comparable numbers (KEP-5504).
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from llmendpoint_common.contracts.cluster import (
    API_VERSION,
    COMPONENT_LABEL,
    ENDPOINT_LABEL,
    GROUP,
    LLMENDPOINT,
    LOADTEST,
    LOADTEST_LABEL,
)
from llmendpoint_operator.cluster.keys import ChildKey, Key
from llmendpoint_operator.cluster.kinds import KINDS, Role
from llmendpoint_operator.kube.fault import Fault
from llmendpoint_operator.kube.owner import Manifest

#: Annotation of a child with the hash of the manifest that was applied last. It survives restarts of the operator.
HASH_ANNOTATION = f"{GROUP}/applied-hash"
#: Component label of the ConfigMap that takes the result of a load run: the only one whose data is read.
RESULT_COMPONENT = "result"

_OWNER_LABELS = {ENDPOINT_LABEL: LLMENDPOINT, LOADTEST_LABEL: LOADTEST}
_KEPT_METADATA = ("name", "namespace", "uid", "generation", "labels", "deletionTimestamp")
_CONTENT_METADATA = ("labels", "annotations", "ownerReferences")
_FIRST_RETRY_SECONDS = 2.0
_LAST_RETRY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Child:
    """A child as it is in the cluster.

    `owner_uid` is the UID of its controller. `content` is the digest of all that is not status, and `accepted` the
    digest that a plan found to be what the owner wants. `unjudged` is the whole body until the two agree.
    """

    key: ChildKey
    uid: str
    version: int
    generation: int
    owner_uid: str
    applied_hash: str
    content: str
    terminating: bool
    body: Manifest
    accepted: str = ""
    unjudged: Manifest | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A write that was refused. It is not tried again before `until` (monotonic), unless the manifest changes."""

    fault: Fault
    manifest_hash: str
    attempts: int
    until: float


@dataclass(frozen=True)
class Seen:
    """What a plan needs to know of one owner: its children, and the refusals whose time has not come."""

    children: Mapping[ChildKey, Child]
    refused: Mapping[ChildKey, Refusal]


class Inventory:
    """The objects that the watches and the responses of our own writes have shown."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._resources: dict[Key, Manifest] = {}
        self._children: dict[Key, dict[ChildKey, Child]] = {}
        self._places: dict[str, tuple[Key, ChildKey]] = {}
        self._refusals: dict[Key, dict[ChildKey, Refusal]] = {}
        self._unlisted: set[str] = set()
        #: Whether the watches have listed every kind; until then, an object that is not here may exist.
        self.complete = False

    # What reconciles read.

    def resource(self, key: Key) -> Manifest | None:
        """Return one of our resources, without its managedFields."""
        return self._resources.get(key)

    def resources(self) -> tuple[Key, ...]:
        """Return the keys of all our resources."""
        return tuple(self._resources)

    def seen(self, key: Key) -> Seen:
        """Return what a plan needs to know of an owner."""
        now = self._clock()
        waiting = {child: refusal for child, refusal in self._refusals.get(key, {}).items() if refusal.until > now}
        return Seen(dict(self._children.get(key, {})), waiting)

    def child(self, key: Key, kind: str, name: str) -> Child | None:
        """Return a child of an owner."""
        return self._children.get(key, {}).get(ChildKey(kind, name))

    def pods(self, key: Key, component: str) -> list[Manifest]:
        """Return the pods of an owner that have this component label, in the order of their names."""
        bodies = [child.body for name, child in sorted(self._children.get(key, {}).items()) if name.kind == "Pod"]
        return [body for body in bodies if body["metadata"].get("labels", {}).get(COMPONENT_LABEL) == component]

    def seconds_to_retry(self, key: Key) -> float | None:
        """Return in how many seconds the next refused child is tried again; None if no child waits for that."""
        now = self._clock()
        times = [refusal.until - now for refusal in self._refusals.get(key, {}).values()]
        return min((seconds for seconds in times if seconds > 0), default=None)

    # What the watches show. Each returns the owner that is dirty now, if any.

    def shows(self, kind: str, body: Manifest) -> Key | None:
        """Take an object as the watch shows it."""
        uid = body["metadata"]["uid"]
        self._unlisted.discard(uid)
        if KINDS[kind].role is Role.RESOURCE:
            return self._shows_resource(kind, body)
        key = owner_key(body)
        if key is None:
            return self.gone(kind, body)
        name = ChildKey(kind, body["metadata"]["name"])
        known = self._known(uid)
        if known is not None and known.version >= _version(body):
            return None
        self._place(key, _judged(known, _child(name, body), body))
        return key if known is None or _is_news(known, self._children[key][name]) else None

    def gone(self, kind: str, body: Manifest) -> Key | None:
        """Take the deletion of an object."""
        uid = body["metadata"]["uid"]
        self._unlisted.discard(uid)
        if KINDS[kind].role is not Role.RESOURCE:
            return self._remove(uid)
        key = Key(kind, body["metadata"]["namespace"], body["metadata"]["name"])
        known = self._resources.get(key)
        if known is None or known["metadata"]["uid"] != uid:
            return None
        self.forget(key)
        return key

    def begin_listing(self) -> None:
        """Expect every object to be shown again: what is not shown until `end_listing` no longer exists."""
        self.complete = False
        bodies = self._resources.values()
        self._unlisted = {*self._places, *(body["metadata"]["uid"] for body in bodies)}

    def end_listing(self) -> set[Key]:
        """Remove what the listing did not show, and return the owners that are dirty now."""
        self.complete = True
        gone, self._unlisted = self._unlisted, set()
        resources = {key for key, body in self._resources.items() if body["metadata"]["uid"] in gone}
        for key in resources:
            self.forget(key)
        owners = {self._remove(uid) for uid in gone}
        return resources | {key for key in owners if key is not None}

    # What our own writes did.

    def wrote_child(self, key: Key, body: Manifest) -> None:
        """Take the response of a write of a child: its content is accepted."""
        name = ChildKey(body["kind"], body["metadata"]["name"])
        self._unlisted.discard(body["metadata"]["uid"])
        self._refusals.get(key, {}).pop(name, None)
        written = _child(name, body)
        known = self._known(written.uid)
        # If the watch was faster with somebody else's change, the newer body stays to be judged.
        newest = known if known is not None and known.version > written.version else written
        self._place(key, replace(newest, accepted=written.content))

    def wrote_resource(self, body: Manifest) -> None:
        """Take the response of a write of one of our resources."""
        self._unlisted.discard(body["metadata"]["uid"])
        self._shows_resource(body["kind"], body)

    def accept(self, key: Key, name: ChildKey) -> None:
        """Take the judgement of a plan: the child says what its owner wants."""
        self._refusals.get(key, {}).pop(name, None)
        child = self._children.get(key, {}).get(name)
        if child is not None and child.accepted != child.content:
            self._children[key][name] = replace(child, accepted=child.content, unjudged=None)

    def accept_all(self, key: Key) -> None:
        """Take that no plan will judge the children of an owner: it is gone, or leaves its children alone."""
        for name in tuple(self._children.get(key, {})):
            self.accept(key, name)

    def deleting(self, key: Key, name: ChildKey) -> None:
        """Take our own deletion of a child, until the watch shows that it is gone."""
        child = self._children.get(key, {}).get(name)
        if child is not None:
            self._children[key][name] = replace(child, terminating=True)

    def refused(self, key: Key, name: ChildKey, manifest_hash: str, fault: Fault) -> None:
        """Take a refused write. Each further refusal of the same manifest doubles the time until the next try."""
        refusals = self._refusals.setdefault(key, {})
        last = refusals.get(name)
        attempts = last.attempts + 1 if last is not None and last.manifest_hash == manifest_hash else 1
        pause = min(_LAST_RETRY_SECONDS, _FIRST_RETRY_SECONDS * 2 ** min(attempts - 1, 10))
        until = self._clock() + max(pause, fault.retry_after or 0.0)
        refusals[name] = Refusal(fault, manifest_hash, attempts, until)

    def keep_refusals(self, key: Key, names: Iterable[ChildKey]) -> None:
        """Forget the refusals of children that are no longer desired."""
        wanted = set(names)
        kept = {name: refusal for name, refusal in self._refusals.get(key, {}).items() if name in wanted}
        if kept:
            self._refusals[key] = kept
        else:
            self._refusals.pop(key, None)

    def forget(self, key: Key) -> None:
        """Forget one of our resources; its children go when the watch shows that they are gone."""
        self._resources.pop(key, None)
        self._refusals.pop(key, None)

    def _shows_resource(self, kind: str, body: Manifest) -> Key | None:
        key = Key(kind, body["metadata"]["namespace"], body["metadata"]["name"])
        known = self._resources.get(key)
        same = known is not None and known["metadata"]["uid"] == body["metadata"]["uid"]
        if known is not None and same and _version(known) >= _version(body):
            return None
        lean = _without_managed_fields(body)
        self._resources[key] = lean
        return None if known is not None and same and _wanted(known) == _wanted(lean) else key

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

    def _remove(self, uid: str) -> Key | None:
        place = self._places.pop(uid, None)
        if place is None:
            return None
        key, name = place
        self._children[key].pop(name, None)
        if not self._children[key]:
            del self._children[key]
        return key


def hash_of(manifest: Manifest) -> str:
    """Return the hash of a manifest, the same for the same content in any order."""
    return _digest(manifest)


def controller_uid(body: Manifest) -> str:
    """Return the UID of an object's controller, empty if it has none."""
    references = body["metadata"].get("ownerReferences") or []
    return next((str(reference["uid"]) for reference in references if reference.get("controller")), "")


def owner_key(body: Manifest) -> Key | None:
    """Return the resource that an object belongs to: its controller if that is one of ours, else by its labels.

    The labels are those of pods, whose controller is a StatefulSet or a Job, and of other people's objects.
    """
    metadata = body["metadata"]
    for reference in metadata.get("ownerReferences") or []:
        if reference.get("controller") and reference["apiVersion"] == API_VERSION:
            return Key(reference["kind"], metadata["namespace"], reference["name"])
    labels = metadata.get("labels") or {}
    for label, kind in _OWNER_LABELS.items():
        if labels.get(label):
            return Key(kind, metadata["namespace"], labels[label])
    return None


def _child(name: ChildKey, body: Manifest) -> Child:
    metadata = body["metadata"]
    return Child(
        key=name,
        uid=metadata["uid"],
        version=_version(body),
        generation=metadata.get("generation", 0),
        owner_uid=controller_uid(body),
        applied_hash=(metadata.get("annotations") or {}).get(HASH_ANNOTATION, ""),
        content=_content(body),
        terminating=bool(metadata.get("deletionTimestamp")),
        body=_kept(name.kind, body),
    )


def _judged(known: Child | None, child: Child, body: Manifest) -> Child:
    """Return a child with the judgement about the same content, or with its body for the next plan to judge."""
    if KINDS[child.key.kind].role is not Role.CHILD:
        return child
    if known is not None and known.accepted == child.content:
        return replace(child, accepted=known.accepted)
    return replace(child, unjudged=_without_managed_fields(body))


def _is_news(known: Child, child: Child) -> bool:
    if KINDS[child.key.kind].role is Role.CHILD and known.content != child.content:
        return True
    return known.body != child.body


def _kept(kind: str, body: Manifest) -> Manifest:
    """Return what reconciles read of a child or a pod."""
    metadata = {name: body["metadata"][name] for name in _KEPT_METADATA if name in body["metadata"]}
    field = KINDS[kind].keeps
    is_read = kind != "ConfigMap" or metadata.get("labels", {}).get(COMPONENT_LABEL) == RESULT_COMPONENT
    return {"metadata": metadata, **({field: body[field]} if is_read and field in body else {})}


def _content(body: Manifest) -> str:
    """Return the digest of the part of an object that its owner decides on: without status and versions."""
    metadata = {name: body["metadata"].get(name) for name in _CONTENT_METADATA}
    rest = {name: value for name, value in body.items() if name not in ("apiVersion", "kind", "metadata", "status")}
    return _digest([metadata, rest])


def _wanted(resource: Manifest) -> list[Any]:
    """Return what makes a change of one of our resources a reason to reconcile it."""
    metadata = resource["metadata"]
    names = ("generation", "deletionTimestamp", "labels", "annotations")
    return [resource.get("status"), *(metadata.get(name) for name in names)]


def _without_managed_fields(body: Manifest) -> Manifest:
    """Return a body without the part that is often larger than all others."""
    metadata = {name: value for name, value in body["metadata"].items() if name != "managedFields"}
    return {**body, "metadata": metadata}


def _digest(value: Any) -> str:
    text = msgspec.json.encode(value, order="deterministic")
    return hashlib.blake2b(text, digest_size=12).hexdigest()


def _version(body: Manifest) -> int:
    return int(body["metadata"]["resourceVersion"])
