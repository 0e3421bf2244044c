"""The status of a load test at each phase: pure, and in one place."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from llmendpoint_common.api.translate.run_document import ResolvedTarget
from llmendpoint_common.contracts.loadrun import Summary, Verdict
from llmendpoint_operator.kube.conditions import Condition, merge, timestamp
from llmendpoint_operator.kube.owner import Manifest
from llmendpoint_operator.loadtest.results import slo_state, summary_state

_PASSED = {Verdict.PASSED: True, Verdict.FAILED: False, Verdict.ERROR: False, Verdict.INVALID: None, Verdict.NONE: None}


@dataclass(frozen=True)
class Phase:
    """Where a run is: its two conditions, and what is known so far."""

    complete: bool
    passed: bool | None
    reason: str
    message: str
    fields: dict[str, Any]


def waiting(message: str) -> Phase:
    """The run cannot begin yet."""
    return Phase(False, None, "Pending", message, {"progressPercent": 0})


def running(percent: int, message: str) -> Phase:
    """The Job runs."""
    return Phase(False, None, "Running", message, {"progressPercent": percent})


def finished(summary: Summary, now: datetime) -> Phase:
    """The load pod has judged."""
    fields = {
        "verdict": summary.verdict.value,
        "summary": summary_state(summary),
        "slo": slo_state(summary),
        "progressPercent": 100,
        "completionTime": timestamp(now),
    }
    return Phase(True, _PASSED[summary.verdict], summary.reason, summary.message, fields)


def failed(message: str, now: datetime) -> Phase:
    """The run ended without a result."""
    fields = {"verdict": Verdict.ERROR.value, "completionTime": timestamp(now)}
    return Phase(True, False, "RunError", message, fields)


def started(name: str, target: ResolvedTarget, now: datetime) -> dict[str, Any]:
    """Return what is written down when the Job is made, and never changed."""
    fields = {
        "startTime": timestamp(now),
        "jobName": name,
        "target": target.url,
        "model": target.model,
        "modelDigest": target.digest,
        "gpu": target.gpu,
    }
    return {name: value for name, value in fields.items() if value}


def loadtest_status(manifest: Manifest, phase: Phase, now: datetime) -> dict[str, Any]:
    """Return the whole status: what was there, with the phase's fields over it."""
    before = manifest.get("status") or {}
    generation = manifest["metadata"]["generation"]
    complete = Condition("Complete", phase.complete, "Finished" if phase.complete else phase.reason, phase.message)
    conditions = [complete, Condition("Passed", phase.passed, phase.reason, phase.message)]
    merged = merge(before.get("conditions") or [], conditions, generation, now)
    return {**before, **phase.fields, "observedGeneration": generation, "conditions": merged}
