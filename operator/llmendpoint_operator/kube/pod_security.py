"""Security contexts of all pods that the operator creates, for the restricted Pod Security Standard."""

from __future__ import annotations

from typing import Any

from llmendpoint_common.api.endpoint.pod_security import PodSecurityContext
from llmendpoint_operator.kube.pod_fields import manifest_of

#: An ID that does not exist in our images or in Ollama's. Files are accessible through the group.
USER_ID = 64000


def pod_security_context(openshift: bool = False, given: PodSecurityContext | None = None) -> dict[str, Any]:
    """Return the security context of a pod. The fields of a spec, `given`, replace the defaults.

    On OpenShift, the SecurityContextConstraints restricted-v2 refuse every ID outside the range of the namespace, and
    assign the first ID of this range as user and fsGroup of pods that set none. The group is then 0. An ID of a spec
    is set nevertheless: the status quotes a refusal.
    """
    ids = {} if openshift else {"runAsUser": USER_ID, "runAsGroup": USER_ID, "fsGroup": USER_ID}
    return {
        "runAsNonRoot": True,
        **ids,
        "fsGroupChangePolicy": "OnRootMismatch",
        **(manifest_of(given) if given else {}),
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security_context() -> dict[str, Any]:
    """Return the security context of a container."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
