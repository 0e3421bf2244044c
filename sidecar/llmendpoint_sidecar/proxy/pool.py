"""Pool of connections to the upstream.

A connection is reused only after a response that ended cleanly. A request is never sent twice.
"""

from __future__ import annotations

from typing import NamedTuple

from llmendpoint_common.process.units import Address
from llmendpoint_sidecar.proxy.cors import CorsHeaders
from llmendpoint_sidecar.proxy.dialer import Dialer
from llmendpoint_sidecar.proxy.heads import RequestHeadWriter
from llmendpoint_sidecar.proxy.upstream import UpstreamConnection

#: Further connections are closed. Ollama has no limit; each connection takes a file descriptor and some KiB on both
#: sides. Opening one costs as much CPU time as half a request.
_MAX_IDLE_CONNECTIONS = 1024
#: Connections that were not used for this time are closed. Go's and nginx's clients keep them for 90 and 60 s.
_MAX_IDLE_SECONDS = 60.0


class UpstreamPool:
    """Idle connections to the upstream. The newest one is used first.

    `max_connections` is the number of clients: each uses one connection, so more are never needed. `now` is the time
    in seconds.
    """

    def __init__(self, address: Address, connect_timeout: float, max_connections: int, now: float) -> None:
        self._max_idle = min(_MAX_IDLE_CONNECTIONS, max_connections)
        #: The Host of forwarded requests: Ollama on loopback rejects other names.
        self.host = str(address).encode()
        self._dialer = Dialer(address, connect_timeout)
        #: The idle connections in the order of their last use, and the time of the sweep before it.
        self._idle: dict[UpstreamConnection, float] = {}
        self._now = now
        self.opened = 0

    def acquire(self) -> UpstreamConnection:
        """Return an idle connection, or a new one, which may not be open yet."""
        while self._idle:
            connection, _ = self._idle.popitem()
            if connection.usable:
                return connection
        connection = UpstreamConnection(self._forget)
        connection.open(self._dialer)
        self.opened += 1
        return connection

    def release(self, connection: UpstreamConnection) -> None:
        """Keep a connection for another request. If it is closed meanwhile, `acquire` skips it."""
        if connection.usable and len(self._idle) < self._max_idle:
            connection.detach()
            self._idle[connection] = self._now
        else:
            connection.abort()

    def trim(self, now: float) -> None:
        """Close the connections that have been idle for too long. Called about once per second with the time."""
        self._now = now
        for connection in [one for one, since in self._idle.items() if now - since > _MAX_IDLE_SECONDS]:
            del self._idle[connection]
            connection.abort()

    def close(self) -> None:
        """Close the idle connections."""
        for connection in self._idle:
            connection.abort()
        self._idle.clear()

    def _forget(self, connection: UpstreamConnection) -> None:
        self._idle.pop(connection, None)


class Upstream(NamedTuple):
    """The upstream of a proxy: its idle connections, the writer of request heads, and its CORS headers."""

    pool: UpstreamPool
    head_writer: RequestHeadWriter
    cors: CorsHeaders
