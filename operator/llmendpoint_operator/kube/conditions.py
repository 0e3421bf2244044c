"""Conditions as in metav1.Condition, and their merge into those of an object."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

#: metav1.Condition allows 32768 characters, but messages are copied into Events, whose note has at most 1024.
MAX_MESSAGE = 1024
#: `observedGeneration` of the conditions that a new object has by default. The first generation of a spec is 1.
UNSEEN_GENERATION = 0


@dataclass(frozen=True)
class Condition:
    """A condition. If `status` is None, it is Unknown. `docs/conditions.md` documents the reasons."""

    type: str
    status: bool | None
    reason: str
    message: str


def merge(
    existing: Sequence[dict[str, Any]], wanted: Iterable[Condition], generation: int, now: datetime
) -> list[dict[str, Any]]:
    """Return the desired conditions in the form of the API.

    `lastTransitionTime` is `now` if the status has changed. If only the reason or the message has changed, it stays.
    The conditions that a new object has by default do not count: no operator has written them.
    """
    before = {row["type"]: row for row in existing if row.get("observedGeneration") != UNSEEN_GENERATION}
    merged = []
    for condition in wanted:
        status = "Unknown" if condition.status is None else str(condition.status)
        old = before.get(condition.type)
        same = old is not None and old["status"] == status
        merged.append(
            {
                # Types and reasons may be members of an enum; the API takes plain strings.
                "type": str(condition.type),
                "status": status,
                "reason": str(condition.reason),
                "message": condition.message[:MAX_MESSAGE],
                "observedGeneration": generation,
                "lastTransitionTime": old["lastTransitionTime"] if same and old else timestamp(now),
            }
        )
    return merged


def is_true(conditions: Sequence[dict[str, Any]], kind: str) -> bool:
    """Return whether a condition of a type exists and is True."""
    return any(condition["type"] == kind and condition["status"] == "True" for condition in conditions)


def timestamp(now: datetime) -> str:
    """Return a time in the form of the API: RFC 3339, UTC, whole seconds."""
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
