"""Metadata, placement and termination of the pods: `spec.pod`."""

from __future__ import annotations

from pydantic import Field

from llmendpoint_common.api import defaults
from llmendpoint_common.api.fields import Annotations, ApiModel, Labels, LocalReference, ObjectName, Toleration


class Pod(ApiModel):
    """Metadata, placement and termination of the pods."""

    labels: Labels = Field(
        default_factory=dict,
        description="Additional labels of the pods. The operator's own labels take precedence, and labels that begin "
        "with llmendpoint.dev/ are ignored.",
    )
    annotations: Annotations = Field(default_factory=dict, description="Additional annotations of the pods.")
    image_pull_secrets: list[LocalReference] = Field(
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
    priority_class_name: ObjectName | None = Field(
        None, description="PriorityClass of the pods. If absent, the cluster's default priority applies."
    )
    termination_grace_period_seconds: int = Field(
        defaults.TERMINATION_GRACE_SECONDS,
        ge=10,
        le=86400,
        description="Termination grace period of the pods in seconds. Running requests can finish during this time, "
        f"except for the last {defaults.STOP_MARGIN_SECONDS} seconds. "
        f"Defaults to {defaults.TERMINATION_GRACE_SECONDS}.",
    )
