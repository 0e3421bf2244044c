"""Connection of a client. A `RequestReader` parses the requests, which are answered in their order.

State      Meaning                                           Event                                  Next state
---------  ------------------------------------------------  -------------------------------------  ----------
HANDSHAKE  the TLS handshake is not complete (TLS only)      it is complete                         OPEN
                                                             it fails, or takes too long            CLOSED
OPEN       requests are read                                 bytes that are not HTTP, a slow head
                                                             or body (a)                            REFUSED
                                                             a response that announced the end      closing (b)
                                                             idle for too long; in a drain, for a
                                                             shorter time (d)                       CLOSED
REFUSED    nothing more is read; the requests before the     the invalid one is answered            closing (b)
           invalid one are answered, then the invalid one
LINGERING  the last response was sent; further bytes of the  it closes, or 3 s pass after it has
           client are discarded                              read the response (c)                  CLOSED
CLOSED     the transport is closed, or closes as soon as     the client does not read them (c)       CLOSED
           the client has read the buffered bytes
any                                                          the client has left, or the connection
                                                             is closed for another one (`bounds`)   CLOSED

(a) Requests that were complete before are forwarded and answered, whatever follows them.
(b) LINGERING if the client may still be sending, so that it can read the response before the connection is reset
    (RFC 9112, 9.6); otherwise CLOSED. In both, requests that wait for their turn are dropped. In a drain, the proxy
    announces the end, not the client, so a client that pipelines may be sending.
(c) After the time limit for silent clients, the buffered bytes are discarded.
(d) A response whose head was sent before the drain did not announce the end, so the next request is served, with a
    response that does. The client must get time to send it (`close_if_idle`).

The client is not read (backpressure) while an exchange asks for it, because the upstream is slower (`pause`), while
there are too many pipelined requests, and at the end of a request while the client does not read its responses. If many
requests arrive at once, some of them are read in each turn of the event loop, so that other clients do not wait.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from http import HTTPStatus
from typing import cast

from llmendpoint_common.contracts.sidecar import Outcome, RefusalReason
from llmendpoint_common.process.errors import HeadTooLargeError, ProtocolError
from llmendpoint_common.process.sockets import is_readable
from llmendpoint_common.wire.http1.request_reader import Fault, RequestHead, RequestReader, RequestState, fault_of
from llmendpoint_sidecar.meter.exchange import ExchangeMeter
from llmendpoint_sidecar.meter.traffic import Traffic
from llmendpoint_sidecar.policy.admission import Admission
from llmendpoint_sidecar.policy.hung import HungNotice
from llmendpoint_sidecar.policy.refusals import Refusal, write_refusal
from llmendpoint_sidecar.proxy.bounds import ConnectionBounds
from llmendpoint_sidecar.proxy.exchange import Exchange, ExchangeState
from llmendpoint_sidecar.proxy.pace import MAX_BEGUN, Pace
from llmendpoint_sidecar.proxy.pool import Upstream
from llmendpoint_sidecar.proxy.timeouts import Timeouts
from llmendpoint_sidecar.proxy.tls import TlsConnection
from llmendpoint_sidecar.proxy.upstream import drop

log = logging.getLogger(__name__)

#: Maximum number of unanswered requests of a connection. Beyond it, the connection is not read. More of them can be in
#: the last piece that was received, at most as many as the reader reads at once.
_MAX_PIPELINED = 16
#: If reading a large piece takes longer, the next one is read in the next turn of the event loop. libuv reads up to 32
#: pieces of 256 KiB from one socket before it turns to others.
_READ_SECONDS = 0.0005
_LARGE_BYTES = 64 * 1024
_LINGER_SECONDS = 3.0


class ConnectionState(Enum):
    """States of a connection. The table above lists the transitions."""

    HANDSHAKE = "handshake"
    OPEN = "open"
    REFUSED = "refused"
    LINGERING = "lingering"
    CLOSED = "closed"


# Looking up a member in its class costs more than the comparison.
_HANDSHAKE, _OPEN, _REFUSED = ConnectionState.HANDSHAKE, ConnectionState.OPEN, ConnectionState.REFUSED
_LINGERING, _CLOSED = ConnectionState.LINGERING, ConnectionState.CLOSED
_IN_HEAD = RequestState.HEAD
#: States of an exchange in which it only waits for the rest of a request that is discarded, or for CORS headers.
_REFUSED_EXCHANGES = frozenset({ExchangeState.REFUSED, ExchangeState.REFUSING, ExchangeState.ANSWERED})


@dataclass
class Shared:
    """Objects that the connections of one proxy share. `draining`: the process is about to stop."""

    upstream: Upstream
    admission: Admission
    begin_meter: Callable[[bytes, bytes], ExchangeMeter]
    clock: Callable[[], float]
    connections: ConnectionBounds[ClientConnection]
    pace: Pace = field(default_factory=Pace)
    draining: bool = False


class ClientConnection(TlsConnection):
    """Connection of a client. Times are readings of the shared clock, in seconds."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._pace = shared.pace
        self._state = _OPEN
        self._reader = RequestReader(self)
        self._transport: asyncio.Transport | None = None
        self._cancel_handshake: Callable[[], None] = _do_nothing
        #: Sends response bytes. It is the transport's own method; a method here would add a call for each piece.
        self.write: Callable[[bytes], None] = drop
        #: Exchanges in their order; the first one is being answered. `_incoming` is the one that is being read.
        self._queue: deque[Exchange] = deque()
        self._incoming: Exchange | None = None
        # Nothing is read from the client while the upstream is slower, or while enough was read for this turn of the
        # event loop, or too many requests are pipelined.
        self._paused = False
        self._is_full = False
        #: Bytes of the next request, which waits for the next turn of the event loop.
        self._waiting = b""
        #: Whether the client reads slower than the upstream sends, also if the response is complete meanwhile.
        self._is_unread = False
        #: Whether no head is complete yet, or the head of a further request is incomplete.
        self._is_in_head = True
        # Times: the last received bytes, the first byte of an incomplete head, the beginning of LINGERING or CLOSED.
        self._heard = shared.clock()
        self._head_began: float | None = None
        self._closing_since = 0.0

    @property
    def draining(self) -> bool:
        """Whether the process is about to stop."""
        return self._shared.draining

    @property
    def is_expendable(self) -> bool:
        """Whether the connection carries no admitted request."""
        return not self._queue or self._queue[0].state in _REFUSED_EXCHANGES

    # ---- calls of exchanges

    def pause(self) -> None:
        """Stop reading requests."""
        self._paused = True
        self._pause_reading()

    def resume(self) -> None:
        """Read requests again."""
        if not self._paused:
            return
        self._paused = False
        self._heard = self._shared.clock()
        self._resume_reading()

    def exchange_done(self, *, keep_alive: bool) -> None:
        """Answer the next pipelined request, or close."""
        self._queue.popleft()
        # A connection is idle from the end of its last response.
        self._heard = self._shared.clock()
        if not keep_alive:
            self._close(may_be_sending=self._shared.draining)
        elif self._queue:
            # `start` may refuse the request immediately, which removes it from the queue.
            following = self._queue[0]
            if self._is_unread:
                # The transport reported this to an earlier exchange, and does not repeat it.
                following.client_writable(writable=False)
            following.start()
            following.flush_request()
        elif self._state is _REFUSED:
            self._close()
        else:
            self.resume()
        if self._is_full:
            self._read_later()

    # ---- calls of the proxy

    @property
    def is_idle(self) -> bool:
        """Whether no request or response is in progress."""
        if self._queue or self._waiting or self._reader.unread or self._head_began is not None:
            return False
        return self._transport is None or not self._transport.get_write_buffer_size()

    def close_if_idle(self, since: float) -> None:
        """Close the connection in a drain if nothing has happened on it since this time.

        A request that is on its way when the connection is closed is lost. The more time has passed since the last
        response, the less likely that is. Bytes that have arrived, but were not read yet, count as a request.
        """
        if self._heard > since:
            return
        if self._state is _HANDSHAKE:
            self.abort()
        elif self.is_idle and self._transport is not None:
            sock = self._transport.get_extra_info("socket")
            if sock is None or not is_readable(sock):
                self._close()

    def abort(self) -> None:
        """Close immediately."""
        if self._state is _HANDSHAKE:
            self._cancel_handshake()
        self._state = _CLOSED
        self._reader.close()
        if self._transport is not None:
            self._transport.abort()

    def check_timeouts(self, now: float, timeouts: Timeouts) -> None:
        """End an exchange, a request or a connection that has exceeded its time limit."""
        if self._state is _LINGERING or self._state is _CLOSED:
            lingers = self._state is _LINGERING and not self._is_unread
            if now - self._closing_since > (_LINGER_SECONDS if lingers else timeouts.client):
                self.abort()
        elif self._state is _HANDSHAKE:
            if now - self._heard > timeouts.handshake:
                self.abort()
        elif self._head_began is not None and now - self._head_began > timeouts.head:
            sentence = f"the head of the request took longer than {timeouts.head:g} s"
            self._refuse(_slow(sentence))
        elif self._queue:
            self._queue[0].check_timeouts(now, timeouts)
            self._check_body(now, timeouts)
        elif now - self._heard > timeouts.keep_alive:
            self._close()

    def add_traffic(self, traffic: Traffic, now: float) -> None:
        """Add the request that is being answered to the traffic of its model. Those behind it are not forwarded yet."""
        if self._queue:
            self._queue[0].add_traffic(traffic, now)

    def end_hung(self, notice: HungNotice) -> None:
        """End the request that is being answered with an error if Ollama is hung for its model."""
        if self._queue:
            self._queue[0].end_hung(notice)

    def _check_body(self, now: float, timeouts: Timeouts) -> None:
        """End an exchange whose request body is late, unless the upstream is the slow side."""
        exchange = self._incoming
        if exchange is None or self._state is not _OPEN or self._paused or self._is_full:
            return
        if now - self._heard > timeouts.client:
            sentence = f"no more of the body was received for {timeouts.client:g} s"
            self._refuse(_slow(sentence))

    # ---- calls of the TLS server

    def handshake_began(self, cancel: Callable[[], None]) -> bool:
        """Add this connection to those of the proxy. Returns False if there are too many."""
        self._state = _HANDSHAKE
        self._cancel_handshake = cancel
        return self._shared.connections.admit(self)

    def handshake_ended(self) -> None:
        """Remove this connection if the handshake has failed."""
        if self._transport is None:
            self._state = _CLOSED
            self._shared.connections.remove(self)

    # ---- calls of asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Add this connection to those of the proxy, unless there are too many."""
        # uvloop's transports do not inherit from asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self.write = self._transport.write
        if self._state is _HANDSHAKE:
            self._state = _OPEN
            self._heard = self._shared.clock()
        elif self._state is _CLOSED:
            self._transport.abort()
        elif not self._shared.connections.admit(self):
            sentence = f"server busy, please try again: {self._shared.connections.max_connections} connections are open"
            refusal = Refusal(HTTPStatus.SERVICE_UNAVAILABLE, sentence, Outcome.REJECTED, 1, RefusalReason.CONNECTIONS)
            self.write(write_refusal(refusal, b"/", [], close=True))
            meter = self._shared.begin_meter(b"", b"/")
            meter.response_head(refusal.status, b"")
            meter.refusal_reason = refusal.reason
            meter.finish(refusal.outcome)
            self._close()

    def data_received(self, data: bytes) -> None:
        """Read requests, or let them wait for the next turn of the event loop (`pace`)."""
        if self._waiting or (self._pace.begun >= MAX_BEGUN and self._incoming is None):
            if not self._waiting and self._pace.wait(self, len(data)):
                self._waiting = data
                return
            data, self._waiting = self._waiting + data, b""
        self._read(data)

    def read_waiting(self) -> None:
        """Read the bytes that have waited."""
        if self._waiting:
            data, self._waiting = self._waiting, b""
            self._read(data)

    def _read(self, data: bytes) -> None:
        """Read requests. Bytes that are not HTTP are answered with 400."""
        if self._state is not _OPEN:
            return
        self._heard = self._shared.clock()
        try:
            self._reader.feed(data)
        except ProtocolError as error:
            self._refuse(_refusal_of(error))
        except Exception:
            log.exception("a request could not be handled; closing its connection")
            self.abort()
            return
        if self._reader.state is _IN_HEAD:
            self._head_continues()
        if self._queue:
            # Also after an error, because it does not concern the requests before it.
            self._queue[0].flush_request()
        if self._is_unread or self._reader.unread or len(data) > _LARGE_BYTES or len(self._queue) > _MAX_PIPELINED:
            self._hold_back(len(data))

    def eof_received(self) -> None:
        """Treat the client as gone: a half-closed connection and a client that leaves cannot be distinguished."""
        self.read_waiting()
        self._leave()

    def connection_lost(self, error: Exception | None) -> None:
        """Stop all exchanges of this client."""
        self.read_waiting()
        self._transport = None
        self.write = drop
        self._shared.connections.remove(self)
        self._leave()

    def pause_writing(self) -> None:
        """Pause the upstream, because the client reads slower than the upstream sends."""
        self._is_unread = True
        if self._transport is not None:
            self._shared.connections.response_unread(self, self._transport.get_write_buffer_size())
        if self._queue:
            self._queue[0].client_writable(writable=False)

    def resume_writing(self) -> None:
        """Resume the upstream, because the client has caught up."""
        self._is_unread = False
        self._shared.connections.response_read(self)
        if self._is_full:
            self._read_later()
        if self._queue:
            self._queue[0].client_writable(writable=True)
        elif self._state is _LINGERING:
            self._closing_since = self._shared.clock()

    # ---- calls of the reader

    def request_head(self, head: RequestHead) -> None:
        """Create an exchange. It starts when all earlier requests are answered."""
        if self._is_in_head:
            self._head_ends()
        self._pace.begun += 1
        exchange = self._incoming = self._begin(head)
        admission = self._shared.admission
        fault = fault_of(head)
        loop = self._shared.upstream.head_writer.loop_of(head)
        hosts = admission.hosts
        if fault is not None:
            exchange.deny(self._denial(head, fault, RefusalReason.INVALID_HTTP))
        elif loop is not None:
            exchange.deny(self._denial(head, loop, RefusalReason.LOOP))
        elif not admission.open or (hosts is not None and not hosts[head.head.fields.get(b"host", b"")]):
            exchange.admit(admission)
        if len(self._queue) == 1:
            if self._is_unread:
                exchange.client_writable(writable=False)
            exchange.start()

    def request_body(self, data: bytes) -> None:
        """Pass a piece of the body to the exchange."""
        if self._incoming is not None:
            self._incoming.request_body(data)

    def request_end(self, trailers: bytes) -> None:
        """Notify the exchange that its request is complete. Trailers are dropped."""
        exchange, self._incoming = self._incoming, None
        if exchange is not None:
            exchange.request_end()

    # ---- backpressure

    def _pause_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        paused = self._paused or self._is_full
        if not paused and self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    @property
    def _has_room(self) -> bool:
        """Whether further requests can be read.

        If the client does not read its responses, further ones would only fill the memory.
        """
        return len(self._queue) <= _MAX_PIPELINED and (not self._is_unread or self._incoming is not None)

    def _hold_back(self, size: int) -> None:
        """Read nothing more until there is room, or until the next turn of the event loop.

        The latter if requests wait, or if reading the last piece, which has `size` bytes, took long.
        """
        took_long = size > _LARGE_BYTES and self._shared.clock() - self._heard > _READ_SECONDS
        if took_long or self._reader.unread or not self._has_room:
            self._is_full = True
            self._pause_reading()
            self._read_later()

    def _read_later(self) -> None:
        """Read on in the next turn of the event loop, if there is room for more requests."""
        if self._has_room:
            asyncio.get_running_loop().call_soon(self._read_on)

    def _read_on(self) -> None:
        if not self._is_full or self._state is not _OPEN or not self._has_room:
            return
        self._is_full = False
        self._heard = self._shared.clock()
        if self._reader.unread:
            self._read(b"")
        self._resume_reading()

    # ---- heads

    def _head_continues(self) -> None:
        """Note that a part of a head was received. Most heads are received as a whole."""
        self._is_in_head = True
        if self._head_began is None:
            self._head_began = self._heard
        self._shared.connections.head_received(self, self._reader.partial_bytes)

    def _head_ends(self) -> None:
        self._is_in_head = False
        self._head_began = None
        self._shared.connections.head_completed(self)

    # ---- ends

    def _begin(self, head: RequestHead) -> Exchange:
        """Append an exchange to the queue."""
        shared = self._shared
        meter = shared.begin_meter(head.method, head.target)
        exchange = Exchange(head, self, shared.upstream, meter, shared.clock)
        self._queue.append(exchange)
        return exchange

    def _denial(self, head: RequestHead, fault: Fault, reason: RefusalReason) -> Refusal:
        tenant = self._shared.admission.tenant_of(head.method, head.fields) or ""
        return Refusal(fault.status, fault.sentence, Outcome.REJECTED, reason=reason, tenant=tenant)

    def _refuse(self, refusal: Refusal) -> None:
        """Answer a request that cannot be read, after the requests before it. Read nothing more."""
        self._state = _REFUSED
        exchange = self._incoming
        if exchange is None:
            exchange = self._begin(self._reader.partial_request())
        self._reader.close()
        self._head_ends()
        exchange.break_off(refusal)
        if exchange.state is ExchangeState.WAITING and self._queue[0] is exchange:
            exchange.start()

    def _leave(self) -> None:
        """Stop all exchanges, because the client has left."""
        self._state = _CLOSED
        self._closing_since = self._shared.clock()
        self._reader.close()
        self._stop_exchanges()

    def _stop_exchanges(self) -> None:
        for exchange in self._queue:
            exchange.client_gone()
        self._queue.clear()
        self._incoming = None

    def _close(self, *, may_be_sending: bool = False) -> None:
        """Close. A client that is still sending, or may be sending, first gets time to read the response."""
        if self._state is _LINGERING or self._state is _CLOSED:
            return
        self._reader.close()
        self._closing_since = self._shared.clock()
        transport = self._transport
        is_sending = self._state is _REFUSED or (self._incoming is not None and not self._incoming.request_complete)
        self._stop_exchanges()
        if transport is None or transport.is_closing():
            self._state = _CLOSED
        elif is_sending or (may_be_sending and transport.can_write_eof()):
            # Over TLS, the transport itself waits for the client to close.
            self._state = _LINGERING
            if transport.can_write_eof():
                transport.write_eof()
            transport.resume_reading()
        else:
            self._state = _CLOSED
            transport.close()


def _do_nothing() -> None:
    """Do nothing. It cancels the handshake of a connection without TLS."""


def _refusal_of(error: ProtocolError) -> Refusal:
    if isinstance(error, HeadTooLargeError):
        status, sentence = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, str(error)
    else:
        status, sentence = HTTPStatus.BAD_REQUEST, f"the request is not valid HTTP: {error}"
    return Refusal(status, sentence, Outcome.REJECTED, reason=RefusalReason.INVALID_HTTP)


def _slow(sentence: str) -> Refusal:
    return Refusal(HTTPStatus.REQUEST_TIMEOUT, sentence, Outcome.REJECTED, reason=RefusalReason.SLOW_REQUEST)
