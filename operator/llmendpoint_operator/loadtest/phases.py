"""Computes the status of a LoadTest in each phase. Has no side effects.

phase         Complete   Passed              Reconciling   Stalled   startDeadline
suspended     False      Unknown             False         False     -
waiting       False      Unknown             True          False     -
held          False      Unknown             True          False     10 minutes
refused       False      Unknown             False         True      10 seconds
forbidden     False      Unknown             False         True      -
starting      False      Unknown             True          False     10 minutes
not_running   False      Unknown             True          False     as before
running       False      Unknown             True          False     -
unwatched     False      Unknown             True          False     as before
finished      True       by the verdict      False         not passed
canceled      True       Unknown             False         True
failed        True       False               False         True
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from llmendpoint_common.api.loadtest.spec import LoadTestSpec
from llmendpoint_common.api.translate.run_document import ResolvedTarget, load_state
from llmendpoint_common.contracts.cluster import LoadTestCondition, LoadTestReason
from llmendpoint_common.contracts.loadrun import Summary, Verdict, VerdictReason
from llmendpoint_operator.kube.conditions import Condition, is_true, merge, timestamp
from llmendpoint_operator.kube.owner import Manifest
from llmendpoint_operator.loadtest.results import result_fields

#: Time for what another object or the cluster has to change: a quota, a Secret, an image, a full cluster.
START_SECONDS = 600.0
#: Time for what the spec has to change. The objects of one `kubectl apply` arrive in any order, so that the model of a
#: run may be missing in its LLMEndpoint for a moment.
REFUSED_SECONDS = 10.0

_PASSED = {Verdict.PASSED: True, Verdict.FAILED: False, Verdict.ERROR: False, Verdict.INVALID: None, Verdict.NONE: None}
_NOT_PASSED = (Verdict.FAILED, Verdict.INVALID, Verdict.ERROR)
_NOTHING = "Nothing is waiting for a person."


@dataclass(frozen=True)
class Phase:
    """The progress of a run: status, reason and message of its conditions, and fields of its status.

    A field that is None is removed from the status. `stalled` is true if the run has not passed, or cannot start, and
    nothing will change that without a person. `resting` is true if nothing is to be done although it has not ended.
    """

    reason: str
    message: str
    complete: bool = False
    passed: bool | None = None
    stalled: bool = False
    resting: bool = False
    fields: dict[str, Any] = field(default_factory=dict)


_NOT_STARTED: dict[str, Any] = {"progressPercent": 0, "progress": None}


def suspended() -> Phase:
    """Return the phase of a run that does not start while `spec.suspend` is true."""
    message = "The run does not start while spec.suspend is true."
    fields = _NOT_STARTED | {"startDeadline": None}
    return Phase(LoadTestReason.SUSPENDED, message, resting=True, fields=fields)


def waiting(message: str) -> Phase:
    """Return the phase of a run that waits for its LLMEndpoint, without a limit."""
    return Phase(LoadTestReason.PENDING, message, fields=_NOT_STARTED | {"startDeadline": None})


def held(reason: str, message: str, deadline: str) -> Phase:
    """Return the phase of a run that cannot start until an object or the cluster changes."""
    return Phase(reason, message, fields=_NOT_STARTED | {"startDeadline": deadline})


def refused(reason: str, message: str, deadline: str) -> Phase:
    """Return the phase of a run that cannot start with its spec."""
    return Phase(reason, message, stalled=True, fields=_NOT_STARTED | {"startDeadline": deadline})


def forbidden(message: str) -> Phase:
    """Return the phase of a run that cannot start, because the policy does not allow a value of its spec."""
    fields = _NOT_STARTED | {"startDeadline": None}
    return Phase(LoadTestReason.POLICY_VIOLATION, message, stalled=True, fields=fields)


def description(spec: LoadTestSpec, target: ResolvedTarget) -> dict[str, Any]:
    """Return the fields of the status that describe a run: its target, its model and its load."""
    pods = spec.load.parallelism
    return {
        "target": target.url,
        "model": target.model,
        "modelDigest": target.digest or None,
        "gpu": target.gpu or None,
        "replicas": target.replicas or None,
        "configurationHash": target.configuration or None,
        "resolvedLoad": load_state(spec.resolved.load, pods),
        "pods": pods if pods > 1 else None,
    }


def starting(job_name: str, results: Mapping[str, str], described: Mapping[str, Any], now: datetime) -> Phase:
    """Return the phase of a run whose Job is about to create its pods. What is described does not change afterwards.

    `results` are the UIDs of the ConfigMaps that receive the results of the pods, by name.
    """
    maps = [{"name": name, "uid": uid} for name, uid in results.items()]
    fields = {
        "startTime": timestamp(now),
        "startDeadline": timestamp(now + timedelta(seconds=START_SECONDS)),
        "jobName": job_name,
        **({"resultConfigMap": maps[0]} if len(maps) == 1 else {"podResultConfigMaps": maps}),
        **described,
    }
    return Phase(LoadTestReason.PENDING, "The pod of the run is being created.", fields=_NOT_STARTED | fields)


def unwatched(message: str, *, has_started: bool) -> Phase:
    """Return the phase of a run that cannot be started or followed, because the operator may not watch its objects."""
    fields = {} if has_started else _NOT_STARTED | {"startDeadline": None}
    return Phase(LoadTestReason.NOT_WATCHED, message, fields=fields)


def not_running(reason: str, message: str) -> Phase:
    """Return the phase of a run whose pod has not started."""
    return Phase(reason, message, fields=_NOT_STARTED)


def running(percent: int | None, message: str, state: dict[str, Any] | None = None) -> Phase:
    """Return the phase of a run whose pod runs. `percent` and `state` are None if its progress is not known."""
    progress: dict[str, Any] = {} if percent is None else {"progressPercent": percent}
    progress |= {} if state is None else {"progress": state}
    return Phase(LoadTestReason.RUNNING, message, fields=progress | {"startDeadline": None})


def has_begun(status: Mapping[str, Any]) -> bool:
    """Return whether the load of a run has begun, as its status says, whether or not its pods still answer."""
    return "startTime" in status and "startDeadline" not in status


def is_running(status: Mapping[str, Any]) -> bool:
    """Return whether a status is that of a run whose pod runs."""
    return any(condition["reason"] == LoadTestReason.RUNNING for condition in status.get("conditions") or [])


def finished(summary: Summary, now: datetime, cause: str = "", kept: dict[str, str] | None = None) -> Phase:
    """Return the phase of a run whose load pods have published their result. `cause` is what interrupted it, or empty.

    `kept` is the ConfigMap with the merged result of several pods.
    """
    fields = _ended(summary.verdict, now) | result_fields(summary)
    if kept is not None:
        fields["resultConfigMap"] = kept
    if not summary.partial:
        fields["progressPercent"] = 100
    words = f"{cause} {summary.message[:1].upper()}{summary.message[1:]}" if summary.partial and cause else ""
    is_canceled = summary.reason is VerdictReason.CANCELED
    stalled = summary.verdict in _NOT_PASSED or is_canceled
    return Phase(
        summary.reason, words or summary.message, True, _PASSED[summary.verdict], stalled=stalled, fields=fields
    )


def canceled(cause: str, now: datetime) -> Phase:
    """Return the phase of a run that was interrupted and left no result."""
    message = f"{cause} It left no result. Create another LoadTest to run it again."
    return Phase(VerdictReason.CANCELED, message, True, None, stalled=True, fields=_ended(Verdict.NONE, now))


def failed(message: str, now: datetime) -> Phase:
    """Return the phase of a run that ended without a result."""
    return Phase(VerdictReason.RUN_ERROR, message, True, False, stalled=True, fields=_ended(Verdict.ERROR, now))


def overdue(message: str, now: datetime) -> Phase:
    """Return the phase of a run that could not start in time. `message` is what kept it from starting."""
    return failed(f"The run has ended, because it could not start. The last obstacle was: {message}", now)


def is_overdue(status: dict[str, Any], now: datetime) -> bool:
    """Return whether the start deadline in a status has passed."""
    return "startDeadline" in status and datetime.fromisoformat(status["startDeadline"]) <= now


def deadline_of(status: dict[str, Any], now: datetime, *, stalled: bool) -> str:
    """Return the start deadline of a run that is held or, if `stalled`, refused: the present one, or a new one."""
    was_stalled = is_true(status.get("conditions") or [], LoadTestCondition.STALLED)
    if "startDeadline" in status and was_stalled is stalled:
        return str(status["startDeadline"])
    return timestamp(now + timedelta(seconds=REFUSED_SECONDS if stalled else START_SECONDS))


def loadtest_status(manifest: Manifest, phase: Phase, now: datetime) -> dict[str, Any]:
    """Return the complete status: the status in the manifest, updated with the fields of the phase."""
    before = manifest.get("status") or {}
    generation = manifest["metadata"]["generation"]
    merged = merge(before.get("conditions") or [], _conditions(phase), generation, now)
    status = {**before, **phase.fields, "observedGeneration": generation, "conditions": merged}
    return {name: value for name, value in status.items() if value is not None}


def observed(manifest: Manifest) -> dict[str, Any]:
    """Return the status of a run that has ended, as judged for the present generation of its spec."""
    status, generation = manifest["status"], manifest["metadata"]["generation"]
    conditions = [{**item, "observedGeneration": generation} for item in status.get("conditions") or []]
    return {**status, "observedGeneration": generation, "conditions": conditions}


def _ended(verdict: Verdict, now: datetime) -> dict[str, Any]:
    # The summary replaces the progress.
    return {"verdict": verdict.value, "completionTime": timestamp(now), "startDeadline": None, "progress": None}


def _conditions(phase: Phase) -> list[Condition]:
    reason = LoadTestReason.FINISHED if phase.complete else phase.reason
    is_reconciling = not phase.complete and not phase.stalled and not phase.resting
    stalled = (phase.reason, phase.message) if phase.stalled else (LoadTestReason.NOT_STALLED, _NOTHING)
    return [
        Condition(LoadTestCondition.COMPLETE, phase.complete, reason, phase.message),
        Condition(LoadTestCondition.PASSED, phase.passed, phase.reason, phase.message),
        Condition(LoadTestCondition.RECONCILING, is_reconciling, reason, phase.message),
        Condition(LoadTestCondition.STALLED, phase.stalled, *stalled),
    ]
