"""Connections to one upstream that wait for their next request.

A connection is used again only after a response that ended cleanly, and a request is never sent twice.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from llmendpoint_common.process.errors import UpstreamError
from llmendpoint_common.process.units import Address
from llmendpoint_sidecar.proxy.heads import RequestHeadWriter
from llmendpoint_sidecar.proxy.upstream import UpstreamConnection

#: More are closed. Ollama sets no limit of its own; each costs a file descriptor on both sides.
MAX_IDLE_CONNECTIONS = 256


class UpstreamPool:
    """Idle connections to one upstream; the newest is used first."""

    def __init__(self, address: Address, connect_timeout: float) -> None:
        self._address = address
        #: The Host line of forwarded requests: Ollama on loopback refuses foreign names.
        self.host_line = b"Host: %s" % str(address).encode()
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
        """Open a connection. UpstreamError names the address if that fails or takes longer than the timeout."""
        loop = asyncio.get_running_loop()
        host, port = self._address.host or "127.0.0.1", self._address.port
        try:
            async with asyncio.timeout(self._connect_timeout):
                _, connection = await loop.create_connection(lambda: UpstreamConnection(self._forget), host, port)
        except TimeoutError:
            raise UpstreamError(f"no connection to {self._address} within {self._connect_timeout:g} s") from None
        except OSError as error:
            raise UpstreamError(f"cannot connect to {self._address}: {error.strerror or error}") from None
        self.opened += 1
        return connection

    def release(self, connection: UpstreamConnection) -> None:
        """Keep a connection for the next request. One that has been closed since is skipped by `acquire`."""
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
    """The upstream of a proxy: its connections, and the writer of the heads that are sent on them."""

    pool: UpstreamPool
    head_writer: RequestHeadWriter
