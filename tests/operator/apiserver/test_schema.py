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
    *(
        ({"load": {"rate": rate}}, "spec.load.rate: Invalid value: .*must be more than 0 and at most 100000 requests")
        for rate in ("0", 0, "0.0", -1, 100_001, "100000.1")
    ),
    ({"load": {"duration": "0s"}}, "spec.load.duration: Invalid value: .*must be longer than 0"),
    ({"load": {"warmup": "123456789s"}}, "spec.load.warmup: Invalid value: .*must have at most 8 digits"),
    ({"request": {"timeout": "0m0s"}}, "spec.request.timeout: Invalid value: .*must be longer than 0"),
    ({"request": {"temperature": -1}}, "spec.request.temperature: Invalid value: .*must be a number from 0 to 100"),
    ({"request": {"apiKeySecretRef": {"name": "a", "key": "my key"}}}, "spec.request.apiKeySecretRef.key"),
    ({"model": "two\nlines"}, "spec.model"),
    ({"dataset": {"questions": {"categories": ["a\tb"]}}}, "spec.dataset.questions.categories"),
    *(
        ({"endpointRef": None, "model": "m", "target": {"url": url}}, "spec.target.url: Invalid value: .*must be a URL")
        for url in (
            "http://:80",
            "http://[::1",
            "http://x:99999",
            "http://x:0",
            "http://user:secret@x",
            "http://x?a=b",
            "http://[1::2::3]",
            "http://x/ä",
        )
    ),
]


@pytest.mark.parametrize(("change", "sentence"), LOADTESTS)
def test_a_wrong_load_test_is_refused_by_name(api: Any, change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ApiException, match=sentence.replace(".", r"\.").replace(r"\.*", ".*")):
        api.apply(loadtest("wrong", **change))


def test_numbers_may_be_written_with_or_without_quotes(api: Any) -> None:
    api.apply(loadtest("quoted", load={"rate": "0.5"}))
    api.apply(loadtest("plain", load={"rate": 2}))


@pytest.mark.parametrize("url", ["https://[2001:db8::1]:8443/v1", "http://[::ffff:10.0.0.1]", "http://x_y.z/a%20b;c"])
def test_a_url_with_any_kind_of_host_is_accepted(api: Any, url: str) -> None:
    api.apply(loadtest("other", endpointRef=None, model="m", target={"url": url}))


def test_only_what_does_not_affect_a_started_run_can_be_changed(api: Any) -> None:
    api.apply(loadtest("started", ttlSecondsAfterFinished=60))
    api.apply_status(loadtest("started") | {"spec": None, "status": {"startTime": "2026-01-02T03:04:05Z"}})
    api.apply(loadtest("started", ttlSecondsAfterFinished=3600))
    api.apply(loadtest("started"))
    for change in ({"load": {"seed": 2}}, {"slo": [{"metric": "ErrorRate", "threshold": "1%"}]}, {"model": "m"}):
        with pytest.raises(ApiException, match="cannot be changed once the run has started, except ttlSecondsAfterFin"):
            api.apply(loadtest("started", **change))


def test_storage_cannot_be_changed(api: Any) -> None:
    api.apply(endpoint("fixed", storage={"size": "5Gi"}))
    with pytest.raises(ApiException, match="storage cannot be changed"):
        api.apply(endpoint("fixed", storage={"size": "9Gi"}))
