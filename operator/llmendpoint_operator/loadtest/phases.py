"""Computes the status of a LoadTest in each phase. Has no side effects."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from llmendpoint_common.api.translate.run_document import ResolvedTarget
from llmendpoint_common.contracts.cluster import LoadTestCondition, LoadTestReason
from llmendpoint_common.contracts.loadrun import Summary, Verdict, VerdictReason
from llmendpoint_operator.kube.conditions import Condition, merge, timestamp
from llmendpoint_operator.kube.owner import Manifest
from llmendpoint_operator.loadtest.results import slo_state, summary_state

_PASSED = {Verdict.PASSED: True, Verdict.FAILED: False, Verdict.ERROR: False, Verdict.INVALID: None, Verdict.NONE: None}

_NOT_PASSED = (Verdict.FAILED, Verdict.INVALID, Verdict.ERROR)


@dataclass(frozen=True)
class Phase:
    """The progress of a run: status, reason and message of its conditions, and the known fields of its status."""

    complete: bool
    passed: bool | None
    reason: str
    message: str
    fields: dict[str, Any]


def waiting(message: str) -> Phase:
    """Return the phase of a run that cannot start yet."""
    return Phase(False, None, LoadTestReason.PENDING, message, {"progressPercent": 0})


def forbidden(message: str) -> Phase:
    """Return the phase of a run that cannot start, because the policy does not allow a value of its spec."""
    return Phase(False, None, LoadTestReason.POLICY_VIOLATION, message, {"progressPercent": 0})


def starting(job_name: str, result: tuple[str, str], target: ResolvedTarget, now: datetime) -> Phase:
    """Return the phase of a run whose Job is about to be created. Its target and model do not change afterwards.

    `result` is the name and the UID of the ConfigMap that receives the result.
    """
    name, uid = result
    fields = {
        "startTime": timestamp(now),
        "jobName": job_name,
        "resultConfigMap": {"name": name, "uid": uid},
        "target": target.url,
        "model": target.model,
        "modelDigest": target.digest,
        "gpu": target.gpu,
    }
    begun = running(0, "The Job is being created.")
    return Phase(
        begun.complete,
        begun.passed,
        begun.reason,
        begun.message,
        {field: value for field, value in fields.items() if value} | begun.fields,
    )


def running(percent: int, message: str) -> Phase:
    """Return the phase of a run whose Job is running."""
    return Phase(False, None, LoadTestReason.RUNNING, message, {"progressPercent": percent})


def finished(summary: Summary, now: datetime) -> Phase:
    """Return the phase of a run whose load pod has published its result."""
    fields = {
        "verdict": summary.verdict.value,
        "summary": summary_state(summary),
        "slo": slo_state(summary),
        "progressPercent": 100,
        "completionTime": timestamp(now),
    }
    return Phase(True, _PASSED[summary.verdict], summary.reason, summary.message, fields)


def failed(message: str, now: datetime) -> Phase:
    """Return the phase of a run that ended without a result."""
    fields = {"verdict": Verdict.ERROR.value, "completionTime": timestamp(now)}
    return Phase(True, False, VerdictReason.RUN_ERROR, message, fields)


def _stalled(phase: Phase) -> Condition:
    """Return the condition Stalled: True if the run cannot start, or has ended but has not passed its objectives."""
    failed = phase.complete and phase.fields.get("verdict") in _NOT_PASSED
    if failed or phase.reason == LoadTestReason.POLICY_VIOLATION:
        return Condition(LoadTestCondition.STALLED, True, phase.reason, phase.message)
    return Condition(LoadTestCondition.STALLED, False, LoadTestReason.NOT_STALLED, "Nothing is waiting for a person.")


def loadtest_status(manifest: Manifest, phase: Phase, now: datetime) -> dict[str, Any]:
    """Return the complete status: the status in the manifest, updated with the fields of the phase."""
    before = manifest.get("status") or {}
    generation = manifest["metadata"]["generation"]
    reason = LoadTestReason.FINISHED if phase.complete else phase.reason
    conditions = [
        Condition(LoadTestCondition.COMPLETE, phase.complete, reason, phase.message),
        Condition(LoadTestCondition.PASSED, phase.passed, phase.reason, phase.message),
        _stalled(phase),
    ]
    merged = merge(before.get("conditions") or [], conditions, generation, now)
    return {**before, **phase.fields, "observedGeneration": generation, "conditions": merged}
