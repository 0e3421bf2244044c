"""Connection of a client. A `RequestReader` parses the requests, which are answered in their order.

State      Meaning                                           Event                                  Next state
---------  ------------------------------------------------  -------------------------------------  ----------
OPEN       requests are read                                 bytes that are not HTTP, a slow head
                                                             or body (a)                            REFUSED
                                                             no keep-alive, drain, idle timeout     closing (b)
REFUSED    nothing more is read; earlier requests are        the last of them is answered           closing (b)
           still answered
LINGERING  the last response was sent; further bytes of the  it closes, or 3 s pass                 CLOSED
           client are discarded
CLOSED     the transport is closed, or about to be closed
any                                                          the client has left                    CLOSED

(a) The invalid request gets an error response if it is the first one. If earlier requests still wait for their
    responses, the connection is closed instead.
(b) LINGERING if the client is still sending a request, so that it can read the response before the connection is reset
    (RFC 9112, 9.6); otherwise CLOSED.
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

from llmendpoint_common.contracts.sidecar import Outcome
from llmendpoint_common.process.errors import HeadTooLargeError, ProtocolError
from llmendpoint_common.wire.http1.request_reader import RequestHead, RequestReader, RequestState, fault_of
from llmendpoint_sidecar.meter.exchange import ExchangeMeter
from llmendpoint_sidecar.policy.admission import Admission
from llmendpoint_sidecar.policy.refusals import Refusal, write_refusal
from llmendpoint_sidecar.proxy.exchange import Exchange, ExchangeState
from llmendpoint_sidecar.proxy.pace import MAX_BEGUN, Pace
from llmendpoint_sidecar.proxy.pool import Upstream
from llmendpoint_sidecar.proxy.timeouts import Timeouts
from llmendpoint_sidecar.proxy.upstream import drop

log = logging.getLogger(__name__)

#: Maximum number of unanswered requests of a connection. Beyond it, the connection is not read.
_MAX_PIPELINED = 16
#: Each connection takes a file descriptor and a few KiB of memory. A process has limits for both.
_MAX_CONNECTIONS = 8192
_LINGER_SECONDS = 3.0


class ConnectionState(Enum):
    """States of a connection. The table above lists the transitions."""

    OPEN = "open"
    REFUSED = "refused"
    LINGERING = "lingering"
    CLOSED = "closed"


# Looking up a member in its class costs more than the comparison.
_OPEN, _REFUSED = ConnectionState.OPEN, ConnectionState.REFUSED
_LINGERING, _CLOSED = ConnectionState.LINGERING, ConnectionState.CLOSED
_IN_HEAD = RequestState.HEAD


@dataclass
class Shared:
    """Objects that the connections of one proxy share. `draining`: the process is about to stop."""

    upstream: Upstream
    admission: Admission
    begin_meter: Callable[[bytes, bytes], ExchangeMeter]
    clock: Callable[[], float]
    connections: set[ClientConnection] = field(default_factory=set)
    pace: Pace = field(default_factory=Pace)
    draining: bool = False


class ClientConnection(asyncio.Protocol):
    """Connection of a client. Times are readings of the shared clock, in seconds."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._pace = shared.pace
        self._state = _OPEN
        self._reader = RequestReader(self)
        self._transport: asyncio.Transport | None = None
        #: Sends response bytes. It is the transport's own method; a method here would add a call for each piece.
        self.write: Callable[[bytes], None] = drop
        #: Exchanges in their order; the first one is being answered. `_incoming` is the one that is being read.
        self._queue: deque[Exchange] = deque()
        self._incoming: Exchange | None = None
        #: True if nothing is read from the client, because the upstream is slower.
        self._paused = False
        #: Bytes of the next request, which waits for the next turn of the event loop.
        self._waiting = b""
        # Times: the last received bytes, the first byte of an incomplete head, the end of lingering.
        self._heard = shared.clock()
        self._head_began: float | None = None
        self._lingers_until = 0.0

    @property
    def draining(self) -> bool:
        """Whether the process is about to stop."""
        return self._shared.draining

    # ---- calls of exchanges

    def pause(self) -> None:
        """Stop reading requests."""
        self._paused = True
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read requests again."""
        if not self._paused:
            return
        self._paused = False
        self._heard = self._shared.clock()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def exchange_done(self, *, keep_alive: bool) -> None:
        """Answer the next pipelined request, or close."""
        self._queue.popleft()
        # A connection is idle from the end of its last response.
        self._heard = self._shared.clock()
        if not keep_alive or self._shared.draining:
            self._close()
        elif self._queue:
            # `start` may refuse the request immediately, which removes it from the queue.
            following = self._queue[0]
            following.start()
            following.flush_request()
        elif self._state is _REFUSED:
            self._close()
        else:
            self.resume()

    # ---- calls of the proxy

    def close_if_idle(self) -> None:
        """Close the connection if no request is in progress."""
        if not self._queue and not self._waiting:
            self._close()

    def abort(self) -> None:
        """Close immediately."""
        self._state = _CLOSED
        self._reader.close()
        if self._transport is not None:
            self._transport.abort()

    def check_timeouts(self, now: float, timeouts: Timeouts) -> None:
        """End an exchange, a request or a connection that has exceeded its time limit."""
        if self._state is _LINGERING:
            if now > self._lingers_until:
                self.abort()
        elif self._head_began is not None and now - self._head_began > timeouts.head:
            sentence = f"the head of the request took longer than {timeouts.head:g} s"
            self._refuse(Refusal(HTTPStatus.REQUEST_TIMEOUT, sentence, Outcome.REJECTED))
        elif self._queue:
            self._queue[0].check_timeouts(now, timeouts)
            self._check_body(now, timeouts)
        elif now - self._heard > timeouts.keep_alive:
            self._close()

    def _check_body(self, now: float, timeouts: Timeouts) -> None:
        """End an exchange whose request body is late, unless the upstream is the slow side."""
        exchange = self._incoming
        if exchange is None or self._paused or exchange.state is ExchangeState.OVER:
            return
        if now - self._heard > timeouts.idle:
            sentence = f"no more of the body was received for {timeouts.idle:g} s"
            self._refuse(Refusal(HTTPStatus.REQUEST_TIMEOUT, sentence, Outcome.REJECTED))

    # ---- calls of asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Add this connection to those of the proxy, unless there are too many."""
        # uvloop's transports do not inherit from asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self.write = self._transport.write
        if len(self._shared.connections) >= _MAX_CONNECTIONS:
            sentence = f"server busy, please try again: {_MAX_CONNECTIONS} connections are open"
            refusal = Refusal(HTTPStatus.SERVICE_UNAVAILABLE, sentence, Outcome.REJECTED, retry_after=1)
            self.write(write_refusal(refusal, b"/", close=True))
            self._close()
            return
        self._shared.connections.add(self)

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
            return
        except Exception:
            log.exception("a request could not be handled; closing its connection")
            self.abort()
            return
        if self._reader.state is _IN_HEAD and self._head_began is None:
            self._head_began = self._heard
        if self._queue:
            self._queue[0].flush_request()
            if len(self._queue) > _MAX_PIPELINED:
                self.pause()

    def eof_received(self) -> None:
        """Treat the client as gone: a half-closed connection and a client that leaves cannot be distinguished."""
        self.read_waiting()
        self._leave()

    def connection_lost(self, error: Exception | None) -> None:
        """Stop all exchanges of this client."""
        self.read_waiting()
        self._transport = None
        self.write = drop
        self._shared.connections.discard(self)
        self._leave()

    def pause_writing(self) -> None:
        """Pause the upstream, because the client reads slower than the upstream sends."""
        if self._queue:
            self._queue[0].client_writable(writable=False)

    def resume_writing(self) -> None:
        """Resume the upstream, because the client has caught up."""
        if self._queue:
            self._queue[0].client_writable(writable=True)

    # ---- calls of the reader

    def request_head(self, head: RequestHead) -> None:
        """Create an exchange. It starts when all earlier requests are answered."""
        self._head_began = None
        self._pace.begun += 1
        shared = self._shared
        meter = shared.begin_meter(head.method, head.target)
        exchange = Exchange(head, self, shared.upstream, meter, shared.clock)
        self._incoming = exchange
        self._queue.append(exchange)
        fault = fault_of(head)
        if fault is not None:
            exchange.deny(Refusal(fault.status, fault.sentence, Outcome.REJECTED))
        elif not shared.admission.open:
            exchange.admit(shared.admission)
        if len(self._queue) == 1:
            exchange.start()

    def request_body(self, data: bytes) -> None:
        """Pass a piece of the body to the exchange."""
        if self._incoming is not None:
            self._incoming.request_body(data)

    def request_end(self, trailers: bytes) -> None:
        """Notify the exchange that its request is complete."""
        exchange, self._incoming = self._incoming, None
        if exchange is not None:
            exchange.request_end(trailers)

    # ---- ends

    def _refuse(self, refusal: Refusal) -> None:
        """Answer a request that cannot be read, unless earlier requests wait for responses. Read nothing more."""
        self._state = _REFUSED
        self._reader.close()
        self._head_began = None
        broken = self._incoming
        if broken is not None and broken.state is not ExchangeState.OVER:
            if self._queue[0] is broken:
                broken.refuse(refusal)
            else:
                self.abort()
        elif not self._queue:
            target = self._reader.partial_target
            meter = self._shared.begin_meter(b"", target)
            meter.response_head(refusal.status, b"")
            meter.finish(refusal.outcome)
            self.write(write_refusal(refusal, target, close=True))
            self._close()

    def _leave(self) -> None:
        """Stop all exchanges, because the client has left."""
        self._state = _CLOSED
        self._reader.close()
        for exchange in self._queue:
            exchange.client_gone()
        self._queue.clear()
        self._incoming = None

    def _close(self) -> None:
        """Close. A client that is still sending a request first gets time to read the response."""
        if self._state is _LINGERING:
            return
        self._reader.close()
        transport = self._transport
        if transport is None or transport.is_closing():
            self._state = _CLOSED
        elif self._incoming is not None and not self._incoming.request_complete and not self._shared.draining:
            self._state = _LINGERING
            self._lingers_until = self._shared.clock() + _LINGER_SECONDS
            if transport.can_write_eof():
                transport.write_eof()
            transport.resume_reading()
        else:
            self._state = _CLOSED
            transport.close()


def _refusal_of(error: ProtocolError) -> Refusal:
    if isinstance(error, HeadTooLargeError):
        return Refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, str(error), Outcome.REJECTED)
    return Refusal(HTTPStatus.BAD_REQUEST, f"the request is not valid HTTP: {error}", Outcome.REJECTED)
