"""Compares two statuses of an endpoint, to decide whether to write the status and which Events to write.

While a model is being pulled, its progress changes with every poll. If each change were written, the operator would
send a request every 2 s per endpoint. A status that differs only in progress is therefore written less often
(`Throttle`).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from llmendpoint_common.contracts.cluster import EndpointCondition, EndpointReason
from llmendpoint_operator.cluster.keys import Key

Status = dict[str, Any]

#: The conditions whose changes become Events. Stalled and Degraded are reported only if they are True. OllamaHung
#: is reported by `stall_events`.
_REPORTED = (
    EndpointCondition.READY,
    EndpointCondition.STALLED,
    EndpointCondition.DEGRADED,
    EndpointCondition.MODELS_AVAILABLE,
)
_ABNORMAL = (EndpointCondition.STALLED, EndpointCondition.DEGRADED)
#: Reasons of a False condition that are not failures, because the endpoint is expected to be in this state for a time.
_ON_THE_WAY = frozenset(
    {
        EndpointReason.STARTING,
        EndpointReason.PULLING,
        EndpointReason.SCALED_TO_ZERO,
        EndpointReason.MODEL_PENDING,
        EndpointReason.MODEL_PULLING,
        EndpointReason.MODEL_LOADING,
        EndpointReason.REPLICAS_UNAVAILABLE,
    }
)
#: A status that differs only in progress, or in the message of a condition, is not written more often.
_PROGRESS_SECONDS = 10.0
#: Fields of a model that change with each poll of a pull.
_PROGRESS_FIELDS = ("progressPercent", "bytesPerSecond", "remainingSeconds", "message")


class Throttle:
    """Limits the rate at which the progress of pulls is written. One instance is used for all endpoints."""

    def __init__(self) -> None:
        self._written: dict[Key, datetime] = {}

    def wait(self, key: Key, before: Status, after: Status, now: datetime) -> float:
        """Return the seconds until `after` may be written: 0, unless only the progress differs.

        If it is 0, the status counts as written now.
        """
        last = self._written.get(key)
        left = 0.0 if last is None else _PROGRESS_SECONDS - (now - last).total_seconds()
        if left > 0 and only_progress(before, after):
            return left
        self._written[key] = now
        return 0.0

    def forget(self, key: Key) -> None:
        """Forget an endpoint that no longer exists."""
        self._written.pop(key, None)


def only_progress(before: Status, after: Status) -> bool:
    """Return whether two statuses differ at most in the progress of pulls, and no pull has passed another quarter."""
    return _without_progress(before) == _without_progress(after) and not quarters_passed(before, after)


def quarters_passed(before: Status, after: Status) -> list[dict[str, Any]]:
    """Return the models whose pull has passed another quarter."""
    last = {model["name"]: model["progressPercent"] for model in before.get("models") or []}
    return [
        model
        for model in after["models"]
        if model["progressPercent"] < 100 and model["progressPercent"] // 25 > last.get(model["name"], 0) // 25
    ]


def new_reasons(before: Status, after: Status) -> list[dict[str, Any]]:
    """Return the conditions in `_REPORTED` whose reason has changed. If several have the same reason, return one.

    Stalled and Degraded are left out if another condition had their reason before, because there was an Event then. So
    is the first state of a new endpoint, if it is starting: everybody expects this.
    """
    rows = before.get("conditions") or []
    reasons = {condition["type"]: condition["reason"] for condition in rows}
    known = {row["reason"] for row in rows if _is_reported(row)}
    changed = {
        condition["reason"]: condition
        for condition in after["conditions"]
        if _is_reported(condition)
        and reasons.get(condition["type"]) != condition["reason"]
        and not (condition["type"] in _ABNORMAL and condition["reason"] in known)
        and not (condition["reason"] == EndpointReason.STARTING and condition["type"] not in reasons)
    }
    return list(changed.values())


def _is_reported(condition: dict[str, Any]) -> bool:
    if condition["reason"] == EndpointReason.OLLAMA_HUNG:
        return False
    if condition["type"] in _ABNORMAL:
        return bool(condition["status"] == "True") and condition["reason"] not in _ON_THE_WAY
    # Ready tells that the endpoint is starting.
    is_known = (
        condition["type"] == EndpointCondition.MODELS_AVAILABLE and condition["reason"] == EndpointReason.STARTING
    )
    return condition["type"] in _REPORTED and not is_known


def is_failure(condition: dict[str, Any]) -> bool:
    """Return whether a condition is a failure, so that its Event is a warning."""
    if condition["type"] in _ABNORMAL:
        return bool(condition["status"] == "True")
    return condition["status"] != "True" and condition["reason"] not in _ON_THE_WAY


def _without_progress(status: Status) -> Status:
    rest = {name: value for name, value in status.items() if name not in ("models", "conditions")}
    rest["models"] = [
        {name: value for name, value in model.items() if name not in _PROGRESS_FIELDS}
        for model in status.get("models", [])
    ]
    rest["conditions"] = [
        {name: value for name, value in condition.items() if name != "message"}
        for condition in status.get("conditions", [])
    ]
    return rest
