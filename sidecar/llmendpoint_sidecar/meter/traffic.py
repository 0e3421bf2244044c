"""Requests that wait for Ollama at one moment, by model: what one process knows, to detect a hung Ollama.

It is collected once per second from the connections, so that the data path makes no call for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

import msgspec

#: A response flows if bytes of it arrived within this time.
FLOWING_SECONDS = 1.0


class ModelTraffic(msgspec.Struct):
    """The requests of one model. Times are readings of the monotonic clock, which the processes of a machine share.

    in_flight:      requests that were received completely and have not ended
    waiting_since:  last byte, or end of the request, of the request that has waited longest; None if none waits
    last_byte:      time of the last byte of a successful response; 0 if there was none
    flowing:        responses of which bytes arrived within the last second
    unread:         a client does not read its response, so that Ollama's bytes are not read either
    given_up:       requests that have ended without a complete successful response, since the process started
    own_runner:     a request may need other options of the model's runner than a plain request, or several slots
    """

    in_flight: int = 0
    waiting_since: float | None = None
    last_byte: float = 0.0
    flowing: int = 0
    unread: bool = False
    given_up: int = 0
    own_runner: bool = False

    def add(self, other: ModelTraffic) -> None:
        """Add the requests of another process."""
        self.in_flight += other.in_flight
        self.flowing += other.flowing
        self.given_up += other.given_up
        self.last_byte = max(self.last_byte, other.last_byte)
        self.unread = self.unread or other.unread
        self.own_runner = self.own_runner or other.own_runner
        if other.waiting_since is not None:
            self.wait(other.waiting_since)

    def wait(self, since: float) -> None:
        """Note a request that waits."""
        self.waiting_since = since if self.waiting_since is None else min(self.waiting_since, since)


#: Traffic by the label of the model.
Traffic: TypeAlias = dict[str, ModelTraffic]


def merged(parts: Iterable[Mapping[str, ModelTraffic]]) -> Traffic:
    """Return the traffic of several processes together."""
    total: Traffic = {}
    for part in parts:
        for label, one in part.items():
            total.setdefault(label, ModelTraffic()).add(one)
    return total
