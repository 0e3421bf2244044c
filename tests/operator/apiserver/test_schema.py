"""Invalid objects, which the API server rejects with a message that names the field."""

from __future__ import annotations

from typing import Any

import pytest
from kubernetes.client.exceptions import ApiException

from support.manifests import endpoint, loadtest

ENDPOINTS: list[tuple[dict[str, Any], str]] = [
    ({"models": []}, "spec.models"),
    ({"models": [{"name": "tiny"}]}, "write the model with its tag"),
    ({"models": [{"name": "a:1"}, {"name": "a:1"}]}, "spec.models: duplicate entries"),
    ({"gpu": {"count": -1}}, "spec.gpu.count"),
    ({"replicas": -1}, "spec.replicas"),
    (
        {"storage": {"type": "Ephemeral", "size": "5Gi"}},
        "size and storageClassName may only be set if type is PersistentVolumeClaim",
    ),
    ({"storage": {"type": "ExistingClaim"}}, "claimName is required if type is ExistingClaim"),
    (
        {"ollama": {"env": [{"name": "OLLAMA_HOST", "value": "0.0.0.0"}]}},
        "OLLAMA_HOST, OLLAMA_MODELS and HOME are set by the operator",
    ),
    ({"ollama": {"keepAlive": "soon"}}, "spec.ollama.keepAlive"),
    ({"service": {"port": 99999}}, "spec.service.port"),
    ({"metering": {"mode": "Exporter", "maxWaiting": 3}}, "are only allowed with mode Proxy"),
    ({"metering": {"mode": "Exporter", "stall": {"restart": True}}}, "are only allowed with mode Proxy"),
    ({"metering": {"stall": {"after": "9s"}}}, "after must be at least 10s"),
    ({"metering": {"tenants": [{"name": "a"}]}}, "tenants requires auth"),
    ({"metering": {"defaultTenant": {"requestsPerMinute": 0}}}, "spec.metering.defaultTenant.requestsPerMinute"),
    ({"metering": {"auth": {"secretRefs": []}}}, "spec.metering.auth.secretRefs"),
    ({"monitoring": {"mode": "Maybe"}}, "spec.monitoring.mode"),
    ({"models": [{"name": "a:1", "digest": "sha256:short"}]}, "digest"),
]


@pytest.mark.parametrize(("change", "sentence"), ENDPOINTS)
def test_a_wrong_endpoint_is_refused_by_name(api: Any, change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ApiException, match=sentence.replace(".", r"\.")):
        api.apply(endpoint("wrong", **change))


@pytest.mark.parametrize("name", ["a" * 41, "1abc", "a.b"])
def test_a_name_that_children_could_not_carry_is_refused(api: Any, name: str) -> None:
    with pytest.raises(ApiException, match="at most 40 characters"):
        api.apply(endpoint(name))


LOADTESTS: list[tuple[dict[str, Any], str]] = [
    ({"endpointRef": None}, "exactly one of endpointRef and target"),
    ({"target": {"url": "http://x"}, "model": "m:1"}, "exactly one of endpointRef and target"),
    ({"endpointRef": None, "target": {"url": "http://x"}}, "model is required if target is set"),
    ({"load": {"concurrency": 1, "rate": "2"}}, "set at most one of concurrency"),
    ({"load": {"arrivals": "Constant"}}, "arrivals requires rate"),
    ({"load": {"duration": "5 minutes"}}, "spec.load.duration"),
    ({"slo": [{"metric": "TTFT", "threshold": "1s"}]}, "percentile is required for TTFT"),
    ({"slo": [{"metric": "ErrorRate", "threshold": "1s"}]}, "must be a percentage such as 1% for ErrorRate"),
    ({"slo": [{"metric": "TTFT", "percentile": 95, "threshold": "1%"}]}, "a duration such as 250ms for TTFT"),
    ({"slo": [{"metric": "Speed", "threshold": "1%"}]}, "spec.slo"),
]


@pytest.mark.parametrize(("change", "sentence"), LOADTESTS)
def test_a_wrong_load_test_is_refused_by_name(api: Any, change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ApiException, match=sentence.replace(".", r"\.")):
        api.apply(loadtest("wrong", **change))


def test_numbers_may_be_written_with_or_without_quotes(api: Any) -> None:
    api.apply(loadtest("quoted", load={"rate": "0.5"}))
    api.apply(loadtest("plain", load={"rate": 2}))


def test_storage_cannot_be_changed(api: Any) -> None:
    api.apply(endpoint("fixed", storage={"size": "5Gi"}))
    with pytest.raises(ApiException, match="storage cannot be changed"):
        api.apply(endpoint("fixed", storage={"size": "9Gi"}))
