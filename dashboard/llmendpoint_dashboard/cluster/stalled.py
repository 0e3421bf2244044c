"""Findings about load tests and schedules that are stalled until a user changes something. Has no side effects."""

from __future__ import annotations

from collections.abc import Sequence

from llmendpoint_common.contracts.cluster import LOADTEST_SCHEDULE, ScheduleCondition
from llmendpoint_common.diagnosis.findings import Finding, Severity
from llmendpoint_dashboard.cluster.reading import condition, conditions
from llmendpoint_dashboard.cluster.reflector import Manifest
from llmendpoint_dashboard.contract import Condition


def stalled_finding(kind: str, namespace: str, name: str, found: Sequence[Condition]) -> Finding | None:
    """Return a finding if the condition Stalled is True. Its message has the problem and the advice."""
    stalled = condition(found, ScheduleCondition.STALLED)
    if stalled.status != "True":
        return None
    return Finding(
        severity=Severity.ERROR,
        cause=stalled.reason,
        subject=f"{kind} {namespace}/{name}",
        sentence=stalled.message,
        command=f"kubectl --namespace {namespace} describe {kind.lower()} {name}",
    )


def schedule_finding(body: Manifest) -> Finding | None:
    """Return a finding about a LoadTestSchedule, or None if it is not stalled."""
    metadata = body["metadata"]
    return stalled_finding(LOADTEST_SCHEDULE, metadata["namespace"], metadata["name"], conditions(body))
