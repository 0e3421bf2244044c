"""Conditions as Kubernetes means them: merged so that `lastTransitionTime` moves only when the status does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

MAX_MESSAGE = 1024


@dataclass(frozen=True)
class Condition:
    """One condition: a documented reason, and a message that says what to do."""

    type: str
    status: bool | None
    reason: str
    message: str


def merge(
    existing: Sequence[dict[str, Any]], wanted: Iterable[Condition], generation: int, now: datetime
) -> list[dict[str, Any]]:
    """Return the wanted conditions as the API writes them; what did not change keeps its transition time."""
    before = {condition["type"]: condition for condition in existing}
    merged = []
    for condition in wanted:
        status = "Unknown" if condition.status is None else str(condition.status)
        old = before.get(condition.type)
        same = old is not None and old["status"] == status
        merged.append(
            {
                "type": condition.type,
                "status": status,
                "reason": condition.reason,
                "message": condition.message[:MAX_MESSAGE],
                "observedGeneration": generation,
                "lastTransitionTime": old["lastTransitionTime"] if same and old else timestamp(now),
            }
        )
    return merged


def is_true(conditions: Sequence[dict[str, Any]], kind: str) -> bool:
    """Tell whether a condition is True."""
    return any(condition["type"] == kind and condition["status"] == "True" for condition in conditions)


def timestamp(now: datetime) -> str:
    """Return a time as Kubernetes writes it (RFC 3339, whole seconds, UTC)."""
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
