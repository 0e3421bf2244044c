"""Warning Events about the children, pods and claims of our resources, as the watch last showed them.

Admission refuses pods and claims when the StatefulSet or Job controller creates them, so the operator does not see the
refusal itself. The controller reports it as a Warning Event about the StatefulSet, the Job or the pod.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias

from llmendpoint_common.contracts.cluster import LLMENDPOINT
from llmendpoint_operator.cluster.keys import Key
from llmendpoint_operator.kube.owner import Manifest

#: The number of Events that are kept per owner. The oldest are dropped first.
_MAX_EVENTS = 32
#: Claims of a StatefulSet have the names VOLUME-SET-ORDINAL. The volume of an endpoint is called `models`.
_CLAIM = re.compile(r"models-(?P<owner>.+)-\d+")


@dataclass(frozen=True, slots=True)
class WarningEvent:
    """A Warning Event. `kind`, `name` and `uid` are those of the object that it is about.

    The controllers of Kubernetes repeat an Event by counting it. `first_seen` is the time of the first one.
    """

    kind: str
    name: str
    uid: str
    reason: str
    message: str
    count: int
    last_seen: datetime
    first_seen: datetime


#: Returns the owner of the object with a UID, or None.
OwnerOf: TypeAlias = Callable[[str], "Key | None"]


class Warnings:
    """The newest Warning Events of each owner."""

    def __init__(self) -> None:
        self._events: dict[Key, dict[str, WarningEvent]] = {}
        self._places: dict[str, Key] = {}

    def of(self, key: Key) -> list[WarningEvent]:
        """Return the Events of an owner, newest first."""
        return sorted(self._events.get(key, {}).values(), key=lambda event: event.last_seen, reverse=True)

    def uids(self, namespace: str) -> Iterable[str]:
        """Return the UIDs of the Events in a namespace, or in all namespaces if it is empty."""
        return [uid for uid, key in self._places.items() if namespace in ("", key.namespace)]

    def add(self, body: Manifest, owner_of: OwnerOf) -> Key | None:
        """Record an Event if it is about a child, pod or claim, and return the owner."""
        event = _parse(body)
        key = owner_of(event.uid) or _owner_of_claim(event, body["metadata"]["namespace"])
        if key is None:
            return None
        uid = body["metadata"]["uid"]
        events = self._events.setdefault(key, {})
        if events.get(uid) == event:
            return None
        events[uid] = event
        self._places[uid] = key
        if len(events) > _MAX_EVENTS:
            self.remove(min(events, key=lambda each: events[each].last_seen))
        return key

    def remove(self, uid: str) -> Key | None:
        """Remove an Event, and return the owner."""
        key = self._places.pop(uid, None)
        if key is None:
            return None
        self._events[key].pop(uid, None)
        if not self._events[key]:
            del self._events[key]
        return key


def _owner_of_claim(event: WarningEvent, namespace: str) -> Key | None:
    match = _CLAIM.fullmatch(event.name) if event.kind == "PersistentVolumeClaim" else None
    return Key(LLMENDPOINT, namespace, match["owner"]) if match else None


def _parse(body: Manifest) -> WarningEvent:
    about, series = body.get("involvedObject") or {}, body.get("series") or {}
    # Which times are set depends on the version of the Events API that the reporter uses.
    times = (
        series.get("lastObservedTime"),
        body.get("lastTimestamp"),
        body.get("eventTime"),
        body.get("firstTimestamp"),
        body["metadata"].get("creationTimestamp"),
    )
    seen = [_time(text) for text in times if text] or [datetime.fromtimestamp(0, UTC)]
    return WarningEvent(
        about.get("kind", ""),
        about.get("name", ""),
        about.get("uid", ""),
        body.get("reason", ""),
        body.get("message", ""),
        series.get("count") or body.get("count") or 1,
        max(seen),
        min(seen),
    )


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
