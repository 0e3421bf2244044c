"""The clients' side: connections, pipelining in order, limits on heads, and the drain."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from typing import cast

import httptools

from llmendpoint_process.units import Address
from llmendpoint_sidecar.contract import Outcome
from llmendpoint_sidecar.meter.exchange import ExchangeMeter
from llmendpoint_sidecar.proxy.admission import Admission
from llmendpoint_sidecar.proxy.exchange import Exchange, RequestHead, Timeouts
from llmendpoint_sidecar.proxy.refusals import refusal
from llmendpoint_sidecar.proxy.upstream import UpstreamPool
from llmendpoint_sidecar.wire import http1

log = logging.getLogger(__name__)

_MAX_PIPELINED = 16
_MAX_CONNECTIONS = 8192
_SWEEP_SECONDS = 1.0
_HEAD_TOO_LARGE = "the request's head is larger than 64 KiB"
#: How long what a refused client still sends is read and dropped, so that it can read the answer (RFC 9112, 9.6).
_LINGER_SECONDS = 3.0


class Proxy:
    """Everything that the connections of one listener share."""

    def __init__(
        self,
        upstream: Address,
        timeouts: Timeouts,
        begin_meter: Callable[[bytes, bytes], ExchangeMeter],
        admission: Admission,
        clock: Callable[[], float],
    ) -> None:
        self.pool = UpstreamPool(upstream, timeouts.connect)
        self.admission = admission
        self.begin_meter = begin_meter
        self.draining = False
        self.connections: set[ClientConnection] = set()
        self._timeouts = timeouts
        self.clock = clock
        self._servers: list[asyncio.Server] = []
        self._sweeper: asyncio.Task[None] | None = None

    async def start(self, sockets: list[socket.socket], tls: ssl.SSLContext | None = None) -> None:
        """Serve on listening sockets, over TLS where there is a context."""
        loop = asyncio.get_running_loop()
        for sock in sockets:
            server = await loop.create_server(lambda: ClientConnection(self), sock=sock, backlog=4096, ssl=tls)
            self._servers.append(server)
        self._sweeper = loop.create_task(self._sweep())

    async def drain(self, accept_seconds: float, finish_seconds: float) -> int:
        """Serve on for `accept_seconds`, then let what runs finish; return how many exchanges had to be cut."""
        self.draining = True
        await asyncio.sleep(accept_seconds)
        for server in self._servers:
            server.close()
        for connection in list(self.connections):
            connection.close_if_idle()
        deadline = self.clock() + finish_seconds
        while self.connections and self.clock() < deadline:  # noqa: ASYNC110 - ends at a deadline too
            await asyncio.sleep(0.05)
        cut = len(self.connections)
        await self.close()
        return cut

    async def close(self) -> None:
        """Close every connection at once."""
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
            now = self.clock()
            for connection in list(self.connections):
                connection.check_timeouts(now, self._timeouts)


class ClientConnection(asyncio.Protocol):
    """One client's connection. Requests are parsed as they come and answered in their order."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._queue: deque[Exchange] = deque()
        self._incoming: Exchange | None = None
        self._headers: http1.Headers = []
        self._fields: dict[bytes, bytes] = {}
        self._target = b""
        self._in_head = True
        self._head_bytes = 0
        self._refused = False
        # httptools reads no body behind an offered upgrade: a second parser does, which is given the framing alone.
        self._body_unread = False
        self._replaying = False
        self._paused = False
        self._heard = proxy.clock()
        self._head_began: float | None = None
        self._lingers_until: float | None = None

    @property
    def draining(self) -> bool:
        """Whether this process is about to stop."""
        return self._proxy.draining

    # ---- used by exchanges

    def write(self, data: bytes) -> None:
        """Send response bytes."""
        if self._transport is not None:
            self._transport.write(data)

    def pause(self) -> None:
        """Stop reading requests."""
        self._paused = True
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read requests again."""
        if self._paused:
            self._paused = False
            self._heard = self._proxy.clock()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def exchange_done(self, *, keep_alive: bool) -> None:
        """Answer the next pipelined request, or close."""
        self._queue.popleft()
        # A connection is idle from the end of its last response on.
        self._heard = self._proxy.clock()
        if not keep_alive or self._proxy.draining:
            self._close()
        elif self._queue:
            self._queue[0].start()
            self._queue[0].flush_request()
        elif self._refused:
            self._close()
        else:
            self.resume()

    # ---- used by the proxy

    def close_if_idle(self) -> None:
        """Close a connection on which nothing happens."""
        if not self._queue:
            self._close()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def check_timeouts(self, now: float, timeouts: Timeouts) -> None:
        """End what takes too long: a silent upstream, a client that dawdles, or one that says nothing at all."""
        if self._lingers_until is not None:
            if now > self._lingers_until:
                self.abort()
        elif self._head_began is not None and now - self._head_began > timeouts.head:
            self._head_began = None
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, f"the request's head took longer than {timeouts.head:g} s")
        elif self._queue:
            self._queue[0].check_timeouts(now, timeouts)
            self._check_body(now, timeouts)
        elif now - self._heard > timeouts.keep_alive:
            self._close()

    def _check_body(self, now: float, timeouts: Timeouts) -> None:
        """End an exchange whose request stopped in the middle; one that the upstream does not take is its business."""
        exchange = self._incoming
        if exchange is None or self._paused or exchange.over or now - self._heard <= timeouts.idle:
            return
        self._refuse(HTTPStatus.REQUEST_TIMEOUT, f"nothing more of the body came for {timeouts.idle:g} s")

    # ---- asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Join the proxy's connections."""
        # uvloop's transports are not asyncio's by inheritance.
        self._transport = cast("asyncio.Transport", transport)
        if len(self._proxy.connections) >= _MAX_CONNECTIONS:
            self._refused = True
            sentence = f"server busy, please try again: {_MAX_CONNECTIONS} connections are open"
            self.write(refusal(HTTPStatus.SERVICE_UNAVAILABLE, sentence, b"/", close=True, retry=1))
            self._close()
            return
        self._proxy.connections.add(self)

    def data_received(self, data: bytes) -> None:
        """Parse; what is not HTTP is answered with 400."""
        if self._refused or self._lingers_until is not None:
            return
        self._heard = self._proxy.clock()
        if self._in_head:
            self._head_bytes += len(data)
        try:
            self._feed(data)
        except httptools.HttpParserCallbackError:
            log.exception("a request could not be handled")
            self.abort()
        except httptools.HttpParserError as error:
            self._refuse(HTTPStatus.BAD_REQUEST, f"the request is not valid HTTP: {error}")
            return
        if self._queue:
            self._queue[0].flush_request()
        if self._in_head and self._head_bytes > http1.MAX_HEAD_BYTES:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, _HEAD_TOO_LARGE)
        if len(self._queue) > _MAX_PIPELINED:
            self.pause()

    def eof_received(self) -> None:
        """A client that ends its side counts as gone: half-closing clients cannot be told from leaving ones."""
        self._leave()

    def connection_lost(self, error: Exception | None) -> None:
        """Stop everything that was done for this client."""
        self._transport = None
        self._proxy.connections.discard(self)
        self._leave()

    def pause_writing(self) -> None:
        """The client reads slower than the upstream sends."""
        if self._queue:
            self._queue[0].client_writable(writable=False)

    def resume_writing(self) -> None:
        """The client has caught up."""
        if self._queue:
            self._queue[0].client_writable(writable=True)

    # ---- httptools

    def on_message_begin(self) -> None:
        """A new request."""
        if self._replaying:
            return
        self._headers, self._target = [], b""
        self._in_head = True
        self._head_began = self._heard

    def on_url(self, part: bytes) -> None:
        """Collect the request target."""
        if self._replaying:
            return
        self._target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a header, or a trailer behind the body."""
        if self._replaying:
            return
        if self._in_head:
            self._headers.append((name, value))
        elif self._incoming is not None:
            self._incoming.request_trailer(name, value)

    def on_headers_complete(self) -> None:
        """The head is whole: begin the exchange when its turn has come."""
        if self._replaying:
            return
        self._in_head = False
        head_bytes, self._head_bytes = self._head_bytes, 0
        self._head_began = None
        headers = self._headers
        fields = self._fields = {name.lower(): value for name, value in headers}
        if self._parser.should_upgrade():
            self._body_unread = b"transfer-encoding" in fields or b"content-length" in fields
        version = self._parser.get_http_version()
        head = RequestHead(
            self._parser.get_method(),
            self._target,
            version,
            headers,
            fields,
            # An HTTP/1.0 answer cannot be chunked, so its end is the connection's.
            self._parser.should_keep_alive() and version != "1.0",
            b"transfer-encoding" in fields,
        )
        proxy = self._proxy
        exchange = Exchange(head, self, proxy.pool, proxy.begin_meter(head.method, head.target), proxy.clock)
        self._incoming = exchange
        self._queue.append(exchange)
        # The bytes may hold more than this head: only where there are many is it worth while to count.
        if head_bytes > http1.MAX_HEAD_BYTES and http1.head_size(head.target, headers) > http1.MAX_HEAD_BYTES:
            exchange.deny(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, _HEAD_TOO_LARGE)
        elif head.method == b"CONNECT":
            exchange.deny(HTTPStatus.NOT_IMPLEMENTED, "this proxy opens no tunnels")
        elif (version != "1.0" and b"host" not in fields) or (
            len(fields) != len(headers) and http1.count(headers, b"host") > 1
        ):
            exchange.deny(HTTPStatus.BAD_REQUEST, "a request has exactly one Host header")
        elif not proxy.admission.open:
            exchange.admit(proxy.admission)
        if len(self._queue) == 1:
            exchange.start()

    def on_body(self, data: bytes) -> None:
        """Forward; a body that nobody waits for any more is dropped."""
        if self._incoming is not None and not self._incoming.over:
            self._incoming.request_body(data)

    def on_message_complete(self) -> None:
        """The request is whole."""
        if self._body_unread:
            return
        exchange, self._incoming = self._incoming, None
        self._in_head = True
        self._head_bytes = 0
        if exchange is not None and not exchange.over:
            exchange.request_end()

    # ---- inside

    def _feed(self, data: bytes) -> None:
        while data:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                # Offered, not taken (h2c, WebSocket): go on in HTTP/1.1 behind the offer.
                data = data[upgrade.args[0] :]
                self._parser = httptools.HttpRequestParser(self)
                if self._body_unread:
                    self._body_unread, self._replaying = False, True
                    self._parser.feed_data(self._framing())
                    self._replaying = False
            else:
                return

    def _framing(self) -> bytes:
        """Return a head that says of a body what the last one said."""
        names = (b"transfer-encoding", b"content-length")
        headers = [(name, self._fields[name]) for name in names if name in self._fields]
        return http1.write_head(b"POST / HTTP/1.1", [(b"Host", b"_"), *headers])

    def _refuse(self, status: HTTPStatus, sentence: str) -> None:
        """Answer a request that could not be parsed, after those before it."""
        self._refused = True
        broken = self._incoming
        if broken is not None and not broken.over:
            if self._queue[0] is broken:
                broken.refuse(status, sentence, Outcome.REJECTED)
            else:
                self.abort()
        elif self._queue:
            return
        else:
            meter = self._proxy.begin_meter(b"", self._target)
            meter.response_head(status, b"")
            meter.finish(Outcome.REJECTED)
            self.write(refusal(status, sentence, self._target, close=True))
            self._close()

    def _leave(self) -> None:
        for exchange in self._queue:
            exchange.client_gone()
        self._queue.clear()
        self._incoming = None

    def _close(self) -> None:
        """Close; while the client still sends a request, first let it read the answer."""
        transport = self._transport
        if transport is None or transport.is_closing() or self._lingers_until is not None:
            return
        if self._incoming is not None and not self._incoming.request_complete and not self._proxy.draining:
            self._lingers_until = self._proxy.clock() + _LINGER_SECONDS
            if transport.can_write_eof():
                transport.write_eof()
            transport.resume_reading()
        else:
            transport.close()
