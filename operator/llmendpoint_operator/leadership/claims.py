"""The content of an operator's Lease. Has no side effects.

Each operator has one Lease per scope, named `llmendpoint-operator`: a cluster-wide operator in its own namespace, an
operator for some namespaces in each of these. The replicas of an installation share it. Labels and annotations make it
readable for other installations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from llmendpoint_common.contracts.cluster import (
    INSTALLATION_ANNOTATION,
    LEASE_NAME,
    MANAGED_BY,
    MANAGED_BY_LABEL,
    SCOPE_ANNOTATION,
    SERVING_ANNOTATION,
)
from llmendpoint_operator.cluster.kinds import KINDS
from llmendpoint_operator.kube.owner import Manifest

#: Seconds without a change after which a replica takes a Lease.
DURATION = 15


class Reach(StrEnum):
    """The namespaces that the holder of a Lease serves: all of the cluster, or the one that has the Lease."""

    CLUSTER = "Cluster"
    NAMESPACE = "Namespace"


@dataclass(frozen=True)
class Candidate:
    """An operator process that wants to serve a scope.

    `identity` is `NAMESPACE/POD`, `installation` is `NAMESPACE/RELEASE`, and `home` is the namespace of the Lease.
    """

    identity: str
    installation: str
    reach: Reach
    home: str


@dataclass(frozen=True)
class Claim:
    """A Lease as the operators read it. `holder` is empty if its last holder has given it back.

    `serving` is whether the holder writes to the namespaces of its scope, or is about to.
    """

    namespace: str
    version: int
    holder: str
    installation: str
    reach: Reach
    serving: bool
    seconds: float
    manifest: Manifest

    @property
    def spec(self) -> Mapping[str, Any]:
        """The spec. Two writes never have the same one, because it contains the time of the write in microseconds."""
        return self.manifest.get("spec") or {}


def read_claim(manifest: Manifest) -> Claim | None:
    """Return the claim in a Lease, or None if the Lease is not an operator's."""
    metadata, spec = manifest["metadata"], manifest.get("spec") or {}
    if metadata["name"] != LEASE_NAME:
        return None
    annotations = metadata.get("annotations") or {}
    cluster_wide = annotations.get(SCOPE_ANNOTATION) == Reach.CLUSTER
    return Claim(
        namespace=metadata["namespace"],
        version=int(metadata["resourceVersion"]),
        holder=spec.get("holderIdentity") or "",
        installation=annotations.get(INSTALLATION_ANNOTATION, ""),
        reach=Reach.CLUSTER if cluster_wide else Reach.NAMESPACE,
        serving=annotations.get(SERVING_ANNOTATION) != "false",
        seconds=float(spec.get("leaseDurationSeconds") or DURATION),
        manifest={**manifest, "metadata": {name: value for name, value in metadata.items() if name != "managedFields"}},
    )


def write_claim(me: Candidate, last: Claim | None, *, serving: bool, now: datetime) -> Manifest:
    """Return the Lease with which a candidate takes or renews its claim.

    `last` is the Lease that it replaces, and only that version of it; if it is None, the Lease is created. `now` is the
    wall clock. It is for people: operators compare only whether the Lease has changed.
    """
    spec = dict(last.spec) if last is not None else {}
    if spec.get("holderIdentity") != me.identity:
        transitions = int(spec.get("leaseTransitions") or 0) + 1 if last is not None else 0
        spec |= {"holderIdentity": me.identity, "acquireTime": micro_time(now), "leaseTransitions": transitions}
    spec |= {"leaseDurationSeconds": DURATION, "renewTime": micro_time(now)}
    annotations = {
        INSTALLATION_ANNOTATION: me.installation,
        SCOPE_ANNOTATION: str(me.reach),
        SERVING_ANNOTATION: str(serving).lower(),
    }
    present = {"name": LEASE_NAME, "namespace": me.home} if last is None else last.manifest["metadata"]
    return _lease(present, annotations, spec)


def give_back(last: Claim, now: datetime) -> Manifest:
    """Return the Lease without its holder, so that another replica need not wait until it expires."""
    return _without_holder(last, last.serving, now)


def take_over(last: Claim, now: datetime) -> Manifest:
    """Return the Lease of another installation, which has ended, without its holder and no longer serving."""
    return _without_holder(last, False, now)


def micro_time(now: datetime) -> str:
    """Return a time in the notation of Kubernetes' MicroTime."""
    return now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _without_holder(last: Claim, serving: bool, now: datetime) -> Manifest:
    spec = {**last.spec, "holderIdentity": "", "renewTime": micro_time(now)}
    return _lease(last.manifest["metadata"], {SERVING_ANNOTATION: str(serving).lower()}, spec)


def _lease(metadata: Manifest, annotations: dict[str, str], spec: dict[str, Any]) -> Manifest:
    """Return a Lease. A PUT replaces the object, so it has to contain the labels and annotations of others."""
    labels = {**(metadata.get("labels") or {}), MANAGED_BY_LABEL: MANAGED_BY}
    metadata = {**metadata, "labels": labels, "annotations": {**(metadata.get("annotations") or {}), **annotations}}
    return {"apiVersion": KINDS["Lease"].api_version, "kind": "Lease", "metadata": metadata, "spec": spec}
