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

from llmendpoint_common.contracts.sidecar import Outcome
from llmendpoint_common.process.errors import BodyError, HeadError
from llmendpoint_common.process.units import Address
from llmendpoint_common.wire.http1 import heads
from llmendpoint_common.wire.http1.chunked import ChunkedFraming
from llmendpoint_sidecar.meter.exchange import ExchangeMeter
from llmendpoint_sidecar.policy.admission import Admission
from llmendpoint_sidecar.policy.refusals import refusal
from llmendpoint_sidecar.proxy.client import RequestHead, Timeouts
from llmendpoint_sidecar.proxy.exchange import Exchange
from llmendpoint_sidecar.proxy.upstream import UpstreamPool, drop

log = logging.getLogger(__name__)

_MAX_PIPELINED = 16
_MAX_CONNECTIONS = 8192
_SWEEP_SECONDS = 1.0
_VERSIONS = {b"HTTP/1.1": "1.1", b"HTTP/1.0": "1.0"}
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
        #: Sends response bytes: the transport's own method, without a frame of Python for each piece of a stream.
        self.write: Callable[[bytes], None] = drop
        self._queue: deque[Exchange] = deque()
        self._incoming: Exchange | None = None
        self._partial = b""
        #: How much of a body is still to come: bytes of a Content-Length, or what follows its chunks.
        self._left = 0
        self._chunked: ChunkedFraming | None = None
        #: What llhttp says of the bytes that it was fed: a head was whole, and whether the connection lives on; a
        #: request was whole; an upgrade was offered.
        self._headed = self._whole = self._offered = False
        self._keep_alive = False
        self._refused = False
        self._closed = False
        self._paused = False
        self._heard = proxy.clock()
        self._head_began: float | None = None
        self._lingers_until: float | None = None

    @property
    def draining(self) -> bool:
        """Whether this process is about to stop."""
        return self._proxy.draining

    # ---- used by exchanges

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
            # It may be refused at once, and gone from the queue.
            following = self._queue[0]
            following.start()
            following.flush_request()
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
        self._closed = True
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
        self.write = self._transport.write
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
        try:
            while data and not self._closed:
                data = self._read_head(data) if self._incoming is None else self._read_body(self._incoming, data)
        except httptools.HttpParserCallbackError:
            log.exception("a request could not be handled")
            self.abort()
        except (httptools.HttpParserError, httptools.HttpParserUpgrade, HeadError, BodyError) as error:
            self._refuse(HTTPStatus.BAD_REQUEST, f"the request is not valid HTTP: {error}")
            return
        if self._queue:
            self._queue[0].flush_request()
            if len(self._queue) > _MAX_PIPELINED:
                self.pause()

    def eof_received(self) -> None:
        """A client that ends its side counts as gone: half-closing clients cannot be told from leaving ones."""
        self._leave()

    def connection_lost(self, error: Exception | None) -> None:
        """Stop everything that was done for this client."""
        self._transport = None
        self.write = drop
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

    # ---- httptools: llhttp judges every byte; where a request begins and ends is found beside it, and has to agree

    def on_headers_complete(self) -> None:
        """A head is whole; once a message has ended, llhttp no longer knows whether its connection lives on."""
        self._headed = True
        self._keep_alive = bool(self._parser.should_keep_alive())

    def on_body(self, data: bytes) -> None:
        """Forward; a body that nobody waits for any more is dropped."""
        if self._incoming is not None and not self._incoming.over:
            self._incoming.request_body(data)

    def on_message_complete(self) -> None:
        """A request is whole."""
        self._whole = True

    # ---- inside

    def _read_head(self, data: bytes) -> bytes:
        """Take a head if it is whole, and return the bytes behind it."""
        before = len(self._partial)
        raw = self._partial + data
        if raw.startswith(b"\r\n"):
            # Old clients send an empty line behind a body (RFC 9112, 2.2).
            self._partial = b""
            return raw[2:]
        end = raw.find(heads.HEAD_END, max(0, before - 3)) + len(heads.HEAD_END)
        if end < len(heads.HEAD_END):
            return self._await_head(raw, data)
        self._head_began = None
        self._partial = raw = raw[:end]
        self._feed(raw[before:] if before else raw)
        if not self._headed:
            raise HeadError("the head's end is in doubt")
        self._begin(raw)
        self._partial = b""
        return data[end - before :]

    def _await_head(self, raw: bytes, data: bytes) -> bytes:
        if not self._partial:
            self._head_began = self._heard
        self._partial = raw
        if len(raw) > heads.MAX_HEAD_BYTES:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, _HEAD_TOO_LARGE)
        else:
            self._feed(data)
        return b""

    def _begin(self, raw: bytes) -> None:
        """Begin the exchange of a whole head when its turn has come."""
        head = heads.read_head(raw)
        method, target, version = _request_line(head.start)
        fields = head.fields
        chunked = b"transfer-encoding" in fields
        # An HTTP/1.0 answer cannot be chunked, so its end is the connection's.
        keep_alive = self._keep_alive and version != "1.0"
        self._headed = False
        if self._offered:
            self._decline(fields)
        proxy = self._proxy
        request = RequestHead(method, target, version, head, keep_alive, chunked)
        exchange = Exchange(request, self, proxy.pool, proxy.begin_meter(method, target), proxy.clock)
        self._incoming = exchange
        self._queue.append(exchange)
        if len(raw) > heads.MAX_HEAD_BYTES:
            exchange.deny(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, _HEAD_TOO_LARGE)
        elif method == b"CONNECT":
            exchange.deny(HTTPStatus.NOT_IMPLEMENTED, "this proxy opens no tunnels")
        elif (version != "1.0" and b"host" not in fields) or (
            len(fields) != len(head.lines) and heads.count(head, b"host") > 1
        ):
            exchange.deny(HTTPStatus.BAD_REQUEST, "a request has exactly one Host header")
        elif not proxy.admission.open:
            exchange.admit(proxy.admission)
        if len(self._queue) == 1:
            exchange.start()
        self._chunked = ChunkedFraming() if chunked else None
        self._left = int(fields.get(b"content-length", b"0"))
        if not chunked and not self._left:
            self._end_request(exchange, b"")

    def _read_body(self, exchange: Exchange, data: bytes) -> bytes:
        """Take what belongs to the request, and return the bytes behind it."""
        chunked = self._chunked
        if chunked is not None:
            size = chunked.feed(data)
            ended = chunked.ended
        else:
            size = min(self._left, len(data))
            self._left -= size
            ended = not self._left
        if size < len(data):
            data, rest = data[:size], data[size:]
        else:
            rest = b""
        self._parser.feed_data(data)
        if ended:
            self._end_request(exchange, b"" if chunked is None else chunked.trailers)
        elif self._whole:
            raise HeadError("the body's end is in doubt")
        return rest

    def _end_request(self, exchange: Exchange, trailers: bytes) -> None:
        if not self._whole:
            raise HeadError("the body's end is in doubt")
        self._whole = False
        self._incoming = None
        if not exchange.over:
            exchange.request_end(trailers)

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._offered = True

    def _decline(self, fields: heads.Fields) -> None:
        """Go on in HTTP/1.1 behind an offer (h2c, WebSocket): httptools reads no body there, so a new parser does.

        It is given a head that says of the body what the last one said.
        """
        self._offered = self._whole = False
        self._parser = httptools.HttpRequestParser(self)
        names = (b"transfer-encoding", b"content-length")
        headers = [(name, fields[name]) for name in names if name in fields]
        self._parser.feed_data(heads.write_head(b"POST / HTTP/1.1", [(b"Host", b"_"), *headers]))
        self._headed = False

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
            target = self._partial.partition(b" ")[2].partition(b" ")[0]
            meter = self._proxy.begin_meter(b"", target)
            meter.response_head(status, b"")
            meter.finish(Outcome.REJECTED)
            self.write(refusal(status, sentence, target, close=True))
            self._close()

    def _leave(self) -> None:
        self._closed = True
        for exchange in self._queue:
            exchange.client_gone()
        self._queue.clear()
        self._incoming = None

    def _close(self) -> None:
        """Close; while the client still sends a request, first let it read the answer."""
        self._closed = True
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


def _request_line(line: bytes) -> tuple[bytes, bytes, str]:
    """Return method, target and version of a request line."""
    parts = line.split(b" ")
    if len(parts) != 3 or parts[2] not in _VERSIONS:
        raise HeadError("the request line is not METHOD TARGET HTTP/1.1")
    return parts[0], parts[1], _VERSIONS[parts[2]]
