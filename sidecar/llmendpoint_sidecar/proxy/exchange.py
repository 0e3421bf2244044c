"""One request and its response, from the head of the one to the last byte of the other."""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
from collections.abc import Callable
from http import HTTPStatus

from llmendpoint_common.contracts.sidecar import REQUEST_ID_HEADER, Operation, Outcome
from llmendpoint_common.process.errors import RequestBodyError, UpstreamError
from llmendpoint_common.wire.http1 import heads
from llmendpoint_common.wire.request_body import MAX_REQUEST_BODY_BYTES, RequestBody, read_request_body
from llmendpoint_common.wire.usage_filter import UsageFilter, ask_for_usage
from llmendpoint_sidecar.meter.exchange import BATCH, LARGE_BYTES, ExchangeMeter
from llmendpoint_sidecar.policy.admission import Admission, Refusal, Ticket
from llmendpoint_sidecar.policy.refusals import refusal
from llmendpoint_sidecar.proxy.client import Client, RequestHead, Timeouts
from llmendpoint_sidecar.proxy.upstream import ResponseHead, UpstreamConnection, UpstreamPool
from llmendpoint_sidecar.records.journal import is_plain_id

log = logging.getLogger(__name__)

_HOLD_LIMIT_BYTES = 256 * 1024
#: A refused request with a body up to this size is read to its end, so that its connection can be used again.
_SHORT_BODY_BYTES = 64 * 1024
_VERSION = b"HTTP/1.1"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
#: Headers that are the proxy's own business where it asks for keys.
_CREDENTIALS = frozenset({b"authorization", b"x-api-key"})
#: Host is Ollama's own (it refuses foreign ones on loopback); a body that is here waits for nothing.
_REQUEST_DROPPED = heads.HOP_BY_HOP | {b"host"}
_WHOLE_REQUEST_DROPPED = _REQUEST_DROPPED | {b"expect"}
_UNCHUNKED_DROPPED = heads.HOP_BY_HOP | {b"transfer-encoding", b"trailer"}
_CLOSE = b"Connection: close"
_REQUEST_ID = REQUEST_ID_HEADER.encode() + b": "
_REQUEST_ID_LOWER = REQUEST_ID_HEADER.lower().encode()
#: Request IDs of this process: unguessable in front, counted behind. A UUID each costs as much as parsing the head.
_ID_PREFIX = secrets.token_hex(10)
_ids = itertools.count(1)


class Exchange:
    """Carries one exchange. The meter is told, and never asked."""

    __slots__ = (
        "_admission",
        "_asked",
        "_client",
        "_clock",
        "_close_after",
        "_connecting",
        "_held",
        "_held_bytes",
        "_last_activity",
        "_meter",
        "_note",
        "_noted",
        "_paused_at",
        "_pending_head",
        "_pool",
        "_raw",
        "_refusal",
        "_response_complete",
        "_response_started",
        "_ticket",
        "_turn",
        "_upstream",
        "_usage_filter",
        "_usage_length",
        "head",
        "is_head_request",
        "over",
        "request_complete",
    )

    def __init__(
        self,
        head: RequestHead,
        client: Client,
        pool: UpstreamPool,
        meter: ExchangeMeter,
        clock: Callable[[], float],
    ) -> None:
        self.head = head
        self.is_head_request = head.method == b"HEAD"
        self.request_complete = False
        self._client = client
        self._pool = pool
        self._meter = meter
        self._noted = meter.noted
        self._note = meter.noted.append
        fields = head.head.fields
        meter.coding = fields.get(b"content-encoding", b"")
        meter.trace_parent = fields.get(b"traceparent", b"")
        self._clock = clock
        self._last_activity = clock()
        self._upstream: UpstreamConnection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._response_started = False
        self._response_complete = False
        self._raw = True
        self._pending_head = b""
        self._close_after = not head.keep_alive
        self._paused_at: float | None = None
        self._admission: Admission | None = None
        self._ticket: Ticket | None = None
        self._refusal: Refusal | None = None
        self._asked: list[bytes] | None = None
        self._turn = False
        self._usage_filter: UsageFilter | None = None
        self._usage_length = b""
        self.over = False

    # ---- from the client

    def admit(self, admission: Admission) -> None:
        """Ask whether the request may pass; one whose model decides is held until its body is whole."""
        verdict = admission.at_head(self.head.method, self._meter.operation, self.head.fields)
        if isinstance(verdict, Refusal):
            self._refusal = verdict
            return
        self._admission, self._ticket = admission, verdict
        self._meter.tenant = verdict.tenant
        if admission.needs_body(verdict):
            self._asked = []

    def deny(self, status: HTTPStatus, sentence: str) -> None:
        """Refuse a request that no proxy carries, when its turn has come."""
        self._refusal = Refusal(status, sentence, Outcome.REJECTED)

    def start(self) -> None:
        """Its turn has come: begin, unless the request is refused or its body has to be read first."""
        self._turn = True
        if self._refusal is not None:
            if self.request_complete or not self._is_short():
                self._answer_refusal(self._refusal)
        elif self._asked is None:
            self._open()
        elif b"expect" in self.head.fields:
            self._client.write(_CONTINUE)

    def request_body(self, data: bytes) -> None:
        """Forward a piece of the body."""
        if self._response_complete or self._refusal is not None:
            return
        if self._asked is not None:
            self._hold(self._asked, data)
            return
        self._send(heads.chunk(data) if self.head.chunked else data)
        self._meter.request_body(data)

    def flush_request(self) -> None:
        """Write what the last bytes of the client brought, in one piece."""
        if self._upstream is not None and self._held:
            held, self._held = self._held, []
            self._upstream.write(held[0] if len(held) == 1 else b"".join(held))
            if self.request_complete:
                self._meter.request_sent()

    def request_end(self, trailers: bytes = b"") -> None:
        """The request is whole; `trailers` are the lines behind a chunked body."""
        self.request_complete = True
        if self._response_complete:
            self._close()
            return
        if self._asked is not None and self._refusal is None:
            body = b"".join(self._asked)
            self._let_go(self._asked)
            self._judge(body)
        if self._refusal is not None:
            if self._turn:
                self._answer_refusal(self._refusal)
            return
        if self.head.chunked:
            self._send(b"0\r\n" + trailers + b"\r\n")
        self._last_activity = self._clock()
        self._meter.request_end(self._last_activity)
        if self._asked is not None:
            self._asked = None
            if self._turn:
                self._open()

    def client_gone(self) -> None:
        """The client left: stop the upstream at once."""
        if self.over:
            return
        outcome = None if self._response_complete else Outcome.CLIENT_CANCELLED
        self._release(reusable=False)
        self._end(outcome)

    def client_writable(self, *, writable: bool) -> None:
        """The client takes more, or is slower than the upstream."""
        self._paused_at = None if writable else self._clock()
        if self._upstream is not None:
            if writable:
                self._upstream.resume()
            else:
                self._upstream.pause()

    def refuse(self, status: HTTPStatus, sentence: str, outcome: Outcome, retry: int | None = None) -> None:
        """Answer with an error of the proxy itself, or cut the response that has begun."""
        self._release(reusable=False)
        self.flush()
        keep_alive = False
        if not self._response_started:
            keep_alive = self.request_complete and self.head.keep_alive and not self._client.draining
            self._meter.response_head(status, b"")
            self._client.write(
                refusal(
                    status,
                    sentence,
                    self.head.target,
                    close=not keep_alive,
                    headers_only=self.is_head_request,
                    retry=retry,
                )
            )
        self._end(outcome)
        self._client.exchange_done(keep_alive=keep_alive)

    def check_timeouts(self, now: float, timeouts: Timeouts) -> None:
        """End an exchange whose upstream has been silent for too long; called about once a second."""
        if self.over or self._response_complete:
            return
        if self._paused_at is not None:
            # A client that takes nothing holds its place in the model's queue: it counts as gone.
            if now - self._paused_at > timeouts.idle:
                self._client.abort()
            return
        if not self.request_complete:
            return
        limit = timeouts.idle if self._response_started else timeouts.first_byte
        if now - self._last_activity > limit:
            self.refuse(
                HTTPStatus.GATEWAY_TIMEOUT, f"the upstream sent nothing for {limit:g} s", Outcome.UPSTREAM_TIMEOUT
            )

    # ---- from the upstream

    def interim(self, head: bytes) -> None:
        """Pass on a 1xx head, which HTTP/1.0 clients do not know."""
        if self.head.version != "1.0":
            self._client.write(head)

    def response_head(self, head: ResponseHead) -> None:
        """Pass on the final head, without what belongs to the upstream's connection."""
        self._response_started = True
        fields = head.head.fields
        self._meter.response_head(head.status, fields.get(b"content-type", b""))
        dropped = heads.HOP_BY_HOP
        if head.chunked and self.head.version == "1.0":
            self._raw = False
            dropped = _UNCHUNKED_DROPPED
        if self._usage_filter is not None:
            self._filter_response(head)
        if not head.delimited or not self._raw or self._client.draining:
            self._close_after = True
        # Written with the first bytes of the body, or by `flush` where those come later.
        self._pending_head = head.raw
        start = head.head.start
        if self._close_after or not dropped.isdisjoint(fields) or not start.startswith(_VERSION):
            lines = heads.end_to_end(head.head, dropped)
            if self._close_after:
                lines.append(_CLOSE)
            self._pending_head = heads.join_head(_VERSION + start[len(_VERSION) :], lines)

    def response_body(self, raw: bytes, pieces: list[bytes]) -> None:
        """Pass the bytes on first, then let the meter see them."""
        now = self._last_activity = self._clock()
        if self._usage_filter is not None:
            raw = self._framed(self._usage_filter.feed(b"".join(pieces)))
        elif not self._raw:
            raw = b"".join(pieces)
        if self._pending_head:
            raw, self._pending_head = self._pending_head + raw, b""
        self._client.write(raw)
        note = self._note
        for piece in pieces:
            note((now, piece))
            if len(piece) > LARGE_BYTES:
                self._meter.read_noted()
        if len(self._noted) >= BATCH:
            self._meter.read_noted()

    def flush(self) -> None:
        """Write a head that no body has come with."""
        if self._pending_head:
            head, self._pending_head = self._pending_head, b""
            self._client.write(head)

    def response_end(self, *, reusable: bool) -> None:
        """The response is whole; a request that is not is read to its end, and dropped."""
        self.flush()
        if self._usage_filter is not None:
            self._client.write(self._framed(self._usage_filter.flush()) + (b"0\r\n\r\n" if self._raw else b""))
        self._response_complete = True
        self._release(reusable=reusable and self.request_complete)
        self._meter.finish(None)
        if self.request_complete:
            self._close()
        else:
            self._client.resume()

    def response_failed(self, error: UpstreamError) -> None:
        """502 where nothing was sent yet; else cut, so that the client sees that it is not whole."""
        log.warning("%s %s: %s", self.head.method.decode(), self._meter.operation.value, error)
        outcome = Outcome.TRUNCATED if self._response_started else Outcome.UPSTREAM_UNREACHABLE
        self.refuse(HTTPStatus.BAD_GATEWAY, str(error), outcome)

    def upstream_writable(self, *, writable: bool) -> None:
        """The upstream takes more of the request, or is slower than the client."""
        if writable:
            self._client.resume()
        else:
            self._client.pause()

    # ---- inside

    def _filter_response(self, head: ResponseHead) -> None:
        """Filter only what is a stream of events in chunks; anything else passes as it came."""
        content_type = head.head.fields.get(b"content-type", b"")
        if not head.chunked or not content_type.startswith(b"text/event-stream"):
            self._usage_filter = None

    def _framed(self, data: bytes) -> bytes:
        return heads.chunk(data) if data and self._raw else data

    def _open(self) -> None:
        """Take an idle connection, or open one; the head is written by `flush_request`, with what came with it."""
        # A pipelined request's body may be here already: its head goes before it.
        self._held.insert(0, self._request_head())
        connection = self._pool.acquire()
        if connection is not None:
            self._attach(connection)
        else:
            self._connecting = asyncio.get_running_loop().create_task(self._connect())

    def _is_short(self) -> bool:
        """Tell whether the rest of a refused request may be read to its end."""
        fields = self.head.fields
        length = fields.get(b"content-length", b"0")
        return not self.head.chunked and b"expect" not in fields and int(length) <= _SHORT_BODY_BYTES

    def _answer_refusal(self, answer: Refusal) -> None:
        self.refuse(answer.status, answer.sentence, answer.outcome, answer.retry_after)

    def _hold(self, asked: list[bytes], data: bytes) -> None:
        """Keep a piece of the body, within this request's bound and the bound of all that are held."""
        self._held_bytes += len(data)
        if self._held_bytes > MAX_REQUEST_BODY_BYTES:
            sentence = f"the body is larger than {MAX_REQUEST_BODY_BYTES // 1024 // 1024} MiB"
            self._refusal = Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, sentence, Outcome.REJECTED)
        elif self._admission is not None and not self._admission.hold(len(data)):
            sentence = "server busy, please try again: too many large requests are being read"
            self._refusal = Refusal(HTTPStatus.SERVICE_UNAVAILABLE, sentence, Outcome.REJECTED_QUEUE, 1)
        else:
            asked.append(data)
            return
        self._let_go(asked)
        if self._turn:
            self._answer_refusal(self._refusal)

    def _let_go(self, asked: list[bytes]) -> None:
        if self._admission is not None:
            self._admission.let_go(sum(map(len, asked)))
        asked.clear()

    def _judge(self, body: bytes) -> None:
        """Read which model is asked for; what passes is sent on as it came."""
        self._held_bytes = 0
        fields = self.head.fields
        # Ollama reads a form on one route and JSON on all others, whatever the header says.
        form = self._meter.operation is Operation.OPENAI_TRANSCRIPTIONS
        try:
            if any(heads.count(self.head.head, name) > 1 for name in (b"content-type", b"content-encoding")):
                raise RequestBodyError("the body's type or coding is said twice")
            content_type = fields.get(b"content-type", b"") if form else b""
            asked = read_request_body(body, content_type, fields.get(b"content-encoding", b""))
        except RequestBodyError as error:
            self._refusal = Refusal(HTTPStatus.BAD_REQUEST, str(error), Outcome.REJECTED)
            return
        if self._admission is not None and self._ticket is not None:
            self._refusal = self._admission.at_body(self._ticket, asked)
            if self._admission.injects_usage(self._ticket) and b"content-encoding" not in fields:
                body = self._inject(asked) or body
        if self._refusal is None and body:
            self._held.append(heads.chunk(body) if self.head.chunked else body)
            self._meter.request_body(body)

    def _inject(self, asked: RequestBody) -> bytes | None:
        """Return the body that asks for usage, where the client's does not; its answer loses it again."""
        body = ask_for_usage(asked.fields)
        if body is not None:
            self._usage_filter = UsageFilter()
            self._usage_length = b"Content-Length: %d" % len(body)
        return body

    def _request_head(self) -> bytes:
        dropped = _WHOLE_REQUEST_DROPPED if self.request_complete else _REQUEST_DROPPED
        if self._admission is not None and self._admission.keyring.folders:
            dropped |= _CREDENTIALS
        if self._usage_length:
            dropped |= {b"content-length"}
        head = self.head
        lines = heads.end_to_end(head.head, dropped)
        lines.insert(0, self._pool.host_line)
        if self._usage_length and not head.chunked:
            lines.append(self._usage_length)
        given = head.head.fields.get(_REQUEST_ID_LOWER)
        if given is None:
            made = f"{_ID_PREFIX}{next(_ids):012x}"
            self._meter.request_id = self._meter.made_id = made
            lines.append(_REQUEST_ID + made.encode())
        elif is_plain_id(text := given.decode("latin-1")):
            self._meter.request_id = text
        target = head.target if head.target.startswith(b"/") else heads.origin_form(head.target)
        return heads.join_head(b"%b %b HTTP/1.1" % (head.method, target), lines)

    async def _connect(self) -> None:
        try:
            connection = await self._pool.connect()
        except UpstreamError as error:
            if not self.over:
                self.response_failed(error)
            return
        if self.over:
            self._pool.release(connection)
        else:
            self._attach(connection)
            self.flush_request()

    def _attach(self, connection: UpstreamConnection) -> None:
        self._upstream = connection
        connection.attach(self)
        if self._paused_at is not None:
            connection.pause()
        if self._held_bytes > _HOLD_LIMIT_BYTES:
            self._client.resume()
        self._held_bytes = 0

    def _send(self, data: bytes) -> None:
        self._held.append(data)
        if self._upstream is not None:
            return
        self._held_bytes += len(data)
        if self._held_bytes > _HOLD_LIMIT_BYTES:
            self._client.pause()

    def _release(self, *, reusable: bool) -> None:
        if self._connecting is not None:
            # A connection that comes too late goes to the pool.
            self._connecting = None
        connection, self._upstream = self._upstream, None
        if connection is None:
            return
        if reusable:
            if self._paused_at is not None:
                connection.resume()
            self._pool.release(connection)
        else:
            connection.abort()

    def _close(self) -> None:
        self._end(None)
        self._client.exchange_done(keep_alive=not self._close_after)

    def _end(self, outcome: Outcome | None) -> None:
        self.over = True
        self._held.clear()
        if self._asked is not None:
            self._let_go(self._asked)
        self._meter.finish(outcome)
        if self._ticket is not None:
            self._ticket.close(self._meter.tokens if self._ticket.counts_tokens else 0)
