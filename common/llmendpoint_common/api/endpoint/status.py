"""Status of an LLMEndpoint. The operator writes it."""

from __future__ import annotations

from pydantic import Field

from llmendpoint_common.api.fields import ApiModel, ConditionState, list_map


class ModelState(ApiModel):
    """State of one model over all replicas."""

    name: str = Field(description="Name of the model, as in spec.models.")
    ready_replicas: int = Field(0, description="Number of replicas on which the model is ready to serve requests.")
    digests: list[str] = Field(
        default_factory=list,
        description="Digests of the model on the replicas. If replicas have different versions of the model, there are "
        "several.",
    )
    size_bytes: int = Field(
        0, description="Size of the model on disk, in bytes.", json_schema_extra={"format": "int64"}
    )
    vram_bytes: int = Field(
        0,
        description="GPU memory that the model uses on one replica, in bytes. If replicas differ, the largest value.",
        json_schema_extra={"format": "int64"},
    )
    progress_percent: int = Field(0, description="Progress of the pull on the slowest replica, in percent.")
    bytes_per_second: int | None = Field(
        None,
        description="Speed of the pull on the slowest replica, in bytes per second. It is only present during a pull. "
        "The progress is written every 10 seconds at most.",
        json_schema_extra={"format": "int64"},
    )
    remaining_seconds: int | None = Field(
        None,
        description="Estimated time until the pull ends on the slowest replica, in seconds. It is only present during "
        "a pull.",
        json_schema_extra={"format": "int64"},
    )
    message: str = Field("", description="Current step on the slowest replica, or an error with advice.")


class LLMEndpointStatus(ApiModel):
    """Observed state of an endpoint."""

    observed_generation: int | None = Field(
        None,
        description="Generation of the spec that the operator processed last.",
        json_schema_extra={"format": "int64"},
    )
    url: str | None = Field(None, description="Base URL for clients in the cluster.")
    gpu: str | None = Field(
        None, description="Number and type of the GPUs of one replica, or the text none if it has no GPU."
    )
    replicas: int = Field(0, description="Number of pods that exist.")
    ready_replicas: int = Field(0, description="Number of pods that are ready to serve requests.")
    selector: str | None = Field(
        None, description="Label selector of the pods, for the scale subresource and for autoscalers."
    )
    models: list[ModelState] = Field(
        default_factory=list, description="State of each declared model.", json_schema_extra=list_map("name")
    )
    conditions: list[ConditionState] = Field(
        default_factory=list,
        description="Conditions of the types Ready, Reconciling, Stalled, ModelsAvailable, ModelsLoaded, GPUOffloaded, "
        "MonitoringReady and Degraded.",
        json_schema_extra=list_map("type"),
    )
