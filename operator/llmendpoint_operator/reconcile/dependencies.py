"""The table of what each kind of child needs: the children that it, or a pod made from it, uses by name.

Such a name may belong to somebody else's object. A pod would then run with a stranger's configuration or identity, an
Ingress would open a stranger's Service to clients outside the cluster, and a Role would allow its pod to change a
stranger's ConfigMap. Therefore a child is written only while every child that it needs exists and is ours. A child that
already exists is then left as it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from llmendpoint_common.contracts.cluster import COMPONENT_LABEL
from llmendpoint_operator.cluster.keys import ChildKey
from llmendpoint_operator.kube.owner import Manifest


class Part(NamedTuple):
    """The children of one kind and one component label."""

    kind: str
    component: str


TABLE: dict[Part, tuple[Part, ...]] = {
    # Children of an LLMEndpoint
    Part("StatefulSet", "endpoint"): (
        Part("ServiceAccount", "identity"),
        Part("ConfigMap", "config"),
        Part("Service", "pods"),
    ),
    Part("Ingress", "client"): (Part("Service", "client"),),
    Part("HTTPRoute", "client"): (Part("Service", "client"),),
    # Children of a LoadTest
    Part("Role", "load"): (Part("ConfigMap", "result"),),
    Part("RoleBinding", "load"): (Part("Role", "load"), Part("ServiceAccount", "load")),
    Part("Job", "load"): (
        Part("ConfigMap", "run"),
        Part("ConfigMap", "questions"),
        Part("ConfigMap", "trace"),
        Part("ConfigMap", "baseline"),
        Part("ConfigMap", "result"),
        Part("ServiceAccount", "load"),
        Part("Role", "load"),
        Part("RoleBinding", "load"),
    ),
}


def part_of(manifest: Manifest) -> Part:
    """Return the part to which a child's manifest belongs."""
    return Part(manifest["kind"], manifest["metadata"]["labels"][COMPONENT_LABEL])


def needs(manifest: Manifest, desired: Iterable[Manifest]) -> tuple[ChildKey, ...]:
    """Return the desired children that have to be ours before this one is written."""
    parts = TABLE.get(part_of(manifest), ())
    return tuple(ChildKey(item["kind"], item["metadata"]["name"]) for item in desired if part_of(item) in parts)
