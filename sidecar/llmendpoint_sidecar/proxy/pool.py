"""Pool of connections to the upstream.

A connection is reused only after a response that ended cleanly. A request is never sent twice.
"""

from __future__ import annotations

from typing import NamedTuple

from llmendpoint_common.process.units import Address
from llmendpoint_sidecar.proxy.dialer import Dialer
from llmendpoint_sidecar.proxy.heads import RequestHeadWriter
from llmendpoint_sidecar.proxy.upstream import UpstreamConnection

#: Further connections are closed. Ollama has no limit; each connection takes a file descriptor on both sides.
MAX_IDLE_CONNECTIONS = 256


class UpstreamPool:
    """Idle connections to the upstream. The newest one is used first."""

    def __init__(self, address: Address, connect_timeout: float) -> None:
        #: The Host line of forwarded requests: Ollama on loopback rejects other names.
        self.host_line = b"Host: %s" % str(address).encode()
        self._dialer = Dialer(address, connect_timeout)
        self._idle: list[UpstreamConnection] = []
        self.opened = 0

    def acquire(self) -> UpstreamConnection:
        """Return an idle connection, or a new one, which may not be open yet."""
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
        connection = UpstreamConnection(self._forget)
        connection.open(self._dialer)
        self.opened += 1
        return connection

    def release(self, connection: UpstreamConnection) -> None:
        """Keep a connection for another request. If it is closed meanwhile, `acquire` skips it."""
        if len(self._idle) < MAX_IDLE_CONNECTIONS:
            connection.detach()
            self._idle.append(connection)
        else:
            connection.abort()

    def close(self) -> None:
        """Close the idle connections."""
        for connection in self._idle:
            connection.abort()
        self._idle.clear()

    def _forget(self, connection: UpstreamConnection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)


class Upstream(NamedTuple):
    """The upstream of a proxy: its idle connections, and the writer of request heads."""

    pool: UpstreamPool
    head_writer: RequestHeadWriter
