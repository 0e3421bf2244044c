"""What every pod of the operator has in common: the restricted Pod Security Standard."""

from __future__ import annotations

from typing import Any

from llmendpoint_common.api.fields import LocalReference, Resources, Toleration

#: An id that no image of ours or of Ollama knows: files are reached through the group.
USER_ID = 64000


def pod_security_context() -> dict[str, Any]:
    """Return the pod's security context."""
    return {
        "runAsNonRoot": True,
        "runAsUser": USER_ID,
        "runAsGroup": USER_ID,
        "fsGroup": USER_ID,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security_context() -> dict[str, Any]:
    """Return a container's security context."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def resources(given: Resources, requests: dict[str, str], limits: dict[str, str] | None = None) -> dict[str, Any]:
    """Return resources: what was given, over defaults."""
    merged = {"requests": {**requests, **given.requests}, "limits": {**(limits or {}), **given.limits}}
    return {name: value for name, value in merged.items() if value}


def placement(
    node_selector: dict[str, str], tolerations: list[Toleration], priority_class_name: str | None
) -> dict[str, Any]:
    """Return the pod fields that place it, without empty ones."""
    fields: dict[str, Any] = {
        "nodeSelector": node_selector,
        "tolerations": [toleration.model_dump(by_alias=True, exclude_none=True) for toleration in tolerations],
        "priorityClassName": priority_class_name,
    }
    return {name: value for name, value in fields.items() if value}


def pull_secrets(given: list[LocalReference], default: tuple[str, ...]) -> dict[str, Any]:
    """Return imagePullSecrets, without an empty list."""
    names = dict.fromkeys([*(reference.name for reference in given), *default])
    return {"imagePullSecrets": [{"name": name} for name in names]} if names else {}
