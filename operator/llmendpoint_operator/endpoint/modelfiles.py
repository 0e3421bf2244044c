"""Reads the ConfigMaps from which the models of an endpoint take their Modelfiles.

The texts become part of the endpoint's own ConfigMap, which the sidecar reloads. If the ConfigMaps were mounted, a new
reference would replace all pods. They belong to users and have no label of ours, so a watch would have to show all
ConfigMaps of the cluster. They are read again every 30 s instead, only for endpoints that refer to them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from llmendpoint_common.api.endpoint.models import ConfigMapKey
from llmendpoint_common.api.endpoint.spec import LLMEndpointSpec
from llmendpoint_common.api.translate.modelfiles import with_modelfiles
from llmendpoint_common.contracts.cluster import FaultReason
from llmendpoint_operator.cluster.client import API_ERRORS
from llmendpoint_operator.cluster.faults import classify, describe
from llmendpoint_operator.cluster.keys import ChildKey, Key
from llmendpoint_operator.cluster.objects import Objects
from llmendpoint_operator.kube.fault import Fault

log = logging.getLogger(__name__)

_READ_AGAIN = timedelta(seconds=30)


@dataclass(frozen=True)
class Resolved:
    """A spec in which all Modelfiles are inline, or what is wrong: a sentence about the spec, or a fault.

    `texts` has the Modelfiles that are not in the spec of the manifest, by the name of the model.
    """

    spec: LLMEndpointSpec
    texts: Mapping[str, str] = field(default_factory=dict)
    invalid: str = ""
    fault: Fault | None = None


@dataclass
class _Read:
    """The Modelfiles of an endpoint as they were last read, by the name of the model."""

    generation: int
    time: datetime
    texts: dict[str, str] = field(default_factory=dict)


class MissingTextError(Exception):
    """A ConfigMap or its key does not exist. The message is a sentence with advice."""


class Modelfiles:
    """Modelfiles in ConfigMaps of users, for all endpoints."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._read: dict[Key, _Read] = {}

    async def resolve(self, key: Key, generation: int, spec: LLMEndpointSpec, now: datetime) -> Resolved:
        """Return the spec with the texts of its Modelfiles. Reads nothing if it refers to no ConfigMap."""
        wanted = [
            (model.name, model.modelfile.config_map_key_ref)
            for model in spec.models
            if model.modelfile is not None and model.modelfile.config_map_key_ref is not None
        ]
        if not wanted:
            self._read.pop(key, None)
            return Resolved(spec)
        child = ChildKey("ConfigMap", key.name)
        try:
            texts = await self._texts(key, generation, wanted, now)
        except MissingTextError as error:
            return Resolved(spec, fault=Fault(FaultReason.REFERENCE_NOT_FOUND, str(child), f"{child}: {error}"))
        except API_ERRORS as error:
            return Resolved(spec, fault=classify(error, child))
        try:
            return Resolved(with_modelfiles(spec, texts), texts)
        except ValueError as error:
            return Resolved(spec, invalid=f"spec.models: the Modelfile in a ConfigMap is invalid. {error}")

    def forget(self, key: Key) -> None:
        """Forget an endpoint that no longer exists."""
        self._read.pop(key, None)

    async def _texts(
        self, key: Key, generation: int, wanted: Sequence[tuple[str, ConfigMapKey]], now: datetime
    ) -> dict[str, str]:
        known = self._read.get(key)
        if known is not None and known.generation == generation and now - known.time < _READ_AGAIN:
            return known.texts
        try:
            texts = {name: await self._text(key.namespace, name, reference) for name, reference in wanted}
        except API_ERRORS as error:
            # The API server may be busy. What was read before is still the best guess.
            if known is None or known.generation != generation:
                raise
            log.info("%s: cannot read the ConfigMaps of its Modelfiles: %s", key, describe(error))
            return known.texts
        except MissingTextError:
            self._read.pop(key, None)
            raise
        self._read[key] = _Read(generation, now, texts)
        return texts

    async def _text(self, namespace: str, model: str, reference: ConfigMapKey) -> str:
        found = await self._objects.get("ConfigMap", namespace, reference.name)
        where = f"The Modelfile of {model} is missing"
        advice = "Create it, or correct spec.models[].modelfile.configMapKeyRef."
        if found is None:
            raise MissingTextError(f"{where}: ConfigMap {reference.name} does not exist. {advice}")
        text = (found.get("data") or {}).get(reference.key)
        if not text:
            raise MissingTextError(f"{where}: ConfigMap {reference.name} has no key {reference.key}. {advice}")
        return str(text)
