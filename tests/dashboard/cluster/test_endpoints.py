"""Rows of LLMEndpoints."""

from __future__ import annotations

from typing import Any

from llmendpoint_common.diagnosis.findings import Finding, Severity
from llmendpoint_dashboard.cluster.endpoints import advice_of, endpoint_view
from llmendpoint_dashboard.contract import Condition, EndpointRow


def body(status: Any = None, **spec: Any) -> dict[str, Any]:
    metadata = {"namespace": "team-a", "name": "assistant", "creationTimestamp": "2026-11-26T14:00:00Z"}
    return {"metadata": metadata, "spec": {"models": [{"name": "tiny:latest"}], **spec}, "status": status}


READY = {
    "type": "Ready", "status": "False", "reason": "ModelPulling", "message": "tiny:latest is pulled: 40 %.",
    "lastTransitionTime": "2026-11-26T14:00:01Z", "observedGeneration": 1,
}  # fmt: skip


def test_a_row_has_the_status_with_its_conditions() -> None:
    status = {"url": "http://assistant.team-a.svc:11434", "replicas": 2, "readyReplicas": 1, "gpu": "1 nvidia.com/gpu",
              "conditions": [READY]}  # fmt: skip
    assert endpoint_view(body(status)).row == EndpointRow(
        key="team-a/assistant",
        namespace="team-a",
        name="assistant",
        ready="False",
        reason="ModelPulling",
        message="tiny:latest is pulled: 40 %.",
        url="http://assistant.team-a.svc:11434",
        models=("tiny:latest",),
        replicas=2,
        ready_replicas=1,
        gpu="1 nvidia.com/gpu",
        conditions=(
            Condition(
                type="Ready",
                status="False",
                reason="ModelPulling",
                message="tiny:latest is pulled: 40 %.",
                last_transition_time="2026-11-26T14:00:01Z",
            ),
        ),
    )


def test_an_endpoint_that_the_operator_has_not_seen_says_so() -> None:
    row = endpoint_view(body()).row
    assert (row.ready, row.reason) == ("Unknown", "")
    assert "The operator has not written a status yet" in row.message


def test_an_endpoint_without_replicas_shows_why() -> None:
    scaled = {"type": "Reconciling", "status": "False", "reason": "ScaledToZero", "message": "spec.replicas is 0."}
    row = endpoint_view(body({"conditions": [scaled]})).row
    assert (row.ready, row.reason, row.message) == ("Unknown", "ScaledToZero", "spec.replicas is 0.")


def test_fields_of_other_types_count_as_absent() -> None:
    row = endpoint_view(body({"replicas": "many", "conditions": [None, {"type": 5}], "url": ["a"]}, models="tiny")).row
    assert (row.replicas, row.url, row.models, row.ready) == (0, "", (), "Unknown")


def test_conditions_become_facts() -> None:
    facts = endpoint_view(body({"conditions": [READY]})).facts
    assert (facts.namespace, facts.name) == ("team-a", "assistant")
    (condition,) = facts.conditions
    assert (condition.type, condition.status, condition.reason) == ("Ready", "False", "ModelPulling")


def test_the_advice_is_that_of_the_worst_finding() -> None:
    def finding(severity: Severity, advice: str, command: str = "") -> Finding:
        return Finding(severity, "Cause", "subject", "Something is wrong.", advice, command)

    warning, error = finding(Severity.WARNING, "Wait."), finding(Severity.ERROR, "Add a GPU.")
    assert advice_of([warning, error]) == "Add a GPU."
    assert advice_of([warning]) == "Wait."
    assert advice_of([finding(Severity.ERROR, "", "kubectl get nodes"), warning]) == "Run: kubectl get nodes"
    assert advice_of([finding(Severity.INFO, "Nothing to do.")]) == ""
    assert advice_of([]) == ""
