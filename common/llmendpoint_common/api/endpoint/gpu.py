"""GPUs of a replica, `spec.gpu`, and the rules between them and the other fields of the spec.

GPUs are either an extended resource, which a device plugin advertises (`count` and `resource`), or claims of dynamic
resource allocation (`resourceClaims`).
"""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field, WithJsonSchema

from llmendpoint_common.api import defaults
from llmendpoint_common.api.fields import (
    DNS_LABEL,
    LABEL_NAME,
    SUBDOMAIN,
    ApiModel,
    LabelValue,
    ObjectName,
    list_map,
    rules,
)

#: Name of a claim in the pod, or of a request in a claim: a DNS label.
_ClaimName = Annotated[str, Field(pattern=f"^{DNS_LABEL}$", min_length=1, max_length=63)]

#: Name of an extended resource: a DNS subdomain that is not below kubernetes.io, a slash, and a name.
ExtendedResource = Annotated[
    str,
    Field(max_length=128),
    WithJsonSchema(
        {
            "type": "string",
            "maxLength": 128,
            "pattern": f"^{SUBDOMAIN}/{LABEL_NAME}$",
            **rules(
                (
                    "!self.contains('kubernetes.io/') && !self.startsWith('requests.')",
                    "must be an extended resource, whose domain is not kubernetes.io and does not begin with requests.",
                )
            ),
        }
    ),
]

_ONE_SOURCE = "set exactly one of resourceClaimTemplateName and resourceClaimName"


class PodResourceClaim(ApiModel):
    """A claim of dynamic resource allocation that the Ollama container uses."""

    model_config = ConfigDict(
        json_schema_extra=rules(("has(self.resourceClaimTemplateName) != has(self.resourceClaimName)", _ONE_SOURCE))
    )

    name: _ClaimName = Field(description="Name of the claim in the pod, for example gpu.")
    resource_claim_template_name: ObjectName | None = Field(
        None,
        description="ResourceClaimTemplate in the namespace of the endpoint. Kubernetes makes a ResourceClaim from it "
        "for each replica. Set either this field or resourceClaimName.",
    )
    resource_claim_name: ObjectName | None = Field(
        None,
        description="ResourceClaim in the namespace of the endpoint. All replicas share its devices, so they run on "
        "the nodes with these devices. Set either this field or resourceClaimTemplateName.",
    )
    request: _ClaimName | None = Field(
        None,
        description="Name of a request in the claim. If set, the container only gets the devices of this request. If "
        "absent, it gets all devices of the claim.",
    )


class Gpu(ApiModel):
    """GPUs of one replica."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "!has(self.resourceClaims) || self.resourceClaims.size() == 0 || "
                "(!has(self.count) && !has(self.resource))",
                "resourceClaims replaces count and resource; remove count and resource, or resourceClaims",
            ),
            (
                "!has(self.resourceClaims) || self.resourceClaims.size() == 0 || !has(self.products) || "
                "self.products.size() == 0",
                "products may not be set with resourceClaims; select the product in the ResourceClaimTemplate, with a "
                "CEL expression on device.attributes",
            ),
            (
                "!has(self.count) || self.count > 0 || ((!has(self.products) || self.products.size() == 0) && "
                "(!has(self.requireFullOffload) || !self.requireFullOffload) && !has(self.resource))",
                "with count 0, the models run on the CPU; remove resource, products and requireFullOffload",
            ),
            (
                "!has(self.products) || self.products.size() == 0 || !has(self.resource) || "
                "self.resource.startsWith('nvidia.com/') || self.resource.startsWith('amd.com/')",
                "products requires a resource of nvidia.com or amd.com; for other GPUs, set the label of the nodes in "
                "pod.nodeSelector",
            ),
        )
    )

    count: int | None = Field(
        None,
        ge=0,
        le=64,
        description="Number of GPUs per replica. Set to 0 to run the models on the CPU. It may not be set together "
        f"with resourceClaims. Defaults to {defaults.GPU_COUNT}, or to 0 with resourceClaims.",
    )
    resource: ExtendedResource | None = Field(
        None,
        description="Extended resource that the device plugin of the GPUs advertises: for example nvidia.com/gpu, "
        "nvidia.com/mig-1g.10gb for a part of a GPU (MIG), or amd.com/gpu. The pods tolerate the taint NoSchedule "
        "with the usual key of these nodes: nvidia.com/gpu for every resource of nvidia.com, amd.com/gpu for every "
        "resource of amd.com, and otherwise the name of the resource. For resources of amd.com, the default image is "
        "the ROCm variant of Ollama's image. It may not be set together with resourceClaims. Defaults to "
        f"{defaults.GPU_RESOURCE}.",
    )
    products: list[LabelValue] = Field(
        default_factory=list,
        max_length=32,
        description="GPU products that are accepted, for example NVIDIA-H200. Pods only run on nodes whose label "
        "nvidia.com/gpu.product has one of these values or, for resources of amd.com, whose label "
        "amd.com/gpu.product-name does. If empty, every product is accepted.",
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
    resource_claims: list[PodResourceClaim] = Field(
        default_factory=list,
        max_length=8,
        description="Claims of dynamic resource allocation (resource.k8s.io) for the GPUs of each replica, instead of "
        "count and resource. The devices are chosen by the ResourceClaimTemplate or ResourceClaim, which you create. "
        "The pods tolerate no additional taint; if the nodes have one, set pod.tolerations.",
        json_schema_extra=list_map("name"),
    )

    @property
    def devices(self) -> int:
        """The number of GPUs that the pod requests as an extended resource. It is 0 with claims."""
        if self.resource_claims:
            return 0
        return defaults.GPU_COUNT if self.count is None else self.count

    @property
    def device_resource(self) -> str:
        """The extended resource of the GPUs."""
        return self.resource or defaults.GPU_RESOURCE

    @property
    def is_used(self) -> bool:
        """Whether the models run on GPUs."""
        return self.devices > 0 or bool(self.resource_claims)

    @property
    def vendor(self) -> str:
        """The domain of the extended resource, such as nvidia.com. It is empty without an extended resource."""
        return self.device_resource.partition("/")[0] if self.devices else ""


_RESOURCE = f"(has(self.gpu) && has(self.gpu.resource) ? self.gpu.resource : '{defaults.GPU_RESOURCE}')"


def _gpus_in(name: str) -> str:
    """Return a CEL expression that is true if the resources of Ollama have as many GPUs as `gpu.count`, or none."""
    claims = "has(self.gpu.resourceClaims) && self.gpu.resourceClaims.size() > 0 ? 0"
    count = (
        f"(has(self.gpu) ? (has(self.gpu.count) ? self.gpu.count : {claims} : {defaults.GPU_COUNT}) : "
        f"{defaults.GPU_COUNT})"
    )
    path = f"self.ollama.resources.{name}"
    return (
        f"!has(self.ollama) || !has(self.ollama.resources) || !has({path}) || {path}.all(k, k != {_RESOURCE} || "
        f"quantity(string({path}[k])).asApproximateFloat() == double({count}))"
    )


#: Pattern of the extended resources of GPUs that their vendors' device plugins advertise.
GPU_NAMES = "^(nvidia[.]com/(gpu|gpu[.]shared|mig-.*)|amd[.]com/gpu|gpu[.]intel[.]com/(i915|xe))$"


def _no_others(name: str) -> tuple[str, str]:
    """Return a CEL rule: the resources of Ollama have no GPUs of another resource than `gpu.resource`."""
    path = f"self.ollama.resources.{name}"
    return (
        f"!has(self.ollama) || !has(self.ollama.resources) || !has({path}) || {path}.all(k, k == {_RESOURCE} || "
        f"!k.matches('{GPU_NAMES}'))",
        f"ollama.resources.{name} has GPUs of another resource than gpu.resource; a replica has GPUs of one resource: "
        "set gpu.resource and gpu.count",
    )


_GPUS = "set the number of GPUs in gpu.count, or the same number in ollama.resources"

GPUS_IN_RESOURCES = (
    (_gpus_in("requests"), _GPUS),
    (_gpus_in("limits"), _GPUS),
    _no_others("requests"),
    _no_others("limits"),
)
