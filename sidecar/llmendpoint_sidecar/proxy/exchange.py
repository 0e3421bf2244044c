"""A request and its response, from the head of the request to the last byte of the response.

The exchange forwards the bytes of both. It is called by the connection of the client and by the connection to the
upstream, and it notes the bytes for the meter.

State       Meaning                                                        Event                       Next state
----------  -------------------------------------------------------------  --------------------------  -----------
WAITING     an earlier request of the connection is being answered         start: refused (a)          REFUSED
                                                                           start: body is held         HOLDING
                                                                           start: otherwise            FORWARDING
HOLDING     the body is collected and read (d)                             read and admitted           FORWARDING
                                                                           read and refused, too slow  OVER
REFUSED     a short body is read to its end before the refusal is sent     the request is complete     OVER
FORWARDING  the request is sent, or waits for a connection                 response_head               RESPONDING
                                                                           response_failed, a timeout,
                                                             a hung upstream             OVER (b)
RESPONDING  the response is forwarded                                      response_end                ANSWERED
                                                                           response_failed, a timeout  OVER (c)
                                                             a hung upstream             OVER (e)
ANSWERED    the response is complete; the request's rest is discarded      the request is complete     OVER
REFUSING    an error response waits for the CORS headers of its Origin     they are known              OVER
any                                                                        the client has left         OVER

(a) OVER immediately if the request is already complete, or if its body is too long to be read and discarded.
(b) The client gets an error response of the proxy itself. Before an error response, the state is REFUSING if Ollama
    has to be asked for the CORS headers of the request's Origin.
(c) The client's connection is closed, so that the client notices that the response is incomplete.
(d) Admission needs the model in it. A compressed body is read in slices between other events, so the request may have
    been complete for a while before it is read.
(e) The stream ends with an error in the format of its API. If that is not possible, it is cut off as in (c).

In WAITING, the body is collected and checked as in HOLDING, and forwarded or refused at `start`. Of a large body, the
rest is not received before that. Whether the request is complete (`request_complete`) is independent of the state: a
request can be answered before it has ended.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from enum import Enum
from http import HTTPStatus
from typing import Protocol

from llmendpoint_common.contracts.sidecar import REQUEST_ID_HEADER, Operation, Outcome
from llmendpoint_common.process.errors import ProtocolError, UpstreamError
from llmendpoint_common.wire.http1 import heads
from llmendpoint_common.wire.http1.request_reader import RequestHead
from llmendpoint_common.wire.http1.response_reader import ResponseHead
from llmendpoint_common.wire.routes import TRANSFERS
from llmendpoint_common.wire.usage_filter import UsageFilter
from llmendpoint_sidecar.budget import SMALL_BODY_BYTES
from llmendpoint_sidecar.meter.exchange import BATCH, LARGE_BYTES, ExchangeMeter, is_success
from llmendpoint_sidecar.meter.traffic import FLOWING_SECONDS, ModelTraffic, Traffic
from llmendpoint_sidecar.policy.admission import Admission, Ticket
from llmendpoint_sidecar.policy.held_memory import BodyMemory
from llmendpoint_sidecar.policy.hung import HungNotice
from llmendpoint_sidecar.policy.refusals import Refusal, write_refusal, write_stream_error
from llmendpoint_sidecar.proxy.heads import request_id_of, write_response_head
from llmendpoint_sidecar.proxy.held_body import HeldBody
from llmendpoint_sidecar.proxy.pool import Upstream
from llmendpoint_sidecar.proxy.response_body import BodyRewriter, is_between_chunks, rewriter_for
from llmendpoint_sidecar.proxy.timeouts import Timeouts
from llmendpoint_sidecar.proxy.upstream import UpstreamConnection

log = logging.getLogger(__name__)

#: Maximum size of the body that is buffered while an earlier request of the connection is answered.
_MAX_BACKLOG_BYTES = 256 * 1024
#: Maximum size of a part of a held body that is sent in one turn of the event loop. It takes a few milliseconds.
_MAX_FLUSH_BYTES = 8 * 1024 * 1024
#: Maximum size of the body of a refused request that is read to its end, so that the connection can be reused.
_SHORT_BODY_BYTES = 64 * 1024
#: Trailers of a request are not forwarded (RFC 9110, 6.5.1 allows this): a recipient could merge them into the head, so
#: that a field such as Authorization would pass by the checks of the head.
_LAST_CHUNK = b"0\r\n\r\n"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
#: Operations for which the silence of the upstream is not limited: Ollama verifies and quantizes files for minutes.
_UNLIMITED = TRANSFERS | {Operation.BLOB}


class ExchangeState(Enum):
    """States of an exchange. The table above lists the transitions."""

    WAITING = "waiting"
    HOLDING = "holding"
    REFUSED = "refused"
    FORWARDING = "forwarding"
    RESPONDING = "responding"
    ANSWERED = "answered"
    REFUSING = "refusing"
    OVER = "over"


# Looking up a member in its class costs more than the comparison.
_WAITING, _HOLDING, _REFUSED = ExchangeState.WAITING, ExchangeState.HOLDING, ExchangeState.REFUSED
_FORWARDING, _RESPONDING = ExchangeState.FORWARDING, ExchangeState.RESPONDING
_ANSWERED, _REFUSING, _OVER = ExchangeState.ANSWERED, ExchangeState.REFUSING, ExchangeState.OVER


class Client(Protocol):
    """The connection of the client, as an exchange uses it."""

    @property
    def draining(self) -> bool:
        """Whether the process is about to stop."""

    @property
    def write(self) -> Callable[[bytes], None]:
        """Sends response bytes."""

    def pause(self) -> None:
        """Stop reading from the client."""

    def resume(self) -> None:
        """Read again."""

    def abort(self) -> None:
        """Close immediately."""

    def exchange_done(self, *, keep_alive: bool) -> None:
        """Start the next request, or close."""


class Exchange:
    """A request and its response. It reports every event to the meter. Times are readings of the clock, in seconds."""

    __slots__ = (
        "_backlog",
        "_backlog_bytes",
        "_body_memory",
        "_changed_length",
        "_client",
        "_clock",
        "_close_after",
        "_connection",
        "_held_body",
        "_last_activity",
        "_last_raw",
        "_meter",
        "_note",
        "_noted",
        "_notes_refused",
        "_paused_at",
        "_pending_head",
        "_refusal",
        "_rewriter",
        "_stream_type",
        "_ticket",
        "_upstream",
        "_upstream_is_slow",
        "_usage_filter",
        "head",
        "is_head_request",
        "request_complete",
        "state",
    )

    def __init__(
        self, head: RequestHead, client: Client, upstream: Upstream, meter: ExchangeMeter, clock: Callable[[], float]
    ) -> None:
        self.state = _WAITING
        self._client = client
        self._upstream = upstream
        self._clock = clock
        # The request.
        self.head = head
        self.is_head_request = head.method == b"HEAD"
        self.request_complete = False
        # Its admission.
        self._ticket: Ticket | None = None
        self._refusal: Refusal | None = None
        #: Whether the body of a refused request is noted, so that the meter knows its model.
        self._notes_refused = False
        self._held_body: HeldBody | None = None
        # The connection to the upstream, and bytes that wait to be sent on it.
        self._connection: UpstreamConnection | None = None
        self._backlog: list[bytes] = []
        self._backlog_bytes = 0
        #: The memory of an admitted body until the upstream has accepted it.
        self._body_memory: BodyMemory | None = None
        #: Whether the upstream does not accept more of the request.
        self._upstream_is_slow = False
        #: The length of a body that the proxy changed to ask for usage.
        self._changed_length: int | None = None
        # The response. Its head is written together with the first bytes of the body.
        self._pending_head = b""
        self._usage_filter: UsageFilter | None = None
        self._rewriter: BodyRewriter | None = None
        #: The Content-Type of a chunked response without a coding, to which an error of the proxy can be added, and the
        #: last bytes of its body.
        self._stream_type = b""
        self._last_raw = b""
        self._close_after = not head.keep_alive
        # Times: the last received piece of either side, and the time at which the client stopped reading.
        self._last_activity = clock()
        self._paused_at: float | None = None
        # The meter. Pieces of the response are noted by appending to a list, without a call.
        self._meter = meter
        self._noted = meter.noted
        self._note = meter.noted.append
        meter.head = head

    # ---- admission

    def admit(self, admission: Admission) -> None:
        """Check whether the request is forwarded.

        If this depends on its body, the body is held until it is complete.
        """
        verdict = admission.at_head(self.head.method, self._meter.operation, self.head.head.fields)
        if isinstance(verdict, Refusal):
            self._refusal = verdict
            self._meter.tenant = verdict.tenant
            # A request without a valid key is not worth the time.
            self._notes_refused = verdict.outcome is not Outcome.REJECTED_AUTH and self._has_short_body()
            return
        self._ticket = verdict
        self._meter.tenant = verdict.tenant
        if admission.needs_body(verdict):
            self._held_body = HeldBody(admission, verdict, self.head)
            self._refusal = self._held_body.refuse_length()

    def deny(self, refusal: Refusal) -> None:
        """Refuse the request when its turn comes, and close the connection after it."""
        self._close_after = True
        self._refusal = refusal
        self._meter.tenant = refusal.tenant

    # ---- calls of the client's connection

    def start(self) -> None:
        """Start the exchange, because all earlier requests of the connection are answered."""
        if self._refusal is not None:
            self.state = _REFUSED
            if self.request_complete or not self._has_short_body():
                self.refuse(self._refusal)
        elif self._held_body is not None:
            self.state = _HOLDING
            self._held_body.began = self._clock()
            if self._held_body.size > SMALL_BODY_BYTES:
                self._client.resume()
            if b"expect" in self.head.head.fields and not self.request_complete:
                self._client.write(_CONTINUE)
        else:
            self._forward()

    def break_off(self, refusal: Refusal) -> None:
        """Refuse the request, whose rest cannot be read, as soon as its turn comes. Close the connection after it."""
        self._close_after = True
        if self.state is _WAITING:
            self.request_complete = True
            self._refusal = refusal
        elif self.state is not _OVER and self.state is not _REFUSING:
            self.refuse(refusal)

    def request_body(self, data: bytes) -> None:
        """Forward a piece of the body, or hold it. Discard it if the exchange no longer needs it."""
        state = self.state
        if self._refusal is not None or state is _ANSWERED or state is _OVER:
            if self._notes_refused:
                self._meter.request_body(data)
            return
        if self._held_body is not None:
            self._hold(self._held_body, data)
            return
        self._send(heads.chunk(data) if self.head.chunked else data)
        self._meter.request_body(data)

    def flush_request(self) -> None:
        """Send the buffered bytes in one piece, unless they are a body that was held."""
        connection = self._connection
        if connection is None or not self._backlog:
            return
        if self._body_memory is not None:
            self._flush_held(connection)
            return
        backlog, self._backlog = self._backlog, []
        connection.write(backlog[0] if len(backlog) == 1 else b"".join(backlog))
        if self.request_complete:
            self._meter.request_sent()

    def request_end(self) -> None:
        """Note that the request is complete."""
        if self.state is _OVER:
            return
        self.request_complete = True
        if self.state is _ANSWERED:
            self._finish()
            return
        held = self._held_body
        if held is not None and self._refusal is None:
            if not held.finish(self._body_read):
                return
            self._judge(held)
        self._proceed()

    def _body_read(self, succeeded: bool) -> None:
        """Continue a complete request, because its body has been read in slices."""
        if self._held_body is None:
            return
        if not succeeded:
            self._client.abort()
            return
        self._judge(self._held_body)
        self._proceed()
        self.flush_request()

    def _proceed(self) -> None:
        """Forward or refuse a complete request."""
        if self._refusal is not None:
            if self.state is not _WAITING and self.state is not _REFUSING:
                self.refuse(self._refusal)
            return
        if self.head.chunked:
            self._send(_LAST_CHUNK)
        self._last_activity = self._clock()
        self._meter.request_end(self._last_activity)
        if self.state is _HOLDING:
            self._forward()

    def client_gone(self) -> None:
        """Close the connection to the upstream immediately, because the client has left."""
        if self.state is _OVER:
            return
        outcome = None if self.state is _ANSWERED else Outcome.CLIENT_CANCELLED
        if self.state is _REFUSING and self._refusal is not None:
            outcome = self._refusal.outcome
        self._release(False)
        self._end(outcome)

    def client_writable(self, *, writable: bool) -> None:
        """Note whether the client accepts more bytes, or is slower than the upstream."""
        self._paused_at = None if writable else self._clock()
        if self._connection is not None:
            if writable:
                self._connection.resume()
            else:
                self._connection.pause()

    def refuse(self, refusal: Refusal) -> None:
        """Send an error response of the proxy itself. If a response has started, cut it off instead."""
        self._meter.refusal_reason = refusal.reason
        if not self._meter.request_id:
            self._meter.request_id, self._meter.made_id = request_id_of(self.head)
        self._release(False)
        if self._has_started:
            self.response_head_alone()
            self._end(refusal.outcome)
            self._client.exchange_done(keep_alive=False)
            return
        self.state = _REFUSING
        self._refusal = refusal
        if self._held_body is not None:
            self._held_body.release()
        self._meter.response_head(refusal.status, b"")
        self._upstream.cors.when_known(self.head.fields, self._write_refusal)

    def _write_refusal(self, cors: heads.Headers) -> None:
        refusal = self._refusal
        if self.state is not _REFUSING or refusal is None:
            # The client has left meanwhile.
            return
        keep_alive = self.request_complete and not self._close_after and not self._client.draining
        made_id = self._meter.made_id
        headers = [*cors, (REQUEST_ID_HEADER.encode(), made_id.encode())] if made_id else cors
        self._client.write(
            write_refusal(refusal, self.head.target, headers, close=not keep_alive, headers_only=self.is_head_request)
        )
        self._end(refusal.outcome)
        self._client.exchange_done(keep_alive=keep_alive)

    def check_timeouts(self, now: float, timeouts: Timeouts) -> None:
        """End an exchange that has exceeded a time limit. Called about once per second."""
        if self.state is _ANSWERED or self.state is _REFUSING or self.state is _OVER:
            return
        if self.state is _HOLDING:
            self._check_arrival(now)
            return
        if self._paused_at is not None:
            # A client that does not read keeps a slot of the model busy, so it is treated as gone.
            if now - self._paused_at > timeouts.client:
                self._client.abort()
            return
        if self._meter.operation in _UNLIMITED or not (self.request_complete or self._upstream_is_slow):
            return
        limit = timeouts.idle if self.state is _RESPONDING else timeouts.first_byte
        if now - self._last_activity > limit:
            sentence = f"the upstream sent nothing for {limit:g} s"
            self.refuse(Refusal(HTTPStatus.GATEWAY_TIMEOUT, sentence, Outcome.UPSTREAM_TIMEOUT))

    # ---- a hung upstream

    def add_traffic(self, traffic: Traffic, now: float) -> None:
        """Add the request to the traffic of its model if it was forwarded, and is in flight. Called once per second."""
        label = self._meter.label
        if label is None or (self.state is not _FORWARDING and self.state is not _RESPONDING):
            return
        one = traffic.get(label)
        if one is None:
            one = traffic[label] = ModelTraffic()
        one.own_runner = one.own_runner or self._meter.has_own_runner
        heard = self._last_activity
        if self._paused_at is not None:
            one.unread = True
        else:
            one.wait(heard)
        if self.state is _RESPONDING and is_success(self._meter.status):
            one.last_byte = max(one.last_byte, heard)
            one.flowing += now - heard <= FLOWING_SECONDS

    def end_hung(self, notice: HungNotice) -> None:
        """End the request with an error if it was forwarded, and the upstream is hung for its model."""
        label = self._meter.label
        if label is None or not notice.concerns(label):
            return
        if self.state is _FORWARDING or self.state is _RESPONDING:
            refusal = notice.end()
            if not self._end_stream(refusal):
                self.refuse(refusal)

    def _end_stream(self, refusal: Refusal) -> bool:
        """End a stream that has begun with an error in its own format. Return False if that is not possible."""
        if self.state is not _RESPONDING or not self._stream_type:
            return False
        error = write_stream_error(refusal, self.head.target, self._stream_type)
        if error is None:
            return False
        if self._rewriter is not None:
            error = self._rewriter.finish_with(error)
        elif is_between_chunks(self._last_raw):
            error = heads.chunk(error) + _LAST_CHUNK
        else:
            return False
        self._meter.refusal_reason = refusal.reason
        self._release(False)
        self.response_head_alone()
        self._client.write(error)
        self._end(refusal.outcome)
        self._client.exchange_done(keep_alive=self.request_complete and not self._close_after)
        return True

    # ---- calls of the connection to the upstream

    def interim(self, head: bytes) -> None:
        """Forward a 1xx head. HTTP/1.0 clients do not know 1xx (RFC 9110, 15.2)."""
        if self.head.version != "1.0":
            self._client.write(head)

    def response_head(self, head: ResponseHead) -> None:
        """Forward the final head, without the lines that belong to the upstream's connection."""
        self.state = _RESPONDING
        content_type = head.head.fields.get(b"content-type", b"")
        self._meter.response_head(head.status, content_type)
        unchunked = head.chunked and self.head.version == "1.0"
        if unchunked or (head.chunked and self._usage_filter is not None):
            self._rewriter = rewriter_for(content_type, self._usage_filter, unchunked=unchunked)
        if not head.delimited or self._client.draining:
            self._close_after = True
        if head.chunked and b"content-encoding" not in head.head.fields:
            self._stream_type = content_type
        # An upstream that sends a head is not silent.
        self._last_activity = self._clock()
        self._pending_head = write_response_head(head, self._close_after, unchunked)

    def response_head_alone(self) -> None:
        """Write a head that was received without a byte of the body."""
        if self._pending_head:
            head, self._pending_head = self._pending_head, b""
            self._client.write(head)

    def response_body(self, raw: bytes, pieces: list[bytes]) -> None:
        """Forward a piece, and then note it for the meter."""
        # Python 3.11 calls a local variable faster than an attribute in a slot.
        clock, write, note = self._clock, self._client.write, self._note
        now = self._last_activity = clock()
        size = len(raw)
        self._last_raw = raw
        if self._rewriter is not None:
            raw = self._rewriter.rewrite(pieces)
        if self._pending_head:
            raw, self._pending_head = self._pending_head + raw, b""
        write(raw)
        for piece in pieces:
            note((now, piece))
        if size > LARGE_BYTES or len(self._noted) >= BATCH:
            self._meter.read_noted()

    def response_end(self, *, reusable: bool) -> None:
        """Note that the response is complete. The rest of an incomplete request is read and discarded."""
        self.response_head_alone()
        if self._rewriter is not None and (rest := self._rewriter.finish()):
            self._client.write(rest)
        self.state = _ANSWERED
        self._release(reusable and self.request_complete)
        self._meter.finish(None)
        if self.request_complete:
            self._finish()
        else:
            self._client.resume()

    def response_failed(self, error: ProtocolError) -> None:
        """Answer 502 if nothing has been sent yet, otherwise cut off the response."""
        self._fail(f"the upstream failed: {error}")

    def upstream_writable(self, *, writable: bool) -> None:
        """Note whether the upstream accepts more bytes, or is slower than the client."""
        self._upstream_is_slow = not writable
        self._last_activity = self._clock()
        if writable:
            if self._body_memory is not None and self._connection is not None:
                self._flush_held(self._connection)
            if not self._upstream_is_slow:
                self._client.resume()
        else:
            self._client.pause()

    def waiting_bytes_sent(self) -> None:
        """Note that the bytes that waited for a new connection were sent now."""
        if self.request_complete and not self._backlog:
            self._meter.sent = None
            self._meter.request_sent()

    def upstream_unreachable(self, error: UpstreamError) -> None:
        """Answer 502, because no connection could be opened."""
        self._connection = None
        self._fail(str(error))

    @property
    def _has_started(self) -> bool:
        """Whether the head of the response has been sent, or will be sent with the first bytes of the body."""
        return self.state is _RESPONDING or self.state is _ANSWERED

    # ---- the request's body

    def _has_short_body(self) -> bool:
        """Return whether the body of a refused request is short enough to be read to its end."""
        fields = self.head.fields
        length = fields.get(b"content-length", b"0")
        return not self.head.chunked and b"expect" not in fields and int(length) <= _SHORT_BODY_BYTES

    def _hold(self, body: HeldBody, data: bytes) -> None:
        self._refusal = body.add(data)
        if self._refusal is not None:
            body.release()
            if self.state is _HOLDING:
                self.refuse(self._refusal)
        elif self.state is _WAITING and body.size > SMALL_BODY_BYTES:
            self._client.pause()

    def _check_arrival(self, now: float) -> None:
        """Refuse a request whose body arrives too slowly."""
        if self._held_body is not None and not self.request_complete:
            late = self._held_body.late(now)
            if late is not None:
                self.refuse(late)

    def _judge(self, held: HeldBody) -> None:
        """Check a complete held body, and buffer it for the upstream if it is admitted."""
        self._held_body = None
        self._refusal = held.judge()
        self._meter.request_read(held.facts, held.size, held.pieces)
        if self._refusal is not None:
            return
        self._body_memory = held.memory
        size = held.size
        if held.asks_for_usage:
            size = self._changed_length = sum(map(len, held.pieces))
            self._usage_filter = UsageFilter()
        if size:
            self._backlog += heads.chunk_of(held.pieces, size) if self.head.chunked else held.pieces

    def _flush_held(self, connection: UpstreamConnection) -> None:
        """Send a part of a body that was held, and the rest when the upstream has accepted it.

        The pieces are not joined, because that would take the memory and the time of copying a large body.
        """
        backlog, sent, size = self._backlog, 0, 0
        while sent < len(backlog) and size < _MAX_FLUSH_BYTES and not self._upstream_is_slow:
            piece = backlog[sent]
            connection.write(piece)
            sent += 1
            size += len(piece)
        del backlog[:sent]
        if self._upstream_is_slow:
            return
        if backlog:
            asyncio.get_running_loop().call_soon(self.flush_request)
            return
        self._release_body_memory()
        self._meter.request_sent()

    def _release_body_memory(self) -> None:
        memory, self._body_memory = self._body_memory, None
        if memory is not None:
            memory.release()

    def _send(self, data: bytes) -> None:
        """Buffer bytes for the upstream. If too many wait for the turn of the request, stop reading from the client."""
        self._backlog.append(data)
        if self._connection is not None:
            return
        self._backlog_bytes += len(data)
        if self._backlog_bytes > _MAX_BACKLOG_BYTES:
            self._client.pause()

    # ---- the connection to the upstream

    def _forward(self) -> None:
        """Use a connection to the upstream. `flush_request` then sends the head and the buffered body."""
        self.state = _FORWARDING
        request_id, made_id = request_id_of(self.head)
        self._meter.request_id, self._meter.made_id = request_id, made_id
        head = self._upstream.head_writer.write(self.head, made_id, self.request_complete, self._changed_length)
        # The body of a pipelined request may already be buffered.
        self._backlog.insert(0, head)
        self._attach(self._upstream.pool.acquire())

    def _attach(self, connection: UpstreamConnection) -> None:
        self._connection = connection
        connection.attach(self)
        if self._paused_at is not None:
            connection.pause()
        if self._backlog_bytes > _MAX_BACKLOG_BYTES:
            self._client.resume()
        self._backlog_bytes = 0

    def _release(self, reusable: bool) -> None:
        """Return the connection to the pool if it is reusable. Otherwise close it, so that the upstream stops."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if reusable:
            if self._paused_at is not None:
                connection.resume()
            self._upstream.pool.release(connection)
        else:
            connection.abort()

    # ---- ends

    def _fail(self, sentence: str) -> None:
        log.warning("%s %s: %s", self.head.method.decode(), self._meter.operation.value, sentence)
        outcome = Outcome.TRUNCATED if self._has_started else Outcome.UPSTREAM_UNREACHABLE
        self.refuse(Refusal(HTTPStatus.BAD_GATEWAY, sentence, outcome))

    def _finish(self) -> None:
        self._end(None)
        self._client.exchange_done(keep_alive=not self._close_after)

    def _end(self, outcome: Outcome | None) -> None:
        self.state = _OVER
        self._backlog.clear()
        if self._held_body is not None:
            self._held_body.release()
        self._release_body_memory()
        self._meter.finish(outcome)
        if self._ticket is not None:
            self._ticket.close(self._meter.spent() if self._ticket.counts_tokens else None)
