"""Compares what our listings show with what kopf shows.

kopf reports each object of its own listing as an event, but not the end of the listing, and no deletion that happened
before it. Two findings require another listing of ours:

- kopf has not shown an object that our listing or the run of kopf before has shown: the object was deleted in between,
  or kopf's watch is dead.
- kopf shows an object for the second time as one of a listing: its watches were interrupted, and deletions may be
  missing, also of kinds of which no object is left. Our own Lease always exists, so this is noticed.

If kopf does not show an object that another listing still shows, its watch is dead.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from enum import Enum

#: The delays between the checks whether kopf has shown everything. Each one leads to a listing, the last to a restart.
_CHECKS_SECONDS = (5.0, 10.0, 20.0)
#: After kopf has listed a kind again, it lists the others at about the same time, or a little later.
_SETTLE_SECONDS = (2.0, 20.0)


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
        self._check_at = 0.0
        self._list_at: list[float] = []

    def start(self, kinds: Iterable[str]) -> None:
        """Begin a new run of kopf, which watches these kinds. It has to show what the run before has shown, too."""
        for kind, seen in self._seen.items():
            self._known.setdefault(kind, set()).update(seen)
        self._seen = {kind: set() for kind in kinds}
        self._list_at = []
        self._checks, self._check_at = 0, self._clock() + _CHECKS_SECONDS[0]

    def listed(self, kind: str, uids: Iterable[str]) -> None:
        """Record the objects that our listing has shown."""
        self._known[kind] = set(uids)

    def shown(self, kind: str, uid: str, event: str | None) -> None:
        """Record an event of kopf. `event` is None for an object of kopf's listing."""
        seen = self._seen.setdefault(kind, set())
        if event == "DELETED":
            seen.discard(uid)
            self._known.get(kind, set()).discard(uid)
        elif event is None and uid in seen:
            now = self._clock()
            self._seen[kind] = {uid}
            self._list_at = [now + seconds for seconds in _SETTLE_SECONDS]
            self._checks, self._check_at = 0, now + _CHECKS_SECONDS[0]
        else:
            seen.add(uid)

    def check(self) -> Verdict:
        """Return what has to be done now. After LIST, the objects of the new listing have to be recorded."""
        now = self._clock()
        if self._list_at and now >= self._list_at[0]:
            self._list_at.pop(0)
            return Verdict.LIST
        if now < self._check_at:
            return Verdict.NOTHING
        if not self._is_missing_some():
            self._checks = 0
            return Verdict.NOTHING
        self._checks += 1
        if self._checks >= len(_CHECKS_SECONDS):
            return Verdict.RESTART
        self._check_at = now + _CHECKS_SECONDS[self._checks]
        return Verdict.LIST

    def _is_missing_some(self) -> bool:
        return any(self._known.get(kind, set()) - seen for kind, seen in self._seen.items())
