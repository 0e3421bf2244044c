"""Which measurement is the capacity of an endpoint."""

from __future__ import annotations

from typing import Any

import pytest

from llmendpoint_common.api.endpoint.spec import LLMEndpointSpec
from llmendpoint_operator.endpoint.capacity import capacity, configuration_hash

DIGESTS = {"tiny:latest": ["sha256:1"]}


def result(name: str = "a", time: str = "2026-01-01T00:00:00Z", **fields: Any) -> dict[str, Any]:
    return {"requestsPerSecond": "2", "tokensPerSecond": "80", "model": "tiny:latest", "replicas": 1, "loadTestRef": {"name": name},
            "measurementTime": time, "modelDigest": "sha256:1", "configurationHash": "h", **fields}  # fmt: skip


OLD, NEW = result("old"), result("new", "2026-01-02T00:00:00Z")


def test_the_newest_measurement_is_the_capacity() -> None:
    assert capacity(None, [NEW, OLD], "h", DIGESTS) == NEW
    assert capacity(OLD, [NEW], "h", DIGESTS) == NEW
    assert capacity(None, [], "h", DIGESTS) is None


def test_a_capacity_stays_when_its_load_test_is_deleted() -> None:
    assert capacity(NEW, [OLD], "h", DIGESTS) == NEW
    assert capacity(NEW, [], "h", DIGESTS) == NEW


@pytest.mark.parametrize(
    ("configuration", "digests"),
    [
        ("another", DIGESTS),
        ("h", {"tiny:latest": ["sha256:2"]}),
        # One replica has a newer version.
        ("h", {"tiny:latest": ["sha256:1", "sha256:2"]}),
        ("h", {"other:latest": ["sha256:1"]}),
    ],
)
def test_a_change_of_what_was_tested_removes_the_capacity(configuration: str, digests: dict[str, list[str]]) -> None:
    assert capacity(NEW, [OLD], configuration, digests) is None


def test_a_capacity_stays_while_no_replica_reports_a_digest() -> None:
    assert capacity(NEW, [], "h", {"tiny:latest": []}) == NEW


def test_an_earlier_measurement_counts_again_when_its_configuration_is_back() -> None:
    assert capacity(result("b", "2026-01-03T00:00:00Z", configurationHash="g"), [OLD], "h", DIGESTS) == OLD


def hash_of(**spec: Any) -> str:
    return configuration_hash(LLMEndpointSpec.model_validate({"models": [{"name": "tiny:latest"}], **spec}), "ollama:1")


@pytest.mark.parametrize(
    "spec",
    [
        {"gpu": {"count": 2}},
        {"gpu": {"products": ["NVIDIA-H200"]}},
        {"ollama": {"numParallel": 4}},
        {"ollama": {"env": [{"name": "OLLAMA_DEBUG", "value": "1"}]}},
    ],
)
def test_gpus_and_settings_of_ollama_change_the_hash(spec: dict[str, Any]) -> None:
    assert hash_of(**spec) != hash_of()


def test_defaults_and_other_fields_do_not_change_the_hash() -> None:
    assert hash_of(gpu={"count": 1, "resource": "nvidia.com/gpu"}) == hash_of()
    assert hash_of(replicas=3, service={"port": 80}, storage={"size": "80Gi"}) == hash_of()


def test_the_image_changes_the_hash() -> None:
    spec = LLMEndpointSpec.model_validate({"models": [{"name": "tiny:latest"}]})
    assert configuration_hash(spec, "ollama:2") != configuration_hash(spec, "ollama:1")
