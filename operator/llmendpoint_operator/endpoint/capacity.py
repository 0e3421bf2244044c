"""The capacity of an endpoint: what the newest load test measured that passed under its present configuration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from llmendpoint_common.api.endpoint.spec import LLMEndpointSpec
from llmendpoint_operator.cluster.snapshots import hash_of


def configuration_hash(spec: LLMEndpointSpec, image: str) -> str:
    """Return the hash of what decides the speed of a replica, apart from the models: its GPUs and its Ollama.

    Defaults do not count, so that a new field of a later version does not change the hash. `image` is the effective
    image of Ollama.
    """
    gpu = spec.wanted_gpu
    devices = {"count": gpu.devices, "resource": gpu.device_resource if gpu.devices else ""}
    others = gpu.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude={"count", "resource"})
    ollama = spec.ollama.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return hash_of({"gpu": devices | others, "ollama": {**ollama, "image": image}})


def capacity(
    before: dict[str, Any] | None,
    measured: Iterable[dict[str, Any]],
    configuration: str,
    digests: Mapping[str, list[str]],
) -> dict[str, Any] | None:
    """Return the newest of these results that is about the present configuration, or None if there is none.

    `before` is the present `status.capacity`, whose load test may have been deleted. `digests` are those of the models
    on the replicas, by the name of the model. If none is known at the moment, they are taken to be as before.
    """
    found = [
        result
        for result in ([before] if before else []) + list(measured)
        if result.get("configurationHash") == configuration and _has_digest(result, digests)
    ]
    return max(found, key=lambda result: str(result["measurementTime"]), default=None)


def _has_digest(result: dict[str, Any], digests: Mapping[str, list[str]]) -> bool:
    present = digests.get(result["model"])
    return present is not None and (not present or ",".join(present) == result.get("modelDigest"))
