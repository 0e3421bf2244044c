"""The object whose children are built: what its builders need to know of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from llmendpoint_common.contracts.cluster import API_VERSION

Manifest: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Owner:
    """An LLMEndpoint or a LoadTest."""

    kind: str
    namespace: str
    name: str
    uid: str

    def reference(self) -> Manifest:
        """Return the controller owner reference: what lets the cluster delete children without the operator."""
        return {
            "apiVersion": API_VERSION,
            "kind": self.kind,
            "name": self.name,
            "uid": self.uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }

    def metadata(self, name: str, labels: dict[str, str], annotations: dict[str, str] | None = None) -> Manifest:
        """Return the metadata of a child."""
        metadata = {
            "name": name,
            "namespace": self.namespace,
            "labels": labels,
            "ownerReferences": [self.reference()],
        }
        return {**metadata, "annotations": annotations} if annotations else metadata


def owner_of(manifest: Manifest) -> Owner:
    """Return the owner that an object of the API is."""
    metadata = manifest["metadata"]
    return Owner(manifest["kind"], metadata["namespace"], metadata["name"], metadata["uid"])


def is_controlled_by(manifest: Manifest, owner: Owner) -> bool:
    """Tell whether an object is this owner's child, by UID."""
    references = manifest.get("metadata", {}).get("ownerReferences") or []
    return any(reference.get("controller") and reference.get("uid") == owner.uid for reference in references)
