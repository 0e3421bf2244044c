"""Endpoints whose pods a real cluster refuses, cannot run, or ends, with what their conditions must say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from support.on_cluster.cluster import Parameters

#: Ephemeral storage, no GPU, a short shutdown, and many pods on a node with two cores: what a test needs unless it is
#: about one of these.
_LITTLE_CPU: Mapping[str, Any] = {"requests": {"cpu": "10m"}}
SMALL: Mapping[str, Any] = {
    "ollama": {"resources": _LITTLE_CPU},
    "metering": {"resources": _LITTLE_CPU},
    "gpu": {"count": 0},
    "storage": {"type": "Ephemeral"},
    "pod": {"terminationGracePeriodSeconds": 10},
}


@dataclass(frozen=True)
class Case:
    """An endpoint `assistant` in a namespace of its own, with objects that exist before it.

    `unready` is whether Ready must have the reason too. Degraded always has it. `loops` is whether the pods start again
    and again. `words` are in the message.
    """

    name: str
    reason: str
    words: Sequence[str]
    spec: Mapping[str, Any] = field(default_factory=dict)
    objects: Sequence[dict[str, Any]] = ()
    unready: bool = True
    loops: bool = False
    needs_gpu: bool = False

    def endpoint(self, parameters: Parameters) -> dict[str, Any]:
        """Return the manifest of the endpoint."""
        models = [{"name": parameters.model, **parameters.source()}]
        return {
            "apiVersion": "llmendpoint.dev/v1alpha1",
            "kind": "LLMEndpoint",
            "metadata": {"name": "assistant"},
            "spec": {"models": models, **SMALL, **self.spec},
        }


def quota(name: str, value: str) -> dict[str, Any]:
    """Return a ResourceQuota for one resource."""
    hard = {name: value}
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "quota"}, "spec": {"hard": hard}}


def _limit_range(memory: str) -> dict[str, Any]:
    limits = [{"type": "Container", "default": {"memory": memory}}]
    return {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "limits"}, "spec": {"limits": limits}}


def _runtime_class(name: str) -> dict[str, Any]:
    return {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": name}, "handler": "absent"}


def _memory_limit(limit: str) -> dict[str, Any]:
    return {"ollama": {"resources": {**_LITTLE_CPU, "limits": {"memory": limit}}}}


#: The name of the RuntimeClass whose handler no node has. It is not namespaced.
BROKEN_RUNTIME = "llmendpoint-e2e-broken"
POLICY = "llmendpoint-e2e-users"
ONE_GPU_SHORT = Case(
    "one-gpu-short", "Unschedulable",
    ("1 of 2 replicas", "assistant-1 cannot be scheduled", "not enough GPUs are free", "3 nvidia.com/gpu"),
    {"replicas": 2, "gpu": {"count": 3}}, unready=False, needs_gpu=True,
)  # fmt: skip

CASES = (
    Case("quota", "QuotaExceeded", ("must specify limits.memory for: ollama", "Set them in spec.ollama.resources"),
         objects=[quota("limits.memory", "64Gi")]),
    Case("limit-range", "Invalid", ("memory limit of 512Mi", "LimitRange"), objects=[_limit_range("512Mi")]),
    Case("priority-class", "ReferenceNotFound", ("no PriorityClass with name nope was found",),
         {"pod": {"priorityClassName": "nope"}}),
    Case("runtime-class", "ReferenceNotFound", ('RuntimeClass "nope" not found',),
         {"gpu": {"count": 0, "runtimeClassName": "nope"}}),
    Case("storage-quota", "QuotaExceeded", ("models-assistant-0",), {"storage": {}},
         [quota("requests.storage", "1Gi")]),
    Case("policy", "AdmissionDenied", (POLICY, "no user below 1000000")),
    Case("storage-class", "VolumeNotReady", ("models-assistant-0", '"nope" not found'),
         {"storage": {"storageClassName": "nope"}}),
    Case("runtime", "ContainerNotStarted", ("absent",), {"gpu": {"count": 0, "runtimeClassName": BROKEN_RUNTIME}},
         [_runtime_class(BROKEN_RUNTIME)]),
    Case("image", "ImagePullFailed", ("127.0.0.1:9/nope:1",), {"ollama": {"image": "127.0.0.1:9/nope:1", "resources": _LITTLE_CPU}}),
    Case("crash", "CrashLoopBackOff", ("exit code",), {"ollama": {"env": [{"name": "OLLAMA_ORIGINS", "value": "nonsense"}], "resources": _LITTLE_CPU}},
         loops=True),
    Case("memory", "OOMKilled", ("its memory limit of 20Mi", "Raise limits.memory in spec.ollama.resources"),
         _memory_limit("20Mi"), loops=True),
    Case("eviction", "Evicted", ('exceeds the limit "100Ki"', "Raise spec.storage.sizeLimit"),
         {"storage": {"type": "Ephemeral", "sizeLimit": "100Ki"}}, loops=True),
    Case("no-such-gpu", "Unschedulable", ("no GPU of the product NVIDIA-NOPE",),
         {"gpu": {"count": 1, "products": ["NVIDIA-NOPE"]}}, needs_gpu=True),
    ONE_GPU_SHORT,
)  # fmt: skip


def user_policy(namespace: str) -> list[dict[str, Any]]:
    """Return a policy that refuses pods with the user IDs of our images in a namespace, and its binding."""
    rules = [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]
    selector = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    policy = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": POLICY},
        "spec": {
            "matchConstraints": {"resourceRules": rules, "namespaceSelector": selector},
            "validations": [
                {
                    "expression": "object.?spec.securityContext.runAsUser.orValue(0) >= 1000000",
                    "message": "no user below 1000000",
                }
            ],
        },
    }
    binding = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": POLICY},
        "spec": {"policyName": POLICY, "validationActions": ["Deny"]},
    }
    return [policy, binding]


def small_pod(name: str) -> dict[str, Any]:
    """Return a pod that the restricted Pod Security Standard allows, with the user of our images."""
    security = {"runAsNonRoot": True, "runAsUser": 64000, "seccompProfile": {"type": "RuntimeDefault"}}
    container = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    containers = [{"name": "main", "image": "none", "securityContext": container}]
    spec = {"securityContext": security, "containers": containers}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
