"""Translates an LLMEndpoint into its row and into facts for the rules. Has no side effects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llmendpoint_common.contracts.cluster import EndpointCondition
from llmendpoint_common.diagnosis.facts import ConditionFacts, EndpointFacts
from llmendpoint_common.diagnosis.findings import Finding, Severity
from llmendpoint_dashboard.cluster.reading import NOT_SEEN, condition, conditions, items, number, section, text
from llmendpoint_dashboard.cluster.reflector import Manifest
from llmendpoint_dashboard.cluster.tables import key_of
from llmendpoint_dashboard.contract import EndpointRow


@dataclass(frozen=True)
class EndpointView:
    """Row and facts of an LLMEndpoint. `created` is a timestamp, whose order is that of the times."""

    row: EndpointRow
    facts: EndpointFacts
    created: str


def endpoint_view(body: Manifest) -> EndpointView:
    """Return the row and the facts of an LLMEndpoint."""
    metadata, status = body["metadata"], section(body, "status")
    found = conditions(body)
    # An endpoint without replicas has no condition Ready, and Reconciling has the reason.
    main = condition(found, EndpointCondition.READY)
    if not main.reason:
        main = condition(found, EndpointCondition.RECONCILING)
    row = EndpointRow(
        key=key_of(body),
        namespace=metadata["namespace"],
        name=metadata["name"],
        ready=condition(found, EndpointCondition.READY).status,
        reason=main.reason,
        message=main.message if found else NOT_SEEN,
        url=text(status, "url"),
        models=tuple(text(model, "name") for model in items(section(body, "spec"), "models")),
        replicas=number(status, "replicas"),
        ready_replicas=number(status, "readyReplicas"),
        gpu=text(status, "gpu"),
        conditions=found,
    )
    facts = EndpointFacts(
        row.namespace,
        row.name,
        tuple(ConditionFacts(item.type, item.status, item.reason, item.message) for item in found),
    )
    return EndpointView(row, facts, text(metadata, "creationTimestamp"))


def advice_of(findings: Sequence[Finding]) -> str:
    """Return what to do about the worst finding that needs action. Empty if none does."""
    for severity in (Severity.ERROR, Severity.WARNING):
        for finding in findings:
            if finding.severity is severity and (finding.advice or finding.command):
                return finding.advice or f"Run: {finding.command}"
    return ""
