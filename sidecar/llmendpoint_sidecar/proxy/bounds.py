"""Bounds of the connections of clients: their number, and the memory of incomplete heads and of unread responses.

A connection counts from the moment at which it is accepted, so unfinished TLS handshakes count, too. If there is no
room for a new connection, another one is closed for it. Otherwise clients that send nothing could shut out those that
send requests. The first of these that exists is closed:

1. The oldest connection that has not sent a complete head yet.
2. The oldest connection without an admitted request: it is idle, or the rest of a refused request is being discarded.

If all connections carry requests, the new one is refused.

Incomplete heads share a bound of memory, and so do the bytes of responses whose clients read slower than the upstream
sends. If one of them is exceeded, the connection is closed that has taken a part of it for the longest time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

from llmendpoint_sidecar.budget import Budget

log = logging.getLogger(__name__)

#: Memory of an incomplete head besides its bytes.
_HEAD_OVERHEAD_BYTES = 256
_LOG_SECONDS = 60.0
KeyT = TypeVar("KeyT")


class _Memory(Generic[KeyT]):
    """Memory that connections share. The first one in `sizes` has held a part of it for the longest time."""

    __slots__ = ("limit", "sizes", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self.sizes: dict[KeyT, int] = {}

    def hold(self, key: KeyT, size: int) -> KeyT | None:
        """Change what a connection holds. Returns the connection to close if the limit is exceeded."""
        self.used += size - self.sizes.get(key, 0)
        self.sizes[key] = size
        return next(iter(self.sizes)) if self.used > self.limit else None

    def free(self, key: KeyT) -> None:
        """Count nothing more for a connection."""
        self.used -= self.sizes.pop(key, 0)


class Bounded(Protocol):
    """A connection, as the bounds use it."""

    @property
    def is_expendable(self) -> bool:
        """Whether the connection carries no admitted request."""

    def abort(self) -> None:
        """Close immediately."""


ConnectionT = TypeVar("ConnectionT", bound=Bounded)


class ConnectionBounds(Generic[ConnectionT]):
    """The connections of clients in the order in which they were accepted. Times are readings of the clock."""

    def __init__(self, budget: Budget, clock: Callable[[], float]) -> None:
        self.max_connections = budget.connections
        self._clock = clock
        # Dicts keep the order of their keys, and remove a key in constant time.
        self._all: dict[ConnectionT, None] = {}
        self._newcomers: dict[ConnectionT, None] = {}
        self._heads: _Memory[ConnectionT] = _Memory(budget.head_bytes)
        self._unsent: _Memory[ConnectionT] = _Memory(budget.unsent_bytes)
        self._logged: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[ConnectionT]:
        return iter(list(self._all))

    def admit(self, connection: ConnectionT) -> bool:
        """Add a connection, and close another one if there is no room. Returns False if there is none to close."""
        if len(self._all) >= self.max_connections:
            other = next(iter(self._newcomers), None) or self._first_expendable()
            self._log("the limit of %d connections is reached", self.max_connections)
            if other is None:
                return False
            self._close(other)
        self._all[connection] = self._newcomers[connection] = None
        return True

    def remove(self, connection: ConnectionT) -> None:
        """Remove a connection that is closed."""
        self._all.pop(connection, None)
        self.head_completed(connection)
        self.response_read(connection)

    def head_received(self, connection: ConnectionT, size: int) -> None:
        """Count the memory of an incomplete head, of which `size` bytes were received."""
        other = self._heads.hold(connection, size + _HEAD_OVERHEAD_BYTES)
        if other is not None:
            self._log("incomplete heads of requests take more than %d bytes", self._heads.limit)
            self._close(other)

    def head_completed(self, connection: ConnectionT) -> None:
        """Note that the head of a request is complete."""
        self._newcomers.pop(connection, None)
        self._heads.free(connection)

    def response_unread(self, connection: ConnectionT, size: int) -> None:
        """Count the memory of a response of which the client has not read `size` bytes."""
        other = self._unsent.hold(connection, size)
        if other is not None:
            self._log("responses that clients do not read take more than %d bytes", self._unsent.limit)
            self._close(other)

    def response_read(self, connection: ConnectionT) -> None:
        """Note that the client has caught up."""
        self._unsent.free(connection)

    def _close(self, connection: ConnectionT) -> None:
        # The transport reports the end later.
        self.remove(connection)
        connection.abort()

    def _first_expendable(self) -> ConnectionT | None:
        return next((connection for connection in self._all if connection.is_expendable), None)

    def _log(self, text: str, limit: int) -> None:
        now = self._clock()
        if text not in self._logged or now - self._logged[text] > _LOG_SECONDS:
            self._logged[text] = now
            log.warning(f"{text}; other connections are closed", limit)
