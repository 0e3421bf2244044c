"""Scheduling of an endpoint's pods: nodes, taints, priority, runtime class, spreading and GPU products."""

from __future__ import annotations

from collections.abc import Sequence

from llmendpoint_common.api.endpoint.gpu import Gpu, PodResourceClaim
from llmendpoint_common.api.endpoint.spec import LLMEndpointSpec
from llmendpoint_common.api.fields import Toleration
from llmendpoint_operator.kube.affinity import affinity_of, spread_constraint, with_node_requirement
from llmendpoint_operator.kube.owner import Manifest
from llmendpoint_operator.kube.pod_fields import placement

#: Labels of nodes with the product of their GPUs, by vendor. They are written by NVIDIA's GPU feature discovery and by
#: AMD's node labeller.
_PRODUCT_LABELS = {"nvidia.com": "nvidia.com/gpu.product", "amd.com": "amd.com/gpu.product-name"}


def scheduling(spec: LLMEndpointSpec, own_pods: dict[str, str]) -> Manifest:
    """Return the fields of the pod that the scheduler and the container runtime use.

    `own_pods` are the labels of the endpoint's pods, for constraints without a label selector.
    """
    gpu = spec.wanted_gpu
    tolerations = with_gpu_toleration(spec.pod.tolerations, gpu)
    fields = placement(spec.pod.node_selector, tolerations, spec.pod.priority_class_name)
    if gpu.runtime_class_name:
        fields["runtimeClassName"] = gpu.runtime_class_name
    affinity = affinity_of(spec.pod.affinity, own_pods) if spec.pod.affinity else {}
    if gpu.products:
        affinity = with_node_requirement(affinity, _product_requirement(gpu))
    if affinity:
        fields["affinity"] = affinity
    constraints = [spread_constraint(each, own_pods) for each in spec.pod.topology_spread_constraints]
    if constraints:
        fields["topologySpreadConstraints"] = constraints
    if gpu.resource_claims:
        fields["resourceClaims"] = [_claim(claim) for claim in gpu.resource_claims]
    return fields


def with_gpu_toleration(given: Sequence[Toleration], gpu: Gpu) -> list[Toleration]:
    """Return tolerations of a spec, and one for the taint with which clusters keep other pods off nodes with GPUs.

    Without it, pods would stay Pending on clusters whose nodes have the usual taint, except if the admission plugin
    ExtendedResourceToleration is active, which is off by default and adds the same toleration. The plugin names the
    taint like the resource; the taint of NVIDIA's nodes is nvidia.com/gpu, also if the resource is a MIG profile.
    """
    if not gpu.devices:
        return list(given)
    key = f"{gpu.vendor}/gpu" if gpu.vendor in _PRODUCT_LABELS else gpu.device_resource
    own = Toleration(key=key, operator="Exists", effect="NoSchedule")
    return [*given, *([] if own in given else [own])]


def product_label(gpu: Gpu) -> str:
    """Return the label of nodes with the product of their GPUs."""
    return _PRODUCT_LABELS.get(gpu.vendor, _PRODUCT_LABELS["nvidia.com"])


def _claim(claim: PodResourceClaim) -> Manifest:
    fields = claim.model_dump(by_alias=True, exclude_none=True)
    return {name: value for name, value in fields.items() if name != "request"}


def _product_requirement(gpu: Gpu) -> Manifest:
    return {"key": product_label(gpu), "operator": "In", "values": list(gpu.products)}
