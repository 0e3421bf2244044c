"""Computes the status of a LoadTestSchedule. Has no side effects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from llmendpoint_common.api.schedule.spec import LoadTestScheduleSpec
from llmendpoint_common.contracts.cluster import ScheduleCondition, ScheduleReason
from llmendpoint_operator.kube.conditions import Condition, merge, timestamp
from llmendpoint_operator.kube.owner import Manifest
from llmendpoint_operator.schedule.runs import ScheduledRun

_NOTHING = "Nothing is waiting for a person."
_AT_THEIR_TIMES = "Load tests are created at the scheduled times."


@dataclass(frozen=True)
class State:
    """Reason and message of the conditions. `stalled` is true if nothing changes without a person.

    `reconciling` is true if a load test is due and could not be created yet.
    """

    reason: str
    message: str
    reconciling: bool = False
    stalled: bool = False


def scheduled(spec: LoadTestScheduleSpec, now: datetime, message: str = _AT_THEIR_TIMES) -> State:
    """Return the state of a schedule that creates load tests, or is suspended."""
    if spec.suspend:
        return State(ScheduleReason.SUSPENDED, "The schedule creates no load tests while spec.suspend is true.")
    following = spec.cron.next(now)
    if following is None:
        return State(ScheduleReason.INVALID_SPEC, f"spec.schedule: {spec.schedule} never occurs.", stalled=True)
    return State(ScheduleReason.SCHEDULED, message)


def status_of(
    manifest: Manifest,
    state: State,
    runs: Sequence[ScheduledRun],
    fields: dict[str, Any],
    now: datetime,
) -> dict[str, Any]:
    """Return the complete status. `fields` replace those of the present one."""
    before = manifest.get("status") or {}
    ended = [run for run in runs if run.has_ended]
    active = [{"name": run.name} for run in runs if not run.has_ended]
    status = {
        **before,
        **fields,
        "active": active or None,
        **_last(ended),
        **_success(before, ended),
        **conditions(manifest, state, now),
    }
    return {name: value for name, value in status.items() if value is not None}


def conditions(manifest: Manifest, state: State, now: datetime) -> dict[str, Any]:
    """Return the fields of the status that every state has."""
    before = manifest.get("status") or {}
    generation = manifest["metadata"]["generation"]
    stalled = (state.reason, state.message) if state.stalled else (ScheduleReason.NOT_STALLED, _NOTHING)
    wanted = [
        Condition(ScheduleCondition.RECONCILING, state.reconciling, state.reason, state.message),
        Condition(ScheduleCondition.STALLED, state.stalled, *stalled),
    ]
    merged = merge(before.get("conditions") or [], wanted, generation, now)
    return {"observedGeneration": generation, "conditions": merged}


def _last(ended: Sequence[ScheduledRun]) -> dict[str, Any]:
    return {"lastRun": {"name": ended[-1].name, "verdict": ended[-1].verdict}} if ended else {}


def _success(before: dict[str, Any], ended: Sequence[ScheduledRun]) -> dict[str, Any]:
    """Return the newest time of a success. It stays when the load test is deleted."""
    times = [str(run.status["completionTime"]) for run in ended if run.is_successful]
    newest = max([*times, *([before["lastSuccessfulTime"]] if "lastSuccessfulTime" in before else [])], default=None)
    return {"lastSuccessfulTime": newest} if newest else {}


def time_of(text: str | None) -> datetime | None:
    """Return a time in a status."""
    return datetime.fromisoformat(text) if text else None


def text_of(time: datetime | None) -> str | None:
    """Return a time for a status."""
    return timestamp(time) if time else None
