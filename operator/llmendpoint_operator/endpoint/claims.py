"""Checks whether several replicas can share the existing claims that a spec names.

The access modes are not in the spec, so the operator reads the claims. It reads them once per generation of the spec,
unless a claim is the problem or is missing: then it reads them again with each reconcile, so that a corrected claim is
noticed.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from llmendpoint_common.api.endpoint.spec import LLMEndpointSpec
from llmendpoint_operator.cluster.client import API_ERRORS
from llmendpoint_operator.cluster.faults import describe
from llmendpoint_operator.cluster.keys import Key
from llmendpoint_operator.cluster.objects import Objects

log = logging.getLogger(__name__)

_ONE_NODE = {"ReadWriteOnce": "the pods of one node", "ReadWriteOncePod": "one pod"}


class SharedClaims:
    """Access modes of the existing claims that endpoints with several replicas use."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._checked: dict[Key, int] = {}

    async def problem(self, key: Key, generation: int, spec: LLMEndpointSpec) -> str:
        """Return a sentence that names the field, or nothing if the replicas can share their claims."""
        named = _named(spec)
        if not named or spec.most_replicas < 2 or self._checked.get(key) == generation:
            return ""
        complete = True
        for field, name in named.items():
            try:
                claim = await self._objects.get("PersistentVolumeClaim", key.namespace, name)
            except API_ERRORS as error:
                log.info("%s: cannot read PersistentVolumeClaim %s: %s", key, name, describe(error))
                return ""
            modes = ((claim or {}).get("spec") or {}).get("accessModes") or []
            # If the claim does not exist, the scheduler says so.
            complete = complete and claim is not None
            if claim is not None and all(mode in _ONE_NODE for mode in modes):
                return _sentence(field, name, modes, spec)
        if complete:
            self._checked[key] = generation
        return ""

    def forget(self, key: Key) -> None:
        """Forget an endpoint that no longer exists."""
        self._checked.pop(key, None)


def _named(spec: LLMEndpointSpec) -> dict[str, str]:
    """Return the names of the existing claims that all replicas use, by the path of the field."""
    found = {"spec.storage.claimName": spec.storage.claim_name} if spec.storage.claim_name else {}
    typed = [volume.model_dump(by_alias=True) for volume in spec.pod.volumes]
    added = (spec.pod_template or {}).get("spec", {}).get("volumes", [])
    return found | _in_volumes("spec.pod.volumes", typed) | _in_volumes("spec.podTemplate.spec.volumes", added)


def _in_volumes(path: str, volumes: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    return {
        f"{path}[{index}].persistentVolumeClaim.claimName": claim["claimName"]
        for index, volume in enumerate(volumes)
        if (claim := volume.get("persistentVolumeClaim"))
    }


def _sentence(field: str, name: str, modes: Sequence[str], spec: LLMEndpointSpec) -> str:
    replicas = "replicas" if spec.autoscaling is None else "autoscaling.maxReplicas"
    allowed = " or ".join(_ONE_NODE[mode] for mode in modes)
    advice = (
        "use a claim with the access mode ReadWriteMany, or create an endpoint with spec.storage.type: "
        "PersistentVolumeClaim."
        if field == "spec.storage.claimName"
        else "or use a claim with the access mode ReadWriteMany or ReadOnlyMany."
    )
    return (
        f"spec.{replicas}: {spec.most_replicas} replicas cannot share PersistentVolumeClaim {name} ({field}), because "
        f"its access mode {' and '.join(modes)} allows only {allowed} to use it. Set spec.{replicas} to 1, {advice}"
    )
