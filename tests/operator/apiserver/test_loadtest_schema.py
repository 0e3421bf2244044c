"""Invalid load tests and schedules, which the API server rejects with a message that names the field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.client.exceptions import ApiException

from llmendpoint_common.api.loadtest.spec import parse_spec
from llmendpoint_common.contracts.cluster import LOADTEST
from support.api_server.manifests import loadtest, schedule

SAMPLES = Path(__file__).parents[3] / "manifests/samples"
#: Labels that the operator sets itself.
OWN_LABELS = ["llmendpoint.dev/endpoint", "llmendpoint.dev/anything", "app.kubernetes.io/name",
              "app.kubernetes.io/instance", "app.kubernetes.io/component", "app.kubernetes.io/managed-by"]  # fmt: skip
SLO = [{"metric": "ErrorRate", "threshold": "1%"}]
TRACE = {"configMapKeyRef": {"name": "traces", "key": "a.jsonl"}}
TLS = {"url": "https://x", "caBundleRef": {"name": "ca", "key": "ca.crt"}}
OPENAI = {"url": "http://x", "protocol": "OpenAI"}

LOADTESTS: list[tuple[dict[str, Any], str]] = [
    ({"endpointRef": None}, "exactly one of endpointRef and target"),
    ({"target": {"url": "http://x"}, "model": "m:1"}, "exactly one of endpointRef and target"),
    ({"endpointRef": None, "target": {"url": "http://x"}}, "model is required if target is set"),
    ({"load": {"concurrency": 1, "rate": "2"}}, "set at most one of concurrency"),
    ({"load": {"sessions": {"users": 1}, "rate": "2"}}, "set at most one of concurrency"),
    ({"load": {"arrivals": "Constant"}}, "load.arrivals requires an open loop"),
    ({"load": {"concurrency": 2, "arrivals": "Constant"}}, "arrivals requires an open loop"),
    ({"load": {"maxInFlight": 2}}, "load.maxInFlight requires an open loop"),
    (
        {"load": {"stages": [{"duration": "1m", "concurrency": 2}], "maxInFlight": 2}},
        "maxInFlight requires an open loop",
    ),
    ({"load": {"rate": 1, "thinkTime": "1s"}}, "thinkTime requires a closed loop"),
    ({"load": {"rate": 1, "arrivals": "Gamma"}}, "burstiness is required if arrivals is Gamma"),
    ({"load": {"rate": 1, "burstiness": "0.5"}}, "burstiness is required if arrivals is Gamma"),
    ({"load": {"rate": 1, "arrivals": "Gamma", "burstiness": 0}}, "must be more than 0 and at most 1000"),
    ({"load": {"stages": []}}, "spec.load.stages"),
    ({"load": {"stages": [{"duration": "1m"}]}}, "set exactly one of concurrency and rate in a stage"),
    ({"load": {"stages": [{"duration": "0s", "rate": 1}]}}, "must be longer than 0"),
    (
        {"load": {"stages": [{"duration": "1m", "rate": 1}, {"duration": "1m", "concurrency": 1}]}},
        "stages must all have a rate, or all have a concurrency",
    ),
    ({"load": {"stages": [{"duration": "1m", "rate": 1}], "duration": "1m"}}, "duration is not allowed with stages"),
    ({"load": {"stages": [{"duration": "1m", "rate": 0}]}}, "at least one of the stages must have a load above 0"),
    (
        {"load": {"stages": [{"duration": "1m", "rate": "0.0"}, {"duration": "1m", "rate": 0, "ramp": True}]}},
        "at least one of the stages must have a load above 0",
    ),
    ({"load": {"stages": [{"duration": "1m", "concurrency": 0}]}}, "at least one of the stages must have a load above"),
    ({"load": {"sweep": {"maxRate": 9}}}, "load.sweep requires objectives in slo"),
    ({"load": {"sweep": {"maxRate": 1, "minRate": 2}}, "slo": SLO}, "minRate must be less than maxRate"),
    ({"load": {"sweep": {"maxRate": 9, "precision": "100%"}}, "slo": SLO}, "spec.load.sweep.precision"),
    ({"load": {"sweep": {"maxRate": 9}, "parallelism": 2}, "slo": SLO}, "sweep requires parallelism 1"),
    ({"scenario": "Sweep", "load": {"parallelism": 2}}, "the scenario Sweep requires load.parallelism 1"),
    ({"scenario": "Marathon"}, "spec.scenario"),
    ({"load": {"concurrency": 1, "parallelism": 2}}, "parallelism must not be more than concurrency"),
    ({"load": {"rate": 5, "maxInFlight": 2, "parallelism": 3}}, "parallelism must not be more than maxInFlight"),
    ({"load": {"parallelism": 0}}, "spec.load.parallelism"),
    ({"load": {"drainTimeout": "999999999s"}}, "must be at most 720h"),
    (
        {"dataset": {"questions": {}, "synthetic": {"inputTokens": 1, "outputTokens": 1}}},
        "set at most one of questions",
    ),
    ({"dataset": {"synthetic": {"inputTokens": 0, "outputTokens": 1}}}, "spec.dataset.synthetic.inputTokens"),
    ({"dataset": {"trace": TRACE}, "load": {"concurrency": 1}}, "dataset.trace determines when requests are sent"),
    ({"dataset": {"trace": TRACE | {"timeScale": "0"}}}, "must be more than 0 and at most 1000000"),
    ({"stopWhenSaturated": True}, "stopWhenSaturated requires an open loop"),
    ({"baselineRef": {"name": "wrong"}}, "spec.baselineRef must name another LoadTest"),
    ({"baselineRef": {"name": "a", "maxRegression": "10"}}, "spec.baselineRef.maxRegression"),
    ({"request": {"type": "Embed"}}, "spec.request.type"),
    ({"request": {"body": {"model": "x"}}}, "model is set by the run; remove it"),
    ({"request": {"body": {"messages": [1]}}}, "spec.request.body.messages"),
    ({"request": {"options": {f"o{index}": 1 for index in range(65)}}}, "spec.request.options"),
    ({"request": {"headers": [{"name": "a b", "value": ""}]}}, "spec.request.headers"),
    ({"request": {"headers": [{"name": "a", "value": "b\r\nc: d"}]}}, "spec.request.headers"),
    ({"request": {"headers": [{"name": "Authorization", "value": "x"}]}}, "credentials belong into apiKeySecretRef"),
    ({"results": {"persistentVolumeClaim": {"claimName": "A"}}}, "spec.results.persistentVolumeClaim.claimName"),
    ({"results": {}}, "spec.results.persistentVolumeClaim"),
    *(
        ({"endpointRef": None, "model": "m", **change}, sentence)
        for change, sentence in (
            ({"target": TLS | {"url": "http://x"}}, "caBundleRef requires a url that begins with https"),
            ({"target": TLS | {"insecureSkipVerify": True}}, "set only one of caBundleRef and insecureSkipVerify"),
            ({"target": {"url": "http://x", "insecureSkipVerify": True}}, "insecureSkipVerify requires a url"),
            ({"target": OPENAI, "request": {"type": "Generate"}}, "Generate is not available for a target"),
            ({"target": OPENAI, "request": {"options": {"top_k": 1}}}, "request.options are options of Ollama"),
        )
    ),
    ({"load": {"duration": "5 minutes"}}, "spec.load.duration"),
    ({"slo": [{"metric": "TTFT", "threshold": "1s"}]}, "percentile is required for TTFT"),
    ({"slo": [{"metric": "ErrorRate", "threshold": "1s"}]}, "must be a percentage such as 1% for ErrorRate"),
    ({"slo": [{"metric": "TTFT", "percentile": 95, "threshold": "1%"}]}, "a duration such as 250ms for TTFT"),
    ({"slo": [{"metric": "Speed", "threshold": "1%"}]}, "spec.slo"),
    *(
        ({"slo": [{"metric": "TTFT", "percentile": 95, "threshold": long}]}, "a latency must be at most 720h")
        for long in ("721h", "720h1ms", "10000000000h", f"{10**15}s")
    ),
    *(
        ({"slo": [{"metric": "Attainment", "threshold": share}]}, "threshold of Attainment must be more than 0%")
        for share in ("0%", "00%", "0.00%")
    ),
    *(
        ({"slo": [{"metric": "ErrorRate", "threshold": share}]}, "threshold of ErrorRate must be less than 100%")
        for share in ("100%", "100.0%", f"99.{'9' * 20}%")
    ),
    *(
        ({"load": {"rate": rate}}, "spec.load.rate: Invalid value: .*must be more than 0 and at most 100000 requests")
        for rate in ("0", 0, "0.0", -1, 100_001, "100000.1")
    ),
    ({"load": {"duration": "0s"}}, "spec.load.duration: Invalid value: .*must be longer than 0"),
    ({"load": {"warmup": "123456789s"}}, "spec.load.warmup: Invalid value: .*must be at most 720h"),
    ({"request": {"timeout": "0m0s"}}, "spec.request.timeout: Invalid value: .*must be longer than 0"),
    ({"request": {"temperature": -1}}, "spec.request.temperature: Invalid value: .*must be a number from 0 to 100"),
    ({"request": {"apiKeySecretRef": {"name": "a", "key": "my key"}}}, "spec.request.apiKeySecretRef.key"),
    ({"model": "two\nlines"}, "spec.model"),
    *(
        ({"pod": {"labels": {label: "x"}}}, "spec.pod.labels: Invalid value: .*the operator sets the labels")
        for label in OWN_LABELS
    ),
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
            "http://a..b",
            f"http://{'a' * 64}.b",
        )
    ),
]


@pytest.mark.parametrize(("change", "sentence"), LOADTESTS)
def test_a_wrong_load_test_is_refused_by_name(api: Any, change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ApiException, match=sentence.replace(".", r"\.").replace(r"\.*", ".*")):
        api.apply(loadtest("wrong", **change))


ACCEPTED_LOADS: list[dict[str, Any]] = [
    {"scenario": "Baseline", "load": {"arrivals": "Constant", "rate": "0.5"}},
    {"scenario": "Stress", "stopWhenSaturated": True, "load": {"rate": 5}},
    {"load": {"rate": 5, "arrivals": "Gamma", "burstiness": "0.5", "maxInFlight": 32, "parallelism": 32}},
    {"load": {"stages": [{"duration": "1m", "rate": 0}, {"duration": "1m", "rate": "2.5", "ramp": True}]}},
    {"load": {"stages": [{"duration": "1m", "concurrency": 0}, {"duration": "1m", "concurrency": 1}]}},
    {"load": {"sweep": {"maxRate": 9}}, "slo": SLO},
    {"load": {"sessions": {"users": 2, "turns": 3}, "thinkTime": "1500ms", "drainTimeout": "0s"}},
    {"dataset": {"trace": TRACE | {"timeScale": "0.5"}}, "load": {"duration": "1h"}},
    {"dataset": {"synthetic": {"inputTokens": 512, "outputTokens": 64}}},
    {
        "request": {
            "type": "Generate",
            "options": {"top_k": 1, "stop": ["a"]},
            "body": {"think": True, "keep_alive": "1h"},
        }
    },
    {"request": {"headers": [{"name": "X-Team", "value": "a b"}], "prefixCache": "Unique"}},
    {"endpointRef": None, "model": "m", "target": TLS},
    {"baselineRef": {"name": "last-release", "maxRegression": "2.5%"}, "suspend": True},
    {"results": {"persistentVolumeClaim": {"claimName": "runs"}}},
]


@pytest.mark.parametrize("change", ACCEPTED_LOADS)
def test_every_kind_of_load_is_accepted_as_written(api: Any, change: dict[str, Any]) -> None:
    api.apply(loadtest("load", **change))
    spec = api.get(LOADTEST, "load")["spec"]
    parse_spec({"spec": spec})
    for name in ("options", "body"):
        assert spec.get("request", {}).get(name) == change.get("request", {}).get(name)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"schedule": "0 3 * *"}, "spec.schedule"),
        ({"schedule": "TZ=UTC 0 3 * * *"}, "spec.schedule"),
        ({"schedule": "@every 5m"}, "spec.schedule"),
        ({"timeZone": "Local"}, "must be the name of a time zone"),
        ({"timeZone": "../etc/passwd"}, "spec.timeZone"),
        ({"concurrencyPolicy": "Queue"}, "spec.concurrencyPolicy"),
        ({"startingDeadlineSeconds": 5}, "spec.startingDeadlineSeconds"),
        ({"successfulRunsHistoryLimit": -1}, "spec.successfulRunsHistoryLimit"),
        ({"failedRunsHistoryLimit": 101}, "spec.failedRunsHistoryLimit"),
        ({"template": {"spec": {}}}, "set exactly one of endpointRef and target"),
        ({"template": {"spec": {"endpointRef": {"name": "a"}, "load": {"rate": "0"}}}}, "must be more than 0"),
        ({"template": None}, "spec.template"),
    ],
)
def test_a_wrong_schedule_is_refused_by_name(api: Any, change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ApiException, match=sentence.replace(".", r"\.")):
        api.apply(schedule("wrong", **change))


def test_the_name_of_a_schedule_leaves_room_for_the_names_of_its_runs(api: Any) -> None:
    api.apply(schedule("a" * 40))
    with pytest.raises(ApiException, match="at most 40 characters"):
        api.apply(schedule("a" * 41))


@pytest.mark.parametrize("name", ["loadtest", "loadtest-sweep", "loadtestschedule"])
def test_the_samples_are_accepted(api: Any, name: str) -> None:
    api.apply(yaml.safe_load((SAMPLES / f"{name}.yaml").read_text()))


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
    api.apply(loadtest("started", suspend=True))
    api.apply(loadtest("started"))
    for change in ({"load": {"seed": 2}}, {"slo": [{"metric": "ErrorRate", "threshold": "1%"}]}, {"model": "m"}):
        with pytest.raises(ApiException, match="cannot be changed once the run has started, except suspend and ttl"):
            api.apply(loadtest("started", **change))
