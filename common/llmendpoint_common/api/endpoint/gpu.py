"""GPUs of a replica, `spec.gpu`, and the rule that keeps the container's resources equal to it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from llmendpoint_common.api import defaults
from llmendpoint_common.api.fields import ApiModel, LabelValue, ObjectName


class Gpu(ApiModel):
    """GPUs of one replica."""

    count: int = Field(
        defaults.GPU_COUNT,
        ge=0,
        le=64,
        description="Number of GPUs per replica. Set to 0 to run the models on the CPU. "
        f"Defaults to {defaults.GPU_COUNT}.",
    )
    resource: Annotated[str, Field(pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$", max_length=128)] = Field(
        defaults.GPU_RESOURCE,
        description="Extended resource that the GPU's device plugin advertises, for example amd.com/gpu. "
        f"Defaults to {defaults.GPU_RESOURCE}.",
    )
    products: list[LabelValue] = Field(
        default_factory=list,
        max_length=32,
        description="GPU products that are accepted, for example NVIDIA-H200. Pods only run on nodes whose label "
        "nvidia.com/gpu.product has one of these values. If empty, every product is accepted.",
    )
    runtime_class_name: ObjectName | None = Field(
        None,
        description="RuntimeClass of the pods, for example nvidia. If absent, the cluster's default runtime is used.",
    )
    require_full_offload: bool = Field(
        False,
        description="If true, a replica becomes ready only when each preloaded model is entirely in GPU memory. "
        "If false, a part of a model may run on the CPU. Defaults to false.",
    )


def _gpus_in(name: str) -> str:
    """Return a CEL expression that is true if the resources of Ollama have as many GPUs as `gpu.count`, or none."""
    resource = f"(has(self.gpu) ? self.gpu.resource : '{defaults.GPU_RESOURCE}')"
    count = f"(has(self.gpu) ? self.gpu.count : {defaults.GPU_COUNT})"
    path = f"self.ollama.resources.{name}"
    return (
        f"!has(self.ollama) || !has(self.ollama.resources) || !has({path}) || {path}.all(k, k != {resource} || "
        f"quantity(string({path}[k])).asInteger() == {count})"
    )


_GPUS = "set the number of GPUs in gpu.count, or the same number in ollama.resources"

GPUS_IN_RESOURCES = ((_gpus_in("requests"), _GPUS), (_gpus_in("limits"), _GPUS))
