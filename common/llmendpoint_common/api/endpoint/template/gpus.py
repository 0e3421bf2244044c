"""GPUs in `spec.podTemplate`: refused, because `spec.gpu` is the place for the GPUs of a replica.

The status, the metrics of GPUs and the costs count `spec.gpu`. GPUs of other containers would be missing there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from llmendpoint_common.api.endpoint.gpu import GPU_NAMES
from llmendpoint_common.api.endpoint.template.part import UNSUPPORTED, Object, Path, instead

#: Kubernetes makes claims of dynamic resource allocation for resources with this prefix (KEP-5004).
_CLAIMED: Final = "deviceclass.resource.kubernetes.io/"
_COUNT: Final = f"{instead('gpu.count')}: only Ollama has GPUs, which the status and the costs count"
_CLAIMS: Final = f"{UNSUPPORTED}; spec.gpu.resourceClaims gives claims to Ollama"


def gpu_problems(template: Object, resource: str) -> Iterator[tuple[Path, str]]:
    """Yield the GPUs in a valid template. `resource` is the extended resource of the endpoint's own GPUs."""
    for path, resources in _resources(template["spec"]):
        for field in ("requests", "limits"):
            for name in resources.get(field, {}):
                if name == resource or re.fullmatch(GPU_NAMES, name):
                    yield (*path, "resources", field, name), _COUNT
                elif name.startswith(_CLAIMED):
                    yield (*path, "resources", field, name), _CLAIMS


def _resources(spec: Object) -> Iterator[tuple[Path, Object]]:
    """Yield the resources of the pod and of its containers, with the path of the pod or container."""
    yield ("spec",), spec.get("resources", {})
    for kind in ("containers", "initContainers"):
        for index, container in enumerate(spec.get(kind, [])):
            yield ("spec", kind, index), container.get("resources", {})
