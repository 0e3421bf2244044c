"""The owner of children: its identity, and the metadata of its children."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from llmendpoint_common.contracts.cluster import (
    API_VERSION,
    COMPONENT_LABEL,
    ENDPOINT_LABEL,
    GROUP,
    INSTANCE_LABEL,
    LLMENDPOINT,
    LOADTEST,
    LOADTEST_LABEL,
    MANAGED_BY,
    MANAGED_BY_LABEL,
    NAME_LABEL,
)
from llmendpoint_operator.cluster.kinds import KINDS

Manifest: TypeAlias = dict[str, Any]

#: The label with the name of the owner, by the kind of the owner.
OWNER_LABELS = {LLMENDPOINT: ENDPOINT_LABEL, LOADTEST: LOADTEST_LABEL}


@dataclass(frozen=True)
class Owner:
    """Identity of an LLMEndpoint or a LoadTest."""

    kind: str
    namespace: str
    name: str
    uid: str

    def reference(self) -> Manifest:
        """Return the controller owner reference, by which Kubernetes garbage-collects the children."""
        return {
            "apiVersion": API_VERSION,
            "kind": self.kind,
            "name": self.name,
            "uid": self.uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }

    def child(
        self,
        kind: str,
        name: str,
        component: str,
        *,
        labels: dict[str, str] | None = None,
        annotations: dict[str, str] | None = None,
    ) -> Manifest:
        """Return a manifest with apiVersion, kind and metadata, but without spec or data.

        `kind` is the name of a kind in the table of kinds. `component` is the value of `app.kubernetes.io/component`,
        such as `endpoint` or `load`. The operator's own labels take precedence over `labels`. Labels from a spec have
        to pass through `without_reserved` first.
        """
        metadata: Manifest = {
            "name": name,
            "namespace": self.namespace,
            "labels": {**(labels or {}), **self.labels(component)},
            "ownerReferences": [self.reference()],
        }
        if annotations:
            metadata["annotations"] = annotations
        return {"apiVersion": KINDS[kind].api_version, "kind": kind, "metadata": metadata}

    def pod_labels(self, component: str, given: Mapping[str, str]) -> dict[str, str]:
        """Return the labels of pods: those of a spec, unless the operator reserves or sets them, and our own."""
        return {**without_reserved(given), **self.labels(component)}

    def labels(self, component: str) -> dict[str, str]:
        """Return the labels of a child and of its pods."""
        return {
            OWNER_LABELS[self.kind]: self.name,
            COMPONENT_LABEL: component,
            MANAGED_BY_LABEL: MANAGED_BY,
            NAME_LABEL: "llmendpoint",
            INSTANCE_LABEL: self.name,
        }


def without_reserved(labels: Mapping[str, str]) -> dict[str, str]:
    """Return the labels of a spec without those in our own domain, which select objects for the operator.

    The schema refuses them, but not in an object that was stored before it did.
    """
    return {name: value for name, value in labels.items() if not name.startswith(f"{GROUP}/")}


def owner_of(manifest: Manifest) -> Owner:
    """Return the identity of an LLMEndpoint or a LoadTest, as read from the API."""
    metadata = manifest["metadata"]
    return Owner(manifest["kind"], metadata["namespace"], metadata["name"], metadata["uid"])


def controller_uid(manifest: Manifest) -> str:
    """Return the UID of an object's controller, empty if it has none."""
    references = manifest.get("metadata", {}).get("ownerReferences") or []
    return next((str(reference["uid"]) for reference in references if reference.get("controller")), "")


def is_controlled_by(manifest: Manifest, owner: Owner) -> bool:
    """Return whether an object is a child of this owner: the UIDs are compared, because names are reused."""
    return controller_uid(manifest) == owner.uid
