"""The operator against a real API server, with only the shipped RBAC rules."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from kubernetes.client.exceptions import ApiException

from llmendpoint_common.contracts.loadrun import (
    MetricName,
    Objective,
    RunDocument,
    RunLoad,
    RunTarget,
    parse_run_document,
)
from llmendpoint_loadjob.result.timings import Sample
from support.api_server.manifests import endpoint, loadtest, pod
from support.api_server.pod_processes import pod_processes
from support.load.outcomes import Outcome, summarize
from support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("operator")

CHILDREN = {
    "ConfigMap/assistant", "Service/assistant", "Service/assistant-pods", "ServiceAccount/assistant", "StatefulSet/assistant",
    "NetworkPolicy/assistant",
}  # fmt: skip


def make(api: Any, **spec: Any) -> None:
    api.apply(endpoint("assistant", **spec))
    wait_until(lambda: api.children().keys() >= CHILDREN)


def test_an_endpoint_gets_its_children_and_a_status(api: Any) -> None:
    make(api, replicas=2, ollama={"numParallel": 3}, pod={"labels": {"team": "a"}})
    wait_until(lambda: api.conditions("LLMEndpoint", "assistant").get("Ready") == ("False", "Starting"))
    body = api.get("LLMEndpoint", "assistant")
    assert body["status"]["url"] == f"http://assistant.{api.namespace}.svc:11434"
    assert body["status"]["observedGeneration"] == 1
    assert "finalizers" not in body["metadata"]
    assert "annotations" not in body["metadata"]
    statefulset = api.get("StatefulSet", "assistant")
    assert statefulset["spec"]["replicas"] == 2
    assert statefulset["metadata"]["ownerReferences"][0]["uid"] == body["metadata"]["uid"]
    template = statefulset["spec"]["template"]
    assert template["metadata"]["labels"]["team"] == "a"
    assert template["spec"]["automountServiceAccountToken"] is False
    # This API server has neither the kind ServiceMonitor nor PodMonitor. The status reports it, and nothing else is affected.
    assert api.conditions("LLMEndpoint", "assistant")["MonitoringReady"] == ("Unknown", "Annotations")


def test_deleted_and_edited_children_heal(api: Any) -> None:
    make(api)
    before = api.get("Service", "assistant")["metadata"]["uid"]
    api.delete("Service", "assistant")
    wait_until(lambda: (api.get("Service", "assistant") or {}).get("metadata", {}).get("uid") not in (None, before))
    api.apply({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "assistant"},
               "spec": {"ports": [{"name": "http", "port": 11434, "targetPort": 11434, "protocol": "TCP"}]}})  # fmt: skip
    wait_until(lambda: api.get("Service", "assistant")["spec"]["ports"][0]["targetPort"] == "proxy")


def test_a_new_model_reaches_the_sidecar_without_touching_the_pods(api: Any) -> None:
    make(api)
    before = api.get("StatefulSet", "assistant")["metadata"]["generation"]
    api.apply(endpoint("assistant", models=[{"name": "tiny:latest"}, {"name": "other:1b", "load": "OnDemand"}]))
    wait_until(lambda: "other:1b" in api.get("ConfigMap", "assistant")["data"]["models.json"])
    assert api.get("StatefulSet", "assistant")["metadata"]["generation"] == before


def test_workers_of_the_sidecar_are_started_with_the_resources_that_they_need(api: Any) -> None:
    make(api)
    api.apply(endpoint("assistant", metering={"workers": 2}))

    def sidecar() -> dict[str, Any]:
        (container,) = api.get("StatefulSet", "assistant")["spec"]["template"]["spec"]["containers"]
        return dict(container)

    wait_until(lambda: "--workers=2" in sidecar()["args"])
    assert sidecar()["resources"]["requests"] == {"cpu": "200m", "memory": "192Mi", "ephemeral-storage": "64Mi"}
    api.apply(endpoint("assistant"))
    wait_until(lambda: "--workers=2" not in sidecar()["args"])


def test_nothing_is_written_when_nothing_changes(api: Any) -> None:
    make(api)
    wait_until(lambda: api.conditions("LLMEndpoint", "assistant"))

    def rests() -> bool:
        """Return whether nothing is written during two polls of an endpoint whose pods do not exist."""
        before = api.children(), api.get("LLMEndpoint", "assistant")["metadata"]["resourceVersion"]
        time.sleep(5)
        return (api.children(), api.get("LLMEndpoint", "assistant")["metadata"]["resourceVersion"]) == before

    wait_until(rests)


PORT = {"port": 1, "protocol": "TCP"}
STRANGERS = [
    {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "assistant"}, "data": {"models.json": "{}"}},
    {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "assistant", "annotations": {"role": "theirs"}},
    },
    {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "assistant-pods"}, "spec": {"ports": [PORT]}},
]


def without_server_fields(body: dict[str, Any]) -> dict[str, Any]:
    """Return what a client has written into an object."""
    return {
        **body,
        "metadata": {name: body["metadata"].get(name) for name in ("annotations", "labels", "ownerReferences")},
    }


@pytest.mark.parametrize("stranger", STRANGERS, ids=lambda body: str(body["kind"]))
def test_no_pods_are_made_while_a_stranger_has_what_they_would_use(api: Any, stranger: dict[str, Any]) -> None:
    kind, name = stranger["kind"], stranger["metadata"]["name"]
    before = without_server_fields(api.apply(stranger))
    api.apply(endpoint("assistant"))
    wait_until(lambda: api.conditions("LLMEndpoint", "assistant").get("Degraded") == ("True", "NameConflict"))
    assert api.conditions("LLMEndpoint", "assistant")["Ready"] == ("False", "NameConflict")
    text = json.dumps(api.get("LLMEndpoint", "assistant")["status"])
    assert f"{kind}/{name} exists but does not belong to this LLMEndpoint" in text
    assert "Until then, StatefulSet/assistant will not be written." in text
    wait_until(lambda: api.children().keys() == CHILDREN - {f"{kind}/{name}", "StatefulSet/assistant"})
    assert without_server_fields(api.get(kind, name)) == before
    api.delete(kind, name)
    wait_until(lambda: api.children().keys() == CHILDREN)


def judged(api: Any) -> int:
    """Return the generation that the condition Degraded of the endpoint is about."""
    rows = api.get("LLMEndpoint", "assistant")["status"]["conditions"]
    return next(int(row["observedGeneration"]) for row in rows if row["type"] == "Degraded")


@pytest.mark.parametrize("stranger", STRANGERS, ids=lambda body: str(body["kind"]))
def test_pods_that_run_are_left_as_they_are_when_a_stranger_takes_a_name(api: Any, stranger: dict[str, Any]) -> None:
    kind, name = stranger["kind"], stranger["metadata"]["name"]
    make(api)
    # Somebody takes the object out of our hands. It keeps its UID and our labels.
    api.patch(kind, name, {"metadata": {"ownerReferences": None}})
    wait_until(lambda: api.conditions("LLMEndpoint", "assistant").get("Ready") == ("False", "NameConflict"))
    before = api.children()
    api.apply(endpoint("assistant", replicas=3, models=[{"name": "other:1b"}]))
    wait_until(lambda: judged(api) == 2)
    assert api.conditions("LLMEndpoint", "assistant")["Degraded"] == ("True", "NameConflict")
    assert api.get("StatefulSet", "assistant")["spec"]["replicas"] == 1
    assert api.children()[f"{kind}/{name}"] == before[f"{kind}/{name}"]
    api.delete(kind, name)
    wait_until(lambda: api.get("StatefulSet", "assistant")["spec"]["replicas"] == 3)


def test_a_client_service_of_a_stranger_is_not_the_endpoints_url(api: Any) -> None:
    """Its pods may run, but a load test would send its key to the stranger."""
    api.apply({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "assistant"}, "spec": {"ports": [PORT]}})
    api.apply(endpoint("assistant"))
    wait_until(lambda: "StatefulSet/assistant" in api.children())
    api.apply_status({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "assistant"},
        "status": {"replicas": 1, "readyReplicas": 1, "updatedReplicas": 1, "observedGeneration": 1},
    })  # fmt: skip
    wait_until(lambda: (api.get("LLMEndpoint", "assistant").get("status") or {}).get("readyReplicas") == 1)
    assert api.conditions("LLMEndpoint", "assistant")["Ready"] == ("False", "NameConflict")
    api.apply(loadtest("smoke"))
    wait_until(
        lambda: "LLMEndpoint assistant is not Ready" in json.dumps(api.get("LoadTest", "smoke").get("status", {}))
    )


def test_a_load_test_gives_no_rights_to_a_strangers_config_map(api: Any) -> None:
    theirs = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "smoke-result-0"}, "data": {"a": "b"}}
    api.apply(theirs)
    api.apply(loadtest("smoke", endpointRef=None, target={"url": "http://x"}, model="m:1"))
    wait_until(lambda: api.conditions("LoadTest", "smoke").get("Reconciling") == ("True", "NameConflict"))
    assert "ConfigMap/smoke-result-0 exists" in json.dumps(api.get("LoadTest", "smoke")["status"])
    assert not {"Role/smoke-load", "RoleBinding/smoke-load", "Job/smoke"} & api.children().keys()
    assert api.get("ConfigMap", "smoke-result-0")["data"] == {"a": "b"}
    api.delete("ConfigMap", "smoke-result-0")
    wait_until(lambda: api.get("Job", "smoke"))


def test_an_operator_that_was_away_catches_up(
    api: Any, operator: subprocess.Popen[bytes], start_operator: Callable[[], subprocess.Popen[bytes]]
) -> None:
    make(api)
    assert operator.poll() is None
    second = start_operator()  # lists all objects, and writes none
    try:
        before = api.children()
        time.sleep(2)
        assert api.children() == before
    finally:
        second.terminate()
        assert second.wait(20) == 0


def ready_endpoint(api: Any, *names: str) -> None:
    """Make an endpoint Ready, as the StatefulSet controller and kubelet would."""
    make(api, models=[{"name": name} for name in names])
    api.apply_status({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "assistant"},
        "status": {"replicas": 1, "readyReplicas": 1, "updatedReplicas": 1, "observedGeneration": 1},
    })  # fmt: skip
    wait_until(lambda: api.conditions("LLMEndpoint", "assistant").get("Ready") == ("True", "ModelsAnswer"))


def passed_summary() -> str:
    # A 95th percentile needs 20 requests.
    samples = [Sample(f"id-{i}", "q", "Math", 0.0, 0.0, 0.1, 0.2, 0.2, 200, output_tokens=2) for i in range(20)]
    outcome = Outcome(samples, duration=1.0, offered=20, sent=20)
    objective = Objective(MetricName.TTFT, 1.0, 95)
    document = RunDocument(RunTarget("http://x"), "tiny:latest", RunLoad(concurrency=1), objectives=(objective,))
    return msgspec.json.encode(summarize(outcome, document)).decode()


def test_a_load_test_waits_runs_once_and_ends_with_a_verdict(api: Any) -> None:
    api.apply(loadtest("smoke", slo=[{"metric": "TTFT", "percentile": 95, "threshold": "1s"}]))
    wait_until(lambda: api.conditions("LoadTest", "smoke").get("Passed") == ("Unknown", "Pending"))
    ready_endpoint(api, "tiny:latest")
    job = wait_until(lambda: api.get("Job", "smoke"))
    pod = job["spec"]["template"]["spec"]
    assert "--run=/etc/llmendpoint/run/run.json" in pod["containers"][0]["args"]
    assert {volume["name"]: volume.get("configMap", {}).get("name") for volume in pod["volumes"]}["run"] == "smoke-run"
    document = parse_run_document(api.get("ConfigMap", "smoke-run")["data"]["run.json"].encode(), "smoke-run")
    assert document.target.url == f"http://assistant.{api.namespace}.svc:11434"
    assert document.objectives == (Objective(MetricName.TTFT, 1.0, 95),)
    assert job["spec"]["backoffLimit"] == 0
    wait_until(lambda: api.get("Job", "smoke")["spec"]["suspend"] is False)
    role = api.get("Role", "smoke-load")
    assert role["rules"] == [
        {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["smoke-result-0"], "verbs": ["patch"]}
    ]
    assert "category: Coding" in json.dumps(
        [api.get("ConfigMap", f"smoke-questions-{index}")["data"] for index in range(11)]
    )
    with pytest.raises(ApiException, match="spec cannot be changed once the run has started"):
        api.apply(loadtest("smoke", load={"concurrency": 9}))
    api.apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "smoke-result-0"},
            "data": {"summary.json": passed_summary()},
        }
    )
    wait_until(lambda: api.conditions("LoadTest", "smoke").get("Complete", ("",))[0] == "True")
    status = api.get("LoadTest", "smoke")["status"]
    assert status["verdict"] == "Passed"
    assert status["slo"][0] == {
        "metric": "TTFT",
        "percentile": 95,
        "threshold": "1s",
        "measured": "100ms",
        "low": "100ms",
        "requests": 20,
        "met": True,
    }
    api.delete("Job", "smoke")
    time.sleep(3)
    assert api.get("Job", "smoke") is None  # a started Job is never created again


def test_a_run_whose_job_is_gone_is_canceled_and_not_a_second_run(api: Any) -> None:
    ready_endpoint(api, "tiny:latest")
    api.apply(loadtest("lost"))
    wait_until(lambda: api.get("LoadTest", "lost").get("status", {}).get("startTime"))
    api.delete("Job", "lost")
    wait_until(lambda: api.conditions("LoadTest", "lost").get("Passed") == ("Unknown", "Canceled"))
    assert api.get("LoadTest", "lost")["status"]["verdict"] == "None"
    assert api.get("Job", "lost") is None


def test_a_load_test_of_several_models_asks_which(api: Any) -> None:
    ready_endpoint(api, "tiny:latest", "other:1b")
    api.apply(loadtest("which"))
    wait_until(
        lambda: (
            "set spec.model to one of tiny:latest, other:1b"
            in json.dumps(api.get("LoadTest", "which").get("status", {}))
        )
    )


def test_missing_question_maps_are_named(api: Any) -> None:
    ready_endpoint(api, "tiny:latest")
    api.apply(loadtest("mine", dataset={"questions": {"configMapRefs": [{"name": "my-questions"}]}}))
    wait_until(lambda: "ConfigMap my-questions" in json.dumps(api.get("LoadTest", "mine").get("status", {})))
    data = {"q.yaml": "category: Mine\nquestions:\n  - {id: a, prompt: hello}\n"}
    api.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "my-questions"}, "data": data})
    wait_until(lambda: api.get("Job", "mine"))
    assert api.get("ConfigMap", "mine-questions-0")["data"] == data


def test_two_question_maps_with_the_same_entry_are_both_mounted(api: Any) -> None:
    ready_endpoint(api, "tiny:latest")
    for name in ("team-a", "team-b"):
        data = {"questions.yaml": f"category: Mine\nquestions:\n  - {{id: {name}, prompt: hello}}\n"}
        api.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
    api.apply(loadtest("both", dataset={"questions": {"configMapRefs": [{"name": "team-a"}, {"name": "team-b"}]}}))
    volumes = wait_until(lambda: api.get("Job", "both"))["spec"]["template"]["spec"]["volumes"]
    sources = next(volume["projected"]["sources"] for volume in volumes if volume["name"] == "questions")
    assert [(source["configMap"]["name"], source["configMap"]["items"][0]["path"]) for source in sources] == [
        ("both-questions-0", "team-a/questions.yaml"),
        ("both-questions-1", "team-b/questions.yaml"),
    ]
    assert [
        api.get("ConfigMap", f"both-questions-{index}")["metadata"]["annotations"]["llmendpoint.dev/questions-source"]
        for index in range(2)
    ] == ["team-a", "team-b"]


def test_a_finished_run_is_deleted_after_its_time(api: Any) -> None:
    ready_endpoint(api, "tiny:latest")
    api.apply(loadtest("brief", ttlSecondsAfterFinished=1))
    wait_until(lambda: api.get("Job", "brief"))
    api.apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "brief-result-0"},
            "data": {"summary.json": passed_summary()},
        }
    )
    wait_until(lambda: api.get("LoadTest", "brief") is None)


def test_status_and_events_show_how_far_a_pull_is(api: Any, tmp_path: Path) -> None:
    make(api)
    pod_address = "127.77.3.1"
    api.apply(pod("assistant-0", "assistant", api.get("StatefulSet", "assistant")["metadata"]["uid"]))
    api.apply_status({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "assistant-0"},
                      "status": {"phase": "Running", "podIP": pod_address, "podIPs": [{"ip": pod_address}]}})  # fmt: skip
    # A real sidecar listens at this address, and its simulated Ollama pulls the model.
    with pod_processes(tmp_path, pod_address, "--registry-model=tiny:latest", "--pull=12s", "--ttft=0"):
        wait_until(lambda: api.conditions("LLMEndpoint", "assistant").get("ModelsAvailable") == ("False", "Pulling"))
        wait_until(lambda: api.conditions("LLMEndpoint", "assistant").get("ModelsAvailable") == ("True", "AllPresent"))
    # There was an Event for each quarter of the pull. On a busy machine, none of the polls may lie in one of them.
    seen = [event["message"] for event in api.events("assistant") if event["reason"] == "PullProgress"]
    percents = [int(re.fullmatch(r"tiny:latest: pulled .* of 1\.0 MB \((\d+) %\)", text)[1]) for text in seen]  # type: ignore[index]
    quarters = [percent // 25 for percent in percents]
    assert quarters
    assert len(set(quarters)) == len(quarters)
    assert set(quarters) <= {1, 2, 3}
    assert api.get("LLMEndpoint", "assistant")["status"]["models"][0]["progressPercent"] == 100
