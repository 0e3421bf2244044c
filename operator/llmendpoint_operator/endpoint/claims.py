"""Checks whether several replicas can share an existing claim.

The access modes are not in the spec, so the operator reads the claim. It reads it once per generation of the spec,
unless the claim is the problem: then it reads it again with each reconcile, so that a corrected claim is noticed.
"""

from __future__ import annotations

import logging

from llmendpoint_common.api.endpoint.spec import LLMEndpointSpec
from llmendpoint_common.api.endpoint.storage import StorageType
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
        """Return a sentence that names the field, or nothing if the replicas can share their claim."""
        name, replicas = spec.storage.claim_name, spec.most_replicas
        if spec.storage.type is not StorageType.EXISTING_CLAIM or not name or replicas < 2:
            return ""
        if self._checked.get(key) == generation:
            return ""
        try:
            claim = await self._objects.get("PersistentVolumeClaim", key.namespace, name)
        except API_ERRORS as error:
            log.info("%s: cannot read PersistentVolumeClaim %s: %s", key, name, describe(error))
            return ""
        modes = ((claim or {}).get("spec") or {}).get("accessModes") or []
        if claim is None or not all(mode in _ONE_NODE for mode in modes):
            # If the claim does not exist, the scheduler says so.
            if claim is not None:
                self._checked[key] = generation
            return ""
        allowed = " or ".join(_ONE_NODE[mode] for mode in modes)
        field = "replicas" if spec.autoscaling is None else "autoscaling.maxReplicas"
        return (
            f"spec.{field}: {replicas} replicas cannot share PersistentVolumeClaim {name} (spec.storage.claimName), "
            "because "
            f"its access mode {' and '.join(modes)} allows only {allowed} to use it. Set spec.{field} to 1, use a "
            "claim with "
            "the access mode ReadWriteMany, or create an endpoint with spec.storage.type: PersistentVolumeClaim."
        )

    def forget(self, key: Key) -> None:
        """Forget an endpoint that no longer exists."""
        self._checked.pop(key, None)
