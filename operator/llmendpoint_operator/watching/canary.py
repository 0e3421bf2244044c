"""Detects that the watches are dead: each renewal of our own Lease has to arrive through the watch of Leases.

A watch can be silent because nothing happens, or because it is dead. A renewal is an event that must arrive. The
operator renews its Lease every 5 s.

A renewal that was not accepted proves nothing, so the canary counts the time between renewals that the API server
accepted: from the oldest one that the watch has not shown, to the newest. If the API server cannot be reached, or if
this process was stopped, no renewal is accepted, and the canary starts again with the next one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

#: kopf is restarted if a renewal has not arrived after this time.
RESTART_SECONDS = 20.0
#: `/livez` fails after this time.
UNHEALTHY_SECONDS = 60.0
#: The process ends after this time.
FATAL_SECONDS = 120.0

#: The operator renews every 5 s. A longer pause between two accepted renewals means that there was no API server.
_GAP_SECONDS = 15.0


@dataclass
class _Waiting:
    """The renewals in one namespace that the watch has not shown yet: the oldest, and the newest."""

    version: int
    since: float
    newest: int
    until: float


class Canary:
    """The renewals of our Leases that the watch has not shown yet."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._waiting: dict[str, _Waiting] = {}

    def sent(self, namespace: str, version: int) -> None:
        """Record that the API server accepted a renewal of our Lease in a namespace, as this resourceVersion."""
        now = self._clock()
        waiting = self._waiting.get(namespace)
        if waiting is None or now - waiting.until > _GAP_SECONDS:
            self._waiting[namespace] = _Waiting(version, now, version, now)
        else:
            waiting.newest, waiting.until = version, now

    def seen(self, namespace: str, version: int) -> None:
        """Record that the watch has shown our Lease in a namespace with this resourceVersion."""
        waiting = self._waiting.get(namespace)
        if waiting is None or version < waiting.version:
            return
        if version >= waiting.newest:
            del self._waiting[namespace]
        else:
            # Only the oldest and the newest renewal are kept. The ones in between were sent after the oldest.
            waiting.version, waiting.since = version + 1, self._clock()

    def forget(self, namespace: str | None = None) -> None:
        """Forget the renewals in all namespaces or in one, because Leases are not renewed or cannot be watched."""
        self._waiting = {name: waiting for name, waiting in self._waiting.items() if namespace not in (None, name)}

    def overdue(self, namespace: str | None = None) -> float:
        """Return for how many seconds the oldest renewal has not been shown: the longest, or that of one namespace."""
        found = [waiting for name, waiting in self._waiting.items() if namespace in (None, name)]
        return max((waiting.until - waiting.since for waiting in found), default=0.0)
