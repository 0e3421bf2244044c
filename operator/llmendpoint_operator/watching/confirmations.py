"""Compares what our listings show with what kopf shows.

kopf reports each object of its own listing as an event, but not the end of the listing, and no deletion that happened
before it. Two findings require another listing of ours:

- kopf has not shown an object that our listing showed: the object was deleted in between, or kopf's watch is dead.
- kopf shows an object for the second time as one of a listing: its watch was interrupted, and deletions may be missing.

If kopf then still does not show an object that exists, its watch is dead.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from enum import Enum

#: When kopf has to have shown everything, in seconds after the last listing. The first times, the listing is repeated.
_CHECKS_SECONDS = (5.0, 10.0, 20.0)
_SETTLE_SECONDS = 2.0


class Verdict(Enum):
    """What has to be done."""

    NOTHING = "nothing"
    LIST = "list"
    RESTART = "restart"


class Confirmations:
    """The objects that kopf has to show, by kind and UID."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[str, set[str]] = {}
        self._seen: dict[str, set[str]] = {}
        self._checks = 0
        self._due = 0.0

    def start(self, kinds: Iterable[str]) -> None:
        """Begin a new run of kopf, which watches these kinds."""
        self._seen = {kind: set() for kind in kinds}
        self._checks = 0
        self._due = self._clock() + _CHECKS_SECONDS[0]

    def listed(self, kind: str, uids: Iterable[str]) -> None:
        """Record the objects that our listing has shown."""
        self._known[kind] = set(uids)

    def shown(self, kind: str, uid: str, event: str | None) -> None:
        """Record an event of kopf. `event` is None for an object of kopf's listing."""
        seen = self._seen.setdefault(kind, set())
        if event == "DELETED":
            seen.discard(uid)
            self._known.get(kind, set()).discard(uid)
            return
        if event is None and uid in seen:
            # Objects that kopf does not show again no longer exist, or are still to come.
            self._seen = {name: set() for name in self._seen}
            self._seen[kind].add(uid)
            self._checks, self._due = -1, self._clock() + _SETTLE_SECONDS
            return
        seen.add(uid)

    def check(self) -> Verdict:
        """Return what has to be done now. After LIST, the objects of the new listing have to be recorded."""
        if self._clock() < self._due:
            return Verdict.NOTHING
        if self._checks >= 0 and not self._missing():
            return Verdict.NOTHING
        self._checks += 1
        if self._checks >= len(_CHECKS_SECONDS):
            return Verdict.RESTART
        self._due = self._clock() + _CHECKS_SECONDS[self._checks]
        return Verdict.LIST

    def _missing(self) -> bool:
        return any(self._known.get(kind, set()) - seen for kind, seen in self._seen.items())
