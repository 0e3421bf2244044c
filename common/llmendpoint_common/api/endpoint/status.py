"""Status of an LLMEndpoint. The operator writes it."""

from __future__ import annotations

from pydantic import Field

from llmendpoint_common.api.fields import ApiModel, ConditionState, LocalReference, list_map


class ModelState(ApiModel):
    """State of one model over all replicas."""

    name: str = Field(description="Name of the model, as in spec.models.")
    ready_replicas: int = Field(0, description="Number of replicas on which the model is ready to serve requests.")
    digests: list[str] = Field(
        default_factory=list,
        description="Digests of the model on the replicas. If replicas have different versions of the model, there are "
        "several.",
    )
    size_bytes: int | None = Field(
        None,
        description="Size of the model on disk, in bytes. It is absent until a replica reports the model.",
        json_schema_extra={"format": "int64"},
    )
    vram_bytes: int | None = Field(
        None,
        description="GPU memory that the model uses on one replica, in bytes. If replicas differ, the largest value. "
        "It is absent until a replica reports the model.",
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


class Capacity(ApiModel):
    """Throughput that a load test measured."""

    requests_per_second: str = Field(
        description="Number of successful requests per second over all replicas, as a decimal number such as 12.5. If "
        "the load test was a sweep, it is the highest rate that met the objectives."
    )
    tokens_per_second: str = Field(
        description="Number of generated tokens per second over all replicas, as a decimal number such as 850."
    )
    model: str = Field(description="Model that was tested.")
    replicas: int = Field(description="Number of replicas that were ready when the load test started.")
    load_test_ref: LocalReference = Field(
        description="LoadTest that measured the capacity. It may have been deleted since."
    )
    measurement_time: str = Field(
        description="Time at which the load test ended.", json_schema_extra={"format": "date-time"}
    )
    model_digest: str = Field(
        description="Digest of the model that was tested. The capacity is removed if the endpoint has another one."
    )
    configuration_hash: str = Field(
        description="The value of status.configurationHash when the load test started. The capacity is removed if the "
        "endpoint has another one."
    )


class LLMEndpointStatus(ApiModel):
    """Observed state of an endpoint."""

    observed_generation: int | None = Field(
        None,
        description="Newest generation of the spec that the operator has applied completely.",
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
    configuration_hash: str | None = Field(
        None,
        description="Hash of the GPUs of a replica, and of the image and settings of Ollama. A measurement under "
        "another hash says nothing about this configuration.",
    )
    capacity: Capacity | None = Field(
        None,
        description="Throughput that the newest load test with the verdict Passed measured on this endpoint. Absent if "
        "there is none, or if the digest of the tested model, the GPUs or the settings of Ollama have changed since.",
    )
    conditions: list[ConditionState] = Field(
        default_factory=list,
        description="Conditions of the types Ready, Reconciling, Stalled, ModelsAvailable, ModelsLoaded, GPUOffloaded, "
        "MonitoringReady and Degraded.",
        json_schema_extra=list_map("type"),
    )
