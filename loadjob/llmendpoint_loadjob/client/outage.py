"""Pauses of users whose requests fail, so that a dead server costs neither the client nor the network anything."""

from __future__ import annotations

_MIN_SECONDS = 0.1
_MAX_SECONDS = 5.0


class Outage:
    """The time since which all requests have failed.

    A user waits as long as the outage has lasted, at most 5 s. This doubles the pauses, and it does not depend on the
    number of users. A server that answers some requests causes next to no pauses.
    """

    def __init__(self) -> None:
        self._since: float | None = None

    def end(self) -> None:
        """Note a request that was answered successfully."""
        self._since = None

    def pause(self, now: float, *, is_connected: bool) -> float:
        """Note a failed request, and return the pause in seconds. Without a connection, it is at least 0.1 s."""
        if self._since is None:
            self._since = now
        return min(max(now - self._since, 0.0 if is_connected else _MIN_SECONDS), _MAX_SECONDS)
