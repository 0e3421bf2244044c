"""Reads fields of objects that other programs may have written. A field of another type counts as absent."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from llmendpoint_dashboard.cluster.reflector import Manifest
from llmendpoint_dashboard.contract import Condition

#: Message of an object without conditions.
NOT_SEEN = "The operator has not written a status yet. If this lasts, it does not run or does not watch this namespace."


def section(body: Manifest, *names: str) -> Manifest:
    """Return an object within an object, empty if it is absent."""
    found: Any = body
    for name in names:
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def items(body: Manifest, name: str) -> list[Manifest]:
    """Return a list of objects within an object, empty if it is absent."""
    found = body.get(name)
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def text(body: Manifest, name: str) -> str:
    """Return a text, empty if it is absent. A number is written as text."""
    found = body.get(name)
    return "" if found is None or isinstance(found, dict | list) else str(found)


def number(body: Manifest, name: str) -> int:
    """Return a whole number, 0 if it is absent."""
    found = body.get(name)
    return found if isinstance(found, int) and not isinstance(found, bool) else 0


def seconds_of(timestamp: str) -> float | None:
    """Return the Unix time of a timestamp of the Kubernetes API, or None if it is absent or not valid."""
    try:
        found = datetime.fromisoformat(timestamp)
    except ValueError:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def conditions(body: Manifest) -> tuple[Condition, ...]:
    """Return the conditions in the status of an object."""
    return tuple(
        Condition(
            type=text(item, "type"),
            status=text(item, "status"),
            reason=text(item, "reason"),
            message=text(item, "message"),
            last_transition_time=text(item, "lastTransitionTime"),
        )
        for item in items(section(body, "status"), "conditions")
    )


def condition(found: Sequence[Condition], kind: str) -> Condition:
    """Return a condition by its type. One that is not set has the status Unknown, and no reason."""
    return next((item for item in found if item.type == kind), Condition(type=kind, status="Unknown", reason=""))
