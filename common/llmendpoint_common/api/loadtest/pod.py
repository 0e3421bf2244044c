"""`spec.pod` and `spec.results`: resources, metadata and placement of the load pods, and a place for their files."""

from __future__ import annotations

from pydantic import Field

from llmendpoint_common.api import defaults
from llmendpoint_common.api.fields import (
    AddedLabels,
    ApiModel,
    Labels,
    ObjectName,
    PodAnnotations,
    Resources,
    SecretReference,
    Toleration,
)
from llmendpoint_common.api.scheduling import Affinity


class LoadPod(ApiModel):
    """Resources, metadata and placement of the load generator's pods."""

    resources: Resources = Field(
        default_factory=Resources,
        description="Compute resources of the load generator. "
        f"Requests default to {defaults.in_words(defaults.LOADJOB_REQUESTS)}, "
        f"limits to {defaults.in_words(defaults.LOADJOB_LIMITS)}.",
    )
    node_selector: Labels = Field(
        default_factory=dict, description="Labels that a node must have to run the pods. If empty, any node is used."
    )
    tolerations: list[Toleration] = Field(
        default_factory=list, max_length=32, description="Taints of nodes that the pods tolerate."
    )
    affinity: Affinity | None = Field(
        None,
        description="Scheduling constraints that depend on nodes and on other pods. If absent, only nodeSelector "
        "limits the nodes.",
    )
    labels: AddedLabels = Field(default_factory=dict, description="Additional labels of the pods.")
    annotations: PodAnnotations = Field(
        default_factory=dict,
        description="Additional annotations of the pods. Those that choose AppArmor or seccomp profiles are not "
        "allowed.",
    )
    image_pull_secrets: list[SecretReference] = Field(
        default_factory=list,
        max_length=16,
        description="Secrets with credentials for the image, in the namespace of the LoadTest. The Secrets of the "
        "operator's flag --image-pull-secret are added.",
    )
    priority_class_name: ObjectName | None = Field(
        None, description="PriorityClass of the pods. If absent, the cluster's default priority applies."
    )


class ClaimReference(ApiModel):
    """An existing PersistentVolumeClaim in the same namespace."""

    claim_name: ObjectName = Field(
        description="Name of the PersistentVolumeClaim. With parallelism over 1, pods on several nodes need a claim "
        "with the access mode ReadWriteMany."
    )


class Results(ApiModel):
    """A place for the files of a run that are too large for ConfigMaps."""

    persistent_volume_claim: ClaimReference = Field(
        description="Claim for one line per request, the report and the summary. Each run has a folder of its own: its "
        "name, a dash, and the first 8 characters of its UID. With several pods, it has one folder per pod."
    )
