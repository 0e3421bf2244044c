"""Rules about a cluster: causes and commands from the conditions that the operator writes."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace

import pytest

from llmendpoint_common.diagnosis import sentences
from llmendpoint_common.diagnosis.checks import CheckState, cluster_checks
from llmendpoint_common.diagnosis.facts import ClusterFacts, ConditionFacts, EndpointFacts, OperatorFacts
from llmendpoint_common.diagnosis.findings import Cause, Finding, Severity
from llmendpoint_common.diagnosis.rules import cluster_findings

NOW = 1_800_000_000.0
SERVING = OperatorFacts(is_serving=True, last_seen=NOW)
READY = ConditionFacts("Ready", "True", "ModelsAnswer", "1 of 1 replicas are ready to serve requests.")
HEALTHY = ClusterFacts(NOW, "https://c", operator=SERVING, endpoints=(EndpointFacts("team-a", "assistant", (READY,)),))
NOT_SELECTED = sentences.not_selected(
    "ServiceMonitor",
    sentences.monitors_selected_by("monitoring/k8s", "ServiceMonitors with release=prom, team=a", "all namespaces"),
    "serviceMonitor",
)


def with_conditions(*rows: tuple[str, str, str, str]) -> ClusterFacts:
    endpoint = EndpointFacts("team-a", "assistant", tuple(ConditionFacts(*row) for row in rows))
    return replace(HEALTHY, endpoints=(endpoint,))


def unready(reason: str, message: str) -> ClusterFacts:
    """Return an endpoint that is not ready, as the operator reports it: two conditions have the same cause."""
    return with_conditions(
        ("Ready", "False", reason, message),
        ("Degraded", "True", reason, f"0 of 1 replicas are ready to serve requests. {message}"),
        ("Reconciling", "True", "RollingOut", "0 of 1 replicas are ready, and 1 pods exist."),
        ("Stalled", "False", "NotStalled", "Nothing is waiting for a person."),
        ("ModelsAvailable", "Unknown", "Starting", "No replica reports its models yet."),
        ("MonitoringReady", "Unknown", "Annotations", "The headless Service has the annotations."),
    )


def only(facts: ClusterFacts) -> Finding:
    findings = cluster_findings(facts)
    assert len(findings) == 1, findings
    return findings[0]


def test_nothing_is_wrong_with_a_healthy_endpoint() -> None:
    assert cluster_findings(HEALTHY) == ()
    assert all(check.state is CheckState.OK for check in cluster_checks(HEALTHY, ()))


NODES = "kubectl describe nodes"
POD = "assistant-0 cannot be scheduled: "
CLAIM = "assistant-0 waits for PersistentVolumeClaim models-assistant-0: storageclass not found. Create it."
GPUS = sentences.gpus_are_short(1, "nvidia.com/gpu")
PRODUCT = sentences.no_gpu_of_the_product(["NVIDIA-H100"], "amd.com/product")


@pytest.mark.parametrize(
    ("reason", "message", "cause", "command"),
    [
        ("Unschedulable", f"{POD}{GPUS} (3 of 3 nodes).", Cause.NO_GPU_FREE, NODES),
        ("Unschedulable", f"{POD}{sentences.gpus_are_short(4, 'nvidia.com/gpu')}.", Cause.NO_GPU_FREE, NODES),
        ("Unschedulable", f"{POD}{PRODUCT}.", Cause.GPU_PRODUCT_NOT_FOUND, "kubectl get nodes -L amd.com/product"),
        ("Unschedulable", f"{POD}not enough free cpu (3 of 3 nodes).", Cause.POD_PENDING,
         "kubectl -n team-a describe pods -l llmendpoint.dev/endpoint=assistant"),
        ("Unschedulable", f"{POD}{sentences.CLAIM_IS_NOT_BOUND}.", Cause.CLAIM_PENDING, "kubectl -n team-a describe pvc"),
        ("Unschedulable", f"assistant-0 waits for ResourceClaim a: {sentences.RESOURCE_CLAIMS_MUST_EXIST}.",
         Cause.CLAIM_PENDING, "kubectl -n team-a get resourceclaims,resourceclaimtemplates"),
        ("VolumeNotReady", CLAIM, Cause.CLAIM_PENDING, "kubectl -n team-a describe pvc models-assistant-0"),
        ("VolumeNotReady", "assistant-0: MountVolume.SetUp failed. Create the missing object.", "VolumeNotReady",
         "kubectl -n team-a describe pods -l llmendpoint.dev/endpoint=assistant"),
        ("ImagePullFailed", f"assistant-0, container ollama: {sentences.image_cannot_be_pulled('a:1', 'no')}",
         "ImagePullFailed", "kubectl -n team-a describe pods -l llmendpoint.dev/endpoint=assistant"),
        ("QuotaExceeded", "exceeded quota: q. Raise it.", "QuotaExceeded", "kubectl -n team-a describe resourcequota"),
        ("WebhookFailed", "failed calling webhook a.", "WebhookFailed",
         "kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations"),
        ("OllamaHung", "assistant-0: Ollama is hung.", Cause.OLLAMA_HUNG, "kubectl -n team-a delete pod assistant-0"),
        ("ModelNotFound", "nope: the registry does not have it.", "ModelNotFound", "kubectl -n team-a edit llm assistant"),
        ("SomethingNew", "A newer operator says this.", "SomethingNew", "kubectl -n team-a describe llm assistant"),
    ],
)  # fmt: skip
def test_a_condition_gives_its_cause_once_and_its_message_word_by_word(
    reason: str, message: str, cause: str, command: str
) -> None:
    facts = unready(reason, message)
    finding = only(facts)
    assert (finding.severity, finding.cause, finding.command) == (Severity.ERROR, cause, command)
    assert finding.sentence == message
    assert finding.subject == "LLMEndpoint team-a/assistant"
    assert cluster_checks(facts, [finding])[-1].state is CheckState.WRONG


def test_a_monitor_that_no_prometheus_selects_gets_its_labels_by_the_command() -> None:
    finding = only(
        with_conditions(
            ("Ready", "True", "ModelsAnswer", "1 of 1 replicas are ready."),
            ("MonitoringReady", "False", "NotSelected", NOT_SELECTED),
        )
    )
    assert (finding.severity, finding.cause) == (Severity.WARNING, Cause.MONITOR_NOT_SELECTED)
    *words, patch = shlex.split(finding.command)
    assert words == ["kubectl", "-n", "team-a", "patch", "llm", "assistant", "--type=merge", "-p"]
    assert json.loads(patch) == {"spec": {"monitoring": {"labels": {"release": "prom", "team": "a"}}}}


def test_labels_do_not_help_if_the_namespace_is_not_selected() -> None:
    servers = sentences.monitors_selected_by("m/k8s", "all ServiceMonitors", "its own namespace")
    message = sentences.not_selected("ServiceMonitor", servers, "serviceMonitor")
    finding = only(with_conditions(("MonitoringReady", "False", "NotSelected", message)))
    assert finding.command == "kubectl get prometheus --all-namespaces -o yaml"


def test_a_gpu_that_ollama_does_not_use_is_explained_by_its_log() -> None:
    finding = only(with_conditions(("GPUOffloaded", "False", "PartlyOnCPU", sentences.partly_on_cpu("a:1", 0, 10))))
    assert finding.cause == Cause.PARTLY_ON_CPU
    assert finding.command == (
        "kubectl -n team-a logs -l llmendpoint.dev/endpoint=assistant -c ollama --tail=-1 --prefix | grep -i gpu"
    )


def test_different_faults_of_an_endpoint_are_all_reported() -> None:
    facts = with_conditions(
        ("Ready", "True", "ModelsAnswer", "1 of 2 replicas are ready."),
        ("Degraded", "True", "ImagePullFailed", "1 of 2 replicas are ready. assistant-1: no image."),
        ("GPUOffloaded", "False", "PartlyOnCPU", "Only 50 % of a is in GPU memory."),
    )
    findings = cluster_findings(facts)
    assert [finding.cause for finding in findings] == ["ImagePullFailed", Cause.PARTLY_ON_CPU]
    assert {finding.severity for finding in findings} == {Severity.WARNING}


@pytest.mark.parametrize("reason", ["Starting", "ModelPulling", "ModelLoading"])
def test_an_endpoint_on_its_way_is_not_a_fault(reason: str) -> None:
    facts = with_conditions(
        ("Ready", "False", reason, "llama3.2:3b: pulling"),
        ("Degraded", "True", "ReplicasUnavailable", "0 of 1 replicas are ready."),
        ("ModelsAvailable", "False", "Pulling", "llama3.2:3b: pulling (30 %)"),
    )
    finding = only(facts)
    assert (finding.severity, finding.sentence) == (Severity.INFO, "llama3.2:3b: pulling")


def test_an_endpoint_that_no_operator_has_seen_is_a_fault() -> None:
    message = "The operator has not seen this object yet."
    assert only(with_conditions(("Reconciling", "True", "Pending", message))).cause == "Pending"


def test_conditions_say_nothing_while_no_operator_runs() -> None:
    stopped = OperatorFacts(False, NOW - 600, "llmendpoint-system", "llmendpoint", replicas=0)
    facts = replace(unready("Unschedulable", f"{POD}{GPUS}"), operator=stopped)
    finding = only(facts)
    assert finding.cause == Cause.OPERATOR_NOT_RUNNING
    assert "the last sign of one is 600 s old" in finding.sentence
    assert finding.command == "kubectl -n llmendpoint-system scale deployment llmendpoint --replicas=1"


def test_an_operator_whose_pods_fail_is_quoted() -> None:
    stopped = OperatorFacts(False, None, "llmendpoint-system", "llmendpoint", problem="no minimum availability")
    finding = only(replace(HEALTHY, operator=stopped))
    assert (
        "none has ever run here. Its Deployment llmendpoint-system/llmendpoint has no pod that works: no minimum"
        in (finding.sentence)
    )
    assert finding.command == "kubectl -n llmendpoint-system describe pods -l llmendpoint.dev/operator=true"


def test_an_operator_that_is_not_installed_is_installed() -> None:
    finding = only(replace(HEALTHY, operator=OperatorFacts(False)))
    assert finding.command.startswith("helm install llmendpoint ")


def test_definitions_that_are_absent_explain_everything_else() -> None:
    facts = ClusterFacts(NOW, "https://c", absent=("LLMEndpoint", "LoadTest"))
    assert only(facts).cause == Cause.DEFINITIONS_ABSENT
    assert "LLMEndpoint, LoadTest" in only(facts).sentence


def test_definitions_that_are_outdated_are_upgraded() -> None:
    finding = only(replace(HEALTHY, outdated=("LLMEndpoint.spec.new", "LLMEndpoint.spec.newer")))
    assert (finding.cause, finding.severity) == (Cause.DEFINITIONS_OUTDATED, Severity.WARNING)
    assert "they lack LLMEndpoint.spec.new and 1 more fields" in finding.sentence
    assert finding.command == "kubectl apply --server-side --force-conflicts -f manifests/crds/"


def test_an_api_server_that_does_not_answer_explains_everything_else() -> None:
    facts = ClusterFacts(NOW, "https://c", error="connection refused")
    assert only(facts).cause == Cause.CLUSTER_UNREACHABLE
    assert "The API server https://c cannot be used: connection refused." in only(facts).sentence


def test_an_endpoint_that_does_not_exist() -> None:
    finding = only(replace(HEALTHY, endpoints=(), named="team-a/nope"))
    assert (finding.cause, finding.sentence) == (Cause.ENDPOINT_NOT_FOUND, "LLMEndpoint team-a/nope does not exist.")


def test_what_the_user_may_not_read_is_named_and_is_not_a_fault() -> None:
    facts = replace(HEALTHY, operator=None, unread=("you may not read Leases",))
    assert cluster_findings(facts) == ()
    unchecked = [check for check in cluster_checks(facts, ()) if check.state is CheckState.NOT_CHECKED]
    assert [check.name for check in unchecked] == ["operator", "rights"]
