"""Scheduling of an endpoint's pods: node labels, taints, priority, runtime class and GPU products."""

from __future__ import annotations

from collections.abc import Sequence

from llmendpoint_common.api.endpoint.spec import LLMEndpointSpec
from llmendpoint_operator.kube.owner import Manifest
from llmendpoint_operator.kube.pod_fields import placement

#: Label that NVIDIA's GPU feature discovery writes to nodes.
_PRODUCT_LABEL = "nvidia.com/gpu.product"


def scheduling(spec: LLMEndpointSpec) -> Manifest:
    """Return the fields of the pod that the scheduler and the container runtime use."""
    gpu = spec.wanted_gpu
    fields = placement(spec.pod.node_selector, spec.pod.tolerations, spec.pod.priority_class_name)
    if gpu.runtime_class_name:
        fields["runtimeClassName"] = gpu.runtime_class_name
    if gpu.products:
        fields["affinity"] = _product_affinity(gpu.products)
    return fields


def _product_affinity(products: Sequence[str]) -> Manifest:
    expression = {"key": _PRODUCT_LABEL, "operator": "In", "values": list(products)}
    terms = [{"matchExpressions": [expression]}]
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}
