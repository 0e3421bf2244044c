"""The status of an LLMEndpoint, which the operator writes."""

from __future__ import annotations

from pydantic import Field

from llmendpoint_common.api.fields import ApiModel, ConditionState, list_map


class ModelState(ApiModel):
    """State of one model over all replicas."""

    name: str = Field(description="Name of the model, as in spec.models.")
    ready_replicas: int = Field(0, description="Number of replicas in which the model answers.")
    digests: list[str] = Field(
        default_factory=list,
        description="Digests of the model in the replicas. More than one means that replicas have different versions.",
    )
    size_bytes: int = Field(
        0, description="Size of the model on disk, in bytes.", json_schema_extra={"format": "int64"}
    )
    vram_bytes: int = Field(
        0,
        description="GPU memory that the model uses in one replica, in bytes; the largest value of all replicas.",
        json_schema_extra={"format": "int64"},
    )
    progress_percent: int = Field(0, description="Progress of pulling the model in the slowest replica, in percent.")
    message: str = Field("", description="Current step of the slowest replica, or the error and what to do about it.")


class LLMEndpointStatus(ApiModel):
    """Observed state of an endpoint."""

    observed_generation: int | None = Field(
        None,
        description="Generation of the spec that the operator processed last.",
        json_schema_extra={"format": "int64"},
    )
    url: str | None = Field(None, description="Base URL for clients in the cluster.")
    gpu: str | None = Field(None, description="Number and type of the GPUs of one replica, or none.")
    replicas: int = Field(0, description="Number of pods that exist.")
    ready_replicas: int = Field(0, description="Number of pods that answer requests.")
    selector: str | None = Field(
        None, description="Label selector of the pods, for the scale subresource and for autoscalers."
    )
    models: list[ModelState] = Field(
        default_factory=list, description="State of each declared model.", json_schema_extra=list_map("name")
    )
    conditions: list[ConditionState] = Field(
        default_factory=list,
        description="Conditions of the types Ready, Progressing, ModelsAvailable, ModelsLoaded, GPUOffloaded, "
        "MonitoringReady and Degraded.",
        json_schema_extra=list_map("type"),
    )
