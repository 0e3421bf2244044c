"""Pool of idle connections to the upstream.

A connection is reused only after a response that ended cleanly. A request is never sent twice.
"""

from __future__ import annotations

import asyncio
import functools
from typing import NamedTuple

from llmendpoint_common.process.errors import UpstreamError
from llmendpoint_common.process.sockets import probe_silent_peers
from llmendpoint_common.process.units import Address
from llmendpoint_sidecar.proxy.cors import CorsHeaders
from llmendpoint_sidecar.proxy.heads import RequestHeadWriter
from llmendpoint_sidecar.proxy.upstream import UpstreamConnection

#: Further connections are closed. Ollama has no limit; each connection takes a file descriptor on both sides.
_MAX_IDLE_CONNECTIONS = 256


class UpstreamPool:
    """Idle connections to the upstream. The newest one is used first.

    `max_connections` is the number of clients: each uses one connection, so more are never needed.
    """

    def __init__(self, address: Address, connect_timeout: float, max_connections: int) -> None:
        self._max_idle = min(_MAX_IDLE_CONNECTIONS, max_connections)
        self._address = address
        #: The Host of forwarded requests: Ollama on loopback rejects other names.
        self.host = str(address).encode()
        self._connect_timeout = connect_timeout
        self._idle: list[UpstreamConnection] = []
        self.opened = 0

    def acquire(self) -> UpstreamConnection | None:
        """Return an idle connection, if there is one."""
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
        return None

    async def connect(self) -> UpstreamConnection:
        """Open a connection. Raises UpstreamError, which names the address, on failure and after the timeout."""
        loop = asyncio.get_running_loop()
        host, port = self._address.host or "127.0.0.1", self._address.port
        new = functools.partial(UpstreamConnection, self._forget)
        try:
            async with asyncio.timeout(self._connect_timeout):
                transport, connection = await loop.create_connection(new, host, port)
        except TimeoutError:
            raise UpstreamError(f"no connection to {self._address} within {self._connect_timeout:g} s") from None
        except OSError as error:
            raise UpstreamError(f"cannot connect to {self._address}: {error.strerror or error}") from None
        self.opened += 1
        probe_silent_peers(transport.get_extra_info("socket"))
        return connection

    def release(self, connection: UpstreamConnection) -> None:
        """Keep a connection for another request. If it is closed meanwhile, `acquire` skips it."""
        if connection.usable and len(self._idle) < self._max_idle:
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
    """The upstream of a proxy: its idle connections, the writer of request heads, and its CORS headers."""

    pool: UpstreamPool
    head_writer: RequestHeadWriter
    cors: CorsHeaders
