"""Metadata, placement, identity, volumes and termination of the pods: `spec.pod`."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from llmendpoint_common.api import defaults
from llmendpoint_common.api.endpoint.pod_security import PodSecurityContext
from llmendpoint_common.api.endpoint.volumes import (
    MOUNT_KEYS,
    OWN_FOLDERS,
    VOLUME_KEYS,
    VOLUMES_OF_MOUNTS,
    Volume,
    VolumeMount,
)
from llmendpoint_common.api.fields import (
    AddedPodLabels,
    ApiModel,
    Labels,
    ObjectName,
    PodAnnotations,
    SecretReference,
    Toleration,
    rules,
)
from llmendpoint_common.api.scheduling import TOPOLOGY_KEYS, Affinity, TopologySpreadConstraint

__all__ = ["Pod", "Volume", "VolumeMount"]


class Pod(ApiModel):
    """Metadata, placement, identity, volumes and termination of the pods."""

    model_config = ConfigDict(json_schema_extra=rules(VOLUMES_OF_MOUNTS))

    labels: AddedPodLabels = Field(default_factory=dict, description="Additional labels of the pods.")
    annotations: PodAnnotations = Field(
        default_factory=dict,
        description="Additional annotations of the pods. Those that choose AppArmor or seccomp profiles are not "
        "allowed. kubectl.kubernetes.io/default-container defaults to metering.",
    )
    image_pull_secrets: list[SecretReference] = Field(
        default_factory=list,
        max_length=16,
        description="Secrets with credentials for the images, in the namespace of the endpoint. The Secrets of the "
        "operator's flag --image-pull-secret are added.",
    )
    node_selector: Labels = Field(
        default_factory=dict, description="Labels that a node must have to run the pods. If empty, any node is used."
    )
    tolerations: list[Toleration] = Field(
        default_factory=list, max_length=32, description="Taints of nodes that the pods tolerate."
    )
    affinity: Affinity | None = Field(
        None,
        description="Scheduling constraints that depend on nodes and on other pods. If absent, only gpu.products and "
        "nodeSelector limit the nodes.",
    )
    topology_spread_constraints: list[TopologySpreadConstraint] = Field(
        default_factory=list,
        max_length=8,
        description="How evenly the pods are spread among nodes, zones or other domains. If empty, the cluster's "
        "default constraints apply.",
        json_schema_extra=TOPOLOGY_KEYS,
    )
    priority_class_name: ObjectName | None = Field(
        None, description="PriorityClass of the pods. If absent, the cluster's default priority applies."
    )
    service_account_name: ObjectName | None = Field(
        None,
        description="Existing ServiceAccount of the pods, in the namespace of the endpoint, for example one with pull "
        "secrets or an identity of the cloud. Its token is not mounted. If absent, the operator creates a "
        "ServiceAccount without rights, with the name of the endpoint.",
    )
    termination_grace_period_seconds: int = Field(
        defaults.TERMINATION_GRACE_SECONDS,
        ge=10,
        le=86400,
        description="Termination grace period of the pods in seconds. Running requests can finish during this time, "
        f"except for the last {defaults.STOP_MARGIN_SECONDS} seconds. "
        f"Defaults to {defaults.TERMINATION_GRACE_SECONDS}.",
    )
    security_context: PodSecurityContext | None = Field(
        None,
        description="User, groups, SELinux level and kernel parameters of the pods, within the restricted Pod Security "
        "Standard. If absent, the operator sets a user and groups that do not exist in the images, or none on "
        "OpenShift, which assigns them.",
    )
    volumes: list[Volume] = Field(
        default_factory=list,
        max_length=32,
        description="Additional volumes of the pods. Mount them with ollamaVolumeMounts. Volumes of Secrets, of the "
        "node and of network file systems are not supported; use a PersistentVolumeClaim for the latter.",
        json_schema_extra=VOLUME_KEYS,
    )
    ollama_volume_mounts: list[VolumeMount] = Field(
        default_factory=list,
        max_length=32,
        description="Folders of the Ollama container at which volumes of the field volumes are mounted.",
        json_schema_extra=MOUNT_KEYS | rules(OWN_FOLDERS),
    )
