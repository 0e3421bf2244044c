"""The pod of `spec.podTemplate`: the fields of a PodSpec that are allowed, and the reasons for those that are not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from llmendpoint_common.api.endpoint.template.containers import (
    AddedContainer,
    AddedInitContainer,
    ContainerResources,
    OllamaAddition,
)
from llmendpoint_common.api.endpoint.template.part import OPERATOR, RESTRICTED, Object, Part, Path, instead, reasons
from llmendpoint_common.api.endpoint.template.volumes import TemplateVolume
from llmendpoint_common.contracts import pod

NO_METADATA = "not supported: set spec.pod.labels and spec.pod.annotations instead"
_STATEFULSET = "set by the StatefulSet for each pod"


def _kind_of(value: Any) -> str:
    name = value.get("name") if isinstance(value, dict) else None
    return pod.OLLAMA_CONTAINER if name == pod.OLLAMA_CONTAINER else _ADDED


_ADDED = "added"
#: The tags of the union of init containers. They are in the paths of errors, but not in the template.
TAGS = frozenset({_ADDED, pod.OLLAMA_CONTAINER})
_InitContainer = Annotated[
    Annotated[OllamaAddition, Tag(pod.OLLAMA_CONTAINER)] | Annotated[AddedInitContainer, Tag(_ADDED)],
    Discriminator(_kind_of),
]


class PodSpec(Part):
    """The fields of a PodSpec that have no field in the spec of an endpoint."""

    refused = reasons(
        {
            "affinity": instead("pod.affinity"),
            "imagePullSecrets": instead("pod.imagePullSecrets"),
            "nodeSelector": instead("pod.nodeSelector"),
            "priorityClassName": instead("pod.priorityClassName"),
            "resourceClaims": instead("gpu.resourceClaims"),
            "runtimeClassName": instead("gpu.runtimeClassName"),
            "securityContext": instead("pod.securityContext"),
            "serviceAccountName": instead("pod.serviceAccountName"),
            "terminationGracePeriodSeconds": instead("pod.terminationGracePeriodSeconds"),
            "tolerations": instead("pod.tolerations"),
            "topologySpreadConstraints": instead("pod.topologySpreadConstraints"),
            "automountServiceAccountToken": f"{OPERATOR}: the pods have no token of their ServiceAccount",
            "enableServiceLinks": f"{OPERATOR}: variables named after Services could change the sidecar's settings",
            "ephemeralContainers": "not allowed in a template: use kubectl debug",
            "nodeName": "not allowed: it bypasses the scheduler, taints and the GPUs of the node; use pod.nodeSelector",
            "restartPolicy": f"{OPERATOR}: a StatefulSet requires Always",
            "serviceAccount": instead("pod.serviceAccountName"),
            "shareProcessNamespace": "not allowed: other containers could read the API keys in the sidecar's memory",
            **dict.fromkeys(("hostNetwork", "hostPID", "hostIPC"), RESTRICTED),
            **dict.fromkeys(("hostname", "hostnameOverride", "subdomain"), _STATEFULSET),
            **dict.fromkeys(
                ("priority", "preemptionPolicy"), "follows from the PriorityClass: set pod.priorityClassName"
            ),
            "activeDeadlineSeconds": "not allowed in a StatefulSet",
            "overhead": "follows from the RuntimeClass: set gpu.runtimeClassName",
            "os": "not supported in podTemplate: the images are for Linux",
        }
    )

    containers: list[AddedContainer] | None = None
    init_containers: list[_InitContainer] | None = None
    volumes: list[TemplateVolume] | None = None
    dns_config: Object | None = None
    dns_policy: Literal["ClusterFirst", "Default", "None"] | None = None
    host_aliases: list[Object] | None = None
    host_users: bool | None = None
    readiness_gates: list[Object] | None = None
    resources: ContainerResources | None = None
    scheduler_name: str | None = None
    scheduling_gates: list[Object] | None = None
    set_hostname_as_fqdn: bool | None = Field(None, alias="setHostnameAsFQDN")

    def conflicts(self) -> Iterator[tuple[Path, str]]:
        """Yield names that occur twice. Containers and init containers share their names."""
        lists = {"containers": self.containers, "initContainers": self.init_containers, "volumes": self.volumes}
        seen: set[tuple[bool, str]] = set()
        for field, items in lists.items():
            for index, item in enumerate(items or []):
                key = (field == "volumes", item.name)
                if key in seen:
                    yield (field, index, "name"), f"{item.name} is the name of another item"
                seen.add(key)


class Template(Part):
    """A template in the notation of Kubernetes."""

    refused = reasons({"metadata": NO_METADATA})

    spec: PodSpec
