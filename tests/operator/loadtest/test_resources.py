"""Children of a load test."""

from __future__ import annotations

from typing import Any

from llmendpoint_common.api.loadtest.spec import parse_spec
from llmendpoint_common.api.translate.run_document import ResolvedTarget, run_document
from llmendpoint_common.contracts.loadrun import (
    Api,
    Arrivals,
    MetricName,
    Objective,
    Order,
    RunDocument,
    RunLoad,
    RunQuestions,
    RunRequest,
    RunTarget,
    parse_run_document,
)
from llmendpoint_operator.kube.owner import Owner
from llmendpoint_operator.loadtest.resources.job import job
from llmendpoint_operator.loadtest.resources.questions import snapshot
from llmendpoint_operator.loadtest.resources.rbac import access
from llmendpoint_operator.loadtest.resources.run import run_config_map
from llmendpoint_operator.settings import ChildSettings, Images
from support.documents.restricted import assert_restricted

OWNER = Owner("LoadTest", "ns", "smoke", "uid-1")
SETTINGS = ChildSettings(Images("sidecar:1", "loadjob:1", "ollama:1", pull_secrets=("regcred",)))
QUESTIONS = {"metadata": {"name": "q"}, "data": {"q.yaml": "category: Q\n"}}
TARGET = ResolvedTarget("http://x", Api.OLLAMA_CHAT, "tiny:latest")
SPEC: dict[str, Any] = {
    "load": {"rate": 2, "arrivals": "Constant", "duration": "1m", "warmup": "5s", "seed": 7, "maxRequests": 9},
    "dataset": {"questions": {"categories": ["Math"], "order": "Sequential"}},
    "request": {"stream": False, "temperature": 0, "maxTokens": 5, "timeout": "90s"},
    "slo": [
        {"metric": "RequestLatency", "percentile": 99, "threshold": "30s"},
        {"metric": "ErrorRate", "threshold": "1%"},
    ],
}


def document(target: ResolvedTarget = TARGET, **spec: Any) -> RunDocument:
    return run_document(parse_spec({"spec": {"endpointRef": {"name": "a"}, **spec}}), target)


def pod(**spec: Any) -> dict[str, Any]:
    parsed = parse_spec({"spec": {"endpointRef": {"name": "a"}, **spec}})
    return dict(job(OWNER, parsed, snapshot(OWNER, [QUESTIONS]), SETTINGS)["spec"]["template"]["spec"])


def test_pods_meet_the_restricted_standard() -> None:
    assert_restricted(pod())


def test_a_load_pods_token_may_patch_its_result_and_nothing_else() -> None:
    role = next(item for item in access(OWNER) if item["kind"] == "Role")
    assert role["rules"] == [
        {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["smoke-result-0"], "verbs": ["patch"]}
    ]


def test_a_load_tests_spec_becomes_a_run_document() -> None:
    assert document(ResolvedTarget("http://x", Api.OLLAMA_CHAT, "m:1"), **SPEC) == RunDocument(
        target=RunTarget("http://x", Api.OLLAMA_CHAT),
        model="m:1",
        load=RunLoad(
            rate=2.0, arrivals=Arrivals.CONSTANT, duration_seconds=60, warmup_seconds=5, max_requests=9, seed=7
        ),
        questions=RunQuestions(("Math",), Order.SEQUENTIAL),
        request=RunRequest(stream=False, max_tokens=5, temperature=0, timeout_seconds=90),
        objectives=(Objective(MetricName.REQUEST_LATENCY, 30, 99), Objective(MetricName.ERROR_RATE, 0.01)),
    )


def test_the_config_map_holds_the_document_and_the_pod_reads_it() -> None:
    wanted = document(**SPEC)
    config_map = run_config_map(OWNER, wanted)
    assert config_map["metadata"]["name"] == "smoke-run"
    assert config_map["metadata"]["labels"]["app.kubernetes.io/component"] == "run"
    assert parse_run_document(config_map["data"]["run.json"].encode(), "run.json") == wanted
    spec = pod(**SPEC)
    (container,) = spec["containers"]
    assert "--run=/etc/llmendpoint/run/run.json" in container["args"]
    assert {"name": "run", "mountPath": "/etc/llmendpoint/run", "readOnly": True} in container["volumeMounts"]
    assert {"name": "run", "configMap": {"name": "smoke-run"}} in spec["volumes"]


def test_the_command_line_is_the_same_for_each_run() -> None:
    (plain,), (other,) = pod()["containers"], pod(**SPEC)["containers"]
    assert plain["args"] == other["args"]


def test_a_load_tests_key_is_a_file_that_only_the_pod_can_read() -> None:
    request = {"apiKeySecretRef": {"name": "keys", "key": "..HOME"}}
    spec = pod(request=request)
    (container,) = spec["containers"]
    secret = {"secretName": "keys", "defaultMode": 0o440, "items": [{"key": "..HOME", "path": "key"}]}
    assert {"name": "api-key", "secret": secret} in spec["volumes"]
    assert {"name": "api-key", "mountPath": "/etc/llmendpoint/api-key", "readOnly": True} in container["volumeMounts"]
    # Kubelet gives the file to this group, and the user of the container belongs to it.
    assert spec["securityContext"]["fsGroup"] == spec["securityContext"]["runAsGroup"]
    assert "--api-key-file=/etc/llmendpoint/api-key/key" in container["args"]
    assert "env" not in container
    assert document(request=request) == document()


def test_a_run_without_a_key_has_no_volume_for_it() -> None:
    spec = pod()
    assert "api-key" not in [volume["name"] for volume in spec["volumes"]]
    assert not [flag for flag in spec["containers"][0]["args"] if "key" in flag]


def _volume(*sources: dict[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the copies of the sources, and the sources of the volume in the pod."""
    copies = snapshot(OWNER, sources)
    spec = job(OWNER, parse_spec({"spec": {"endpointRef": {"name": "a"}}}), copies, SETTINGS)["spec"]["template"][
        "spec"
    ]
    (volume,) = [volume for volume in spec["volumes"] if volume["name"] == "questions"]
    return copies, volume["projected"]["sources"]


def test_two_config_maps_with_the_same_entry_are_both_in_the_pod() -> None:
    sources = [{"metadata": {"name": name}, "data": {"questions.yaml": name, "README": ""}} for name in ("one", "two")]
    copies, mounted = _volume(*sources)
    assert [copy["data"] for copy in copies] == [{"questions.yaml": "one"}, {"questions.yaml": "two"}]
    assert [source["configMap"] for source in mounted] == [
        {"name": "smoke-questions-0", "items": [{"key": "questions.yaml", "path": "one/questions.yaml"}]},
        {"name": "smoke-questions-1", "items": [{"key": "questions.yaml", "path": "two/questions.yaml"}]},
    ]


def test_the_suffix_of_an_entry_may_be_in_any_case() -> None:
    copies, _ = _volume({"metadata": {"name": "mine"}, "data": {"a.YAML": "", "b.Yml": "", "c.json": ""}})
    assert [sorted(copy["data"]) for copy in copies] == [["a.YAML", "b.Yml"]]


def test_a_config_map_that_is_named_twice_is_mounted_once() -> None:
    copies, mounted = _volume(QUESTIONS, QUESTIONS)
    assert (len(copies), len(mounted)) == (1, 1)


def test_a_file_that_is_not_utf_8_reaches_the_load_generator_which_says_so() -> None:
    copies, mounted = _volume({"metadata": {"name": "mine"}, "binaryData": {"mine.yaml": "/w==", "photo.png": "/w=="}})
    assert [copy.get("binaryData") for copy in copies] == [{"mine.yaml": "/w=="}]
    assert mounted[0]["configMap"]["items"] == [{"key": "mine.yaml", "path": "mine/mine.yaml"}]
