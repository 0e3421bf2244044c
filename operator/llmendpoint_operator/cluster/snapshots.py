"""Objects as the inventory keeps them: identity, digests, and the parts of bodies that reconciles read.

Bodies are kept as JSON: a body as dicts takes several times the memory, and an operator that starts has the complete
bodies of all children until plans have judged them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from llmendpoint_common.contracts.cluster import API_VERSION, COMPONENT_LABEL, GROUP
from llmendpoint_operator.cluster.keys import ChildKey, Key
from llmendpoint_operator.cluster.kinds import KINDS, Role
from llmendpoint_operator.kube.owner import OWNER_LABELS, Manifest, controller_uid

#: Annotation of a child: the hash of the manifest that was last applied. It survives restarts of the operator.
HASH_ANNOTATION = f"{GROUP}/applied-hash"
#: Component label of the ConfigMap with the result of a load run. It is the only ConfigMap whose data is kept.
RESULT_COMPONENT = "result"

_KEPT_METADATA = ("name", "namespace", "uid", "generation", "labels", "deletionTimestamp")
_CONTENT_METADATA = ("labels", "annotations", "ownerReferences", "finalizers")


@dataclass(frozen=True, slots=True)
class Child:
    """A child as it is in the cluster.

    `owner_uid` is the UID of its controller. `content` is the digest of its content, and `accepted` is the digest of
    the content that was last accepted. While the two differ, `unjudged` is the complete body.
    """

    key: ChildKey
    uid: str
    version: int
    generation: int
    owner_uid: str
    applied_hash: str
    content: str
    terminating: bool
    kept: bytes
    accepted: str = ""
    complete: bytes = b""

    @property
    def body(self) -> Manifest:
        """The metadata, and the fields that reconciles read."""
        return decoded(self.kept)

    @property
    def unjudged(self) -> Manifest | None:
        """The complete body until a plan has compared it, then None."""
        return decoded(self.complete) if self.complete else None


@dataclass(frozen=True, slots=True)
class Resource:
    """One of our resources. `wanted` is the digest of the fields whose change makes it dirty."""

    uid: str
    version: int
    wanted: str
    body: bytes


def hash_of(manifest: Manifest) -> str:
    """Return the hash of a manifest. It does not depend on the order of fields."""
    return _digest(manifest)


def owner_key(body: Manifest) -> Key | None:
    """Return the key of the resource to which an object belongs, or None.

    If the controller of the object is one of our resources, it is the owner. Otherwise, the labels name the owner. This
    applies to pods, whose controller is a StatefulSet or a Job, and to objects of others that have our labels.
    """
    metadata = body["metadata"]
    for reference in metadata.get("ownerReferences") or []:
        if reference.get("controller") and reference["apiVersion"] == API_VERSION:
            return Key(reference["kind"], metadata["namespace"], reference["name"])
    labels = metadata.get("labels") or {}
    for kind, label in OWNER_LABELS.items():
        if labels.get(label):
            return Key(kind, metadata["namespace"], labels[label])
    return None


def child_of(name: ChildKey, body: Manifest) -> Child:
    """Return an object as a child, with its content not yet accepted."""
    metadata = body["metadata"]
    return Child(
        key=name,
        uid=metadata["uid"],
        version=version_of(body),
        generation=metadata.get("generation", 0),
        owner_uid=controller_uid(body),
        applied_hash=(metadata.get("annotations") or {}).get(HASH_ANNOTATION, ""),
        content=_content(body),
        terminating=bool(metadata.get("deletionTimestamp")),
        kept=encoded(_kept(name.kind, body)),
    )


def judged(known: Child | None, child: Child, body: Manifest) -> Child:
    """Return a child as accepted if the same content was accepted before, otherwise with its body for the next plan."""
    if KINDS[child.key.kind].role is not Role.CHILD:
        return child
    if known is not None and known.accepted == child.content:
        return replace(child, accepted=known.accepted)
    return replace(child, complete=encoded(_without_managed_fields(body)))


def is_news(known: Child, child: Child) -> bool:
    """Return whether an object differs from the known one in a way that makes its owner dirty."""
    if KINDS[child.key.kind].role is Role.CHILD and known.content != child.content:
        return True
    return known.kept != child.kept


def _kept(kind: str, body: Manifest) -> Manifest:
    """Return the fields of a child or a pod that reconciles read: of a result, all metadata, and of others a part."""
    metadata, fields = body["metadata"], KINDS[kind].keeps
    is_result = kind == "ConfigMap" and (metadata.get("labels") or {}).get(COMPONENT_LABEL) == RESULT_COMPONENT
    if kind == "ConfigMap" and not is_result:
        fields = ()
    kept_names = (*_KEPT_METADATA, "creationTimestamp") if kind == "Pod" else _KEPT_METADATA
    names = [name for name in metadata if name in kept_names or (is_result and name != "managedFields")]
    kept = {"metadata": {name: metadata[name] for name in names}}
    for field in fields:
        _copy(body, kept, field.split("."))
    return kept


def _copy(source: Manifest, target: Manifest, path: Sequence[str]) -> None:
    """Copy the field at a path, if the source has it."""
    first, *rest = path
    if first not in source:
        return
    if rest:
        _copy(source[first], target.setdefault(first, {}), rest)
    else:
        target[first] = source[first]


def _content(body: Manifest) -> str:
    """Return the digest of an object's labels, annotations, owner references, and all fields except the status."""
    metadata = {name: body["metadata"].get(name) for name in _CONTENT_METADATA}
    rest = {name: value for name, value in body.items() if name not in ("apiVersion", "kind", "metadata", "status")}
    return _digest([metadata, rest])


def resource_of(body: Manifest) -> Resource:
    """Return one of our resources as it is kept."""
    metadata = body["metadata"]
    names = ("generation", "deletionTimestamp", "labels", "annotations")
    wanted = _digest([body.get("status"), *(metadata.get(name) for name in names)])
    return Resource(metadata["uid"], version_of(body), wanted, encoded(_without_managed_fields(body)))


def _without_managed_fields(body: Manifest) -> Manifest:
    """Return a body without managedFields, which are often larger than the rest."""
    metadata = {name: value for name, value in body["metadata"].items() if name != "managedFields"}
    return {**body, "metadata": metadata}


def encoded(value: Any) -> bytes:
    """Return a value as JSON with a fixed order of fields."""
    return msgspec.json.encode(value, order="deterministic")


def decoded(text: bytes) -> Manifest:
    """Return a body that was kept as JSON."""
    return dict(msgspec.json.decode(text))


def _digest(value: Any) -> str:
    text = encoded(value)
    return hashlib.blake2b(text, digest_size=12).hexdigest()


def version_of(body: Manifest) -> int:
    """Return the resourceVersion of an object. Versions can be compared."""
    return int(body["metadata"]["resourceVersion"])
