"""The proxy of one process. It listens, enforces timeouts, and drains."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import NamedTuple

from llmendpoint_common.process.sockets import probe_silent_peers
from llmendpoint_common.process.units import Address
from llmendpoint_sidecar.budget import DEFAULT_BUDGET, Budget
from llmendpoint_sidecar.meter.exchange import ExchangeMeter
from llmendpoint_sidecar.meter.traffic import Traffic
from llmendpoint_sidecar.policy.admission import Admission
from llmendpoint_sidecar.policy.hung import HungNotice
from llmendpoint_sidecar.proxy.bounds import ConnectionBounds
from llmendpoint_sidecar.proxy.connection import ClientConnection, Shared
from llmendpoint_sidecar.proxy.cors import AskOllama, CorsHeaders
from llmendpoint_sidecar.proxy.heads import RequestHeadWriter
from llmendpoint_sidecar.proxy.pool import Upstream, UpstreamPool
from llmendpoint_sidecar.proxy.timeouts import Timeouts
from llmendpoint_sidecar.proxy.tls import TlsServer

_SWEEP_SECONDS = 1.0
#: Interval at which the drain closes idle connections, and checks whether the last connection has ended.
_DRAIN_POLL_SECONDS = 0.05
#: Maximum number of connections that are not accepted yet, so that a burst of clients waits instead of failing.
_BACKLOG = 4096
#: libuv accepts one connection per turn of the event loop and listener. In a burst, each turn is also used by all
#: streams. A duplicate of the socket is another listener; more of them cost more if only one client connects.
_LISTENERS = 4


class Environment(NamedTuple):
    """What a proxy takes from its process.

    `ask_cors` returns the CORS headers that Ollama sends for an Origin. If it is None, error responses have none.
    """

    budget: Budget = DEFAULT_BUDGET
    ask_cors: AskOllama | None = None


_ALONE = Environment()


class Proxy:
    """Serves clients in front of one upstream. A change of `timeouts` takes effect within a second."""

    def __init__(
        self,
        upstream: Address,
        timeouts: Timeouts,
        begin_meter: Callable[[bytes, bytes], ExchangeMeter],
        admission: Admission,
        clock: Callable[[], float],
        environment: Environment = _ALONE,
    ) -> None:
        budget, ask_cors = environment
        self.timeouts = timeouts
        self.pool = UpstreamPool(upstream, timeouts.connect, budget.connections, clock())
        head_writer = RequestHeadWriter(self.pool.host, drop_keys=admission.keyring.required)
        self.cors = CorsHeaders(ask_cors, clock)
        self.connections: ConnectionBounds[ClientConnection] = ConnectionBounds(budget, clock)
        shared_upstream = Upstream(self.pool, head_writer, self.cors)
        self._shared = Shared(shared_upstream, admission, begin_meter, clock, self.connections)
        self._servers: list[asyncio.Server | TlsServer] = []
        self._sweeper: asyncio.Task[None] | None = None
        self._hung: HungNotice | None = None

    def traffic(self) -> Traffic:
        """Return the requests that were forwarded and are in flight, by model."""
        found: Traffic = {}
        now = self._shared.clock()
        for connection in self.connections:
            connection.add_traffic(found, now)
        return found

    def note_hung(self, notice: HungNotice | None) -> None:
        """End the requests that a notice concerns now, and those that are still forwarded, until it is None."""
        self._hung = notice
        self._end_hung()

    def _end_hung(self) -> None:
        if self._hung is not None and self._hung.ends_waiting:
            for connection in list(self.connections):
                connection.end_hung(self._hung)

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
            probe_silent_peers(sock)
            if tls is not None:
                sock.listen(_BACKLOG)
                self._servers.append(TlsServer(sock, tls, self.new_connection))
                continue
            for one in (sock, *(sock.dup() for _ in range(_LISTENERS - 1))):
                server = await loop.create_server(self.new_connection, sock=one, backlog=_BACKLOG)
                self._servers.append(server)
        self._sweeper = loop.create_task(self._sweep())

    async def drain(self, accept_seconds: float, finish_seconds: float) -> int:
        """Accept connections for another `accept_seconds`, then let requests finish for up to `finish_seconds`.

        Responses announce that their connection will be closed. A connection on which no response did is closed when it
        has been idle for `accept_seconds`. Returns the number of connections that were closed during a request.
        """
        self._shared.draining = True
        await asyncio.sleep(accept_seconds)
        for server in self._servers:
            server.close()
        deadline = self._shared.clock() + finish_seconds
        while self.connections and (now := self._shared.clock()) < deadline:
            for connection in self.connections:
                connection.close_if_idle(now - accept_seconds)
            await asyncio.sleep(_DRAIN_POLL_SECONDS)
        cut = sum(not connection.is_idle for connection in self.connections)
        await self.close()
        return cut

    async def close(self) -> None:
        """Close every connection immediately."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for server in self._servers:
            server.close()
        for connection in self.connections:
            connection.abort()
        self.cors.close()
        self.pool.close()
        for server in self._servers:
            if isinstance(server, TlsServer):
                await server.wait_closed()
        await asyncio.sleep(0)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            now = self._shared.clock()
            self.pool.trim(now)
            for connection in self.connections:
                connection.check_timeouts(now, self.timeouts)
            self._end_hung()
