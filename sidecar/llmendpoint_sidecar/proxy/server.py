"""The proxy of one process. It listens, enforces timeouts, and drains."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable

from llmendpoint_common.process.units import Address
from llmendpoint_sidecar.meter.exchange import ExchangeMeter
from llmendpoint_sidecar.policy.admission import Admission
from llmendpoint_sidecar.proxy.connection import ClientConnection, Shared
from llmendpoint_sidecar.proxy.heads import RequestHeadWriter
from llmendpoint_sidecar.proxy.pool import Upstream, UpstreamPool
from llmendpoint_sidecar.proxy.timeouts import Timeouts

_SWEEP_SECONDS = 1.0
#: Interval at which the drain checks whether the last connection has ended.
_DRAIN_POLL_SECONDS = 0.05
#: Maximum number of connections that are not accepted yet, so that a burst of clients waits instead of failing.
_BACKLOG = 4096
#: libuv accepts one connection per turn of the event loop and listener. In a burst, each turn is also used by all
#: streams. A duplicate of the socket is another listener; more of them cost more if only one client connects.
_LISTENERS = 4


class Proxy:
    """Serves clients in front of one upstream. A change of `timeouts` takes effect within a second."""

    def __init__(
        self,
        upstream: Address,
        timeouts: Timeouts,
        begin_meter: Callable[[bytes, bytes], ExchangeMeter],
        admission: Admission,
        clock: Callable[[], float],
    ) -> None:
        self.timeouts = timeouts
        self.pool = UpstreamPool(upstream, timeouts.connect, clock())
        head_writer = RequestHeadWriter(self.pool.host_line, drop_keys=bool(admission.keyring.folders))
        self._shared = Shared(Upstream(self.pool, head_writer), admission, begin_meter, clock)
        self._servers: list[asyncio.Server] = []
        self._sweeper: asyncio.Task[None] | None = None

    @property
    def connections(self) -> set[ClientConnection]:
        """The connections of clients."""
        return self._shared.connections

    def new_connection(self) -> ClientConnection:
        """Return the protocol for a new connection of a client."""
        return ClientConnection(self._shared)

    def set_next_turn(self, call: Callable[[Callable[[], None]], object]) -> None:
        """Set the function that calls another one in the next turn of the event loop."""
        self._shared.pace.next_turn = call

    async def start(self, sockets: list[socket.socket], tls: ssl.SSLContext | None = None) -> None:
        """Serve on listening sockets, with TLS if a context is given."""
        loop = asyncio.get_running_loop()
        self.set_next_turn(loop.call_soon)
        for sock in sockets:
            for one in (sock, *(sock.dup() for _ in range(_LISTENERS - 1))):
                server = await loop.create_server(self.new_connection, sock=one, backlog=_BACKLOG, ssl=tls)
                self._servers.append(server)
        self._sweeper = loop.create_task(self._sweep())

    async def drain(self, accept_seconds: float, finish_seconds: float) -> int:
        """Accept connections for another `accept_seconds`, then let requests finish for up to `finish_seconds`.

        Returns the number of connections that were closed during a request.
        """
        self._shared.draining = True
        await asyncio.sleep(accept_seconds)
        for server in self._servers:
            server.close()
        for connection in list(self.connections):
            connection.close_if_idle()
        deadline = self._shared.clock() + finish_seconds
        while self.connections and self._shared.clock() < deadline:  # noqa: ASYNC110 - ends at a deadline too
            await asyncio.sleep(_DRAIN_POLL_SECONDS)
        cut = len(self.connections)
        await self.close()
        return cut

    async def close(self) -> None:
        """Close every connection immediately."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for server in self._servers:
            server.close()
        for connection in list(self.connections):
            connection.abort()
        self.pool.close()
        await asyncio.sleep(0)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            now = self._shared.clock()
            self.pool.trim(now)
            for connection in list(self.connections):
                connection.check_timeouts(now, self.timeouts)
