"""Connections to Ollama: responses are relayed as they came, chunk framing included, and parsed beside that.

A connection is used again only after a response that ended cleanly; a request is never sent twice.
"""

from __future__ import annotations

import asyncio
import functools
import re
from collections.abc import Callable
from typing import Protocol, cast

import httptools
import msgspec

from llmendpoint_common.process.errors import HeadError, UpstreamError
from llmendpoint_common.process.units import Address
from llmendpoint_common.wire.http1 import heads

MAX_IDLE_CONNECTIONS = 256
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] [1-9]\d\d(?: [\t\x20-\x7e\x80-\xff]*)?")
_CHUNKED = ([b"transfer-encoding: chunked"], [b"transfer-encoding:chunked"])


def drop(data: bytes) -> None:
    """Send nothing: what a connection that is gone does with bytes."""


class ResponseHead(msgspec.Struct, frozen=True, gc=False):
    """The head of a final response, also as it came (`raw`).

    `delimited` is False where only the connection's end ends the body.
    """

    status: int
    raw: bytes
    head: heads.Head
    chunked: bool
    delimited: bool


class ResponseSink(Protocol):
    """Who takes a response: called in the order of the bytes."""

    is_head_request: bool

    def interim(self, head: bytes) -> None:
        """Take a 1xx head as it came."""

    def response_head(self, head: ResponseHead) -> None:
        """Take the final head."""

    def response_body(self, raw: bytes, pieces: list[bytes]) -> None:
        """Take body bytes as they came (`raw`, with framing) and without framing (`pieces`, emptied after the call)."""

    def flush(self) -> None:
        """A head came, and for now no body with it."""

    def response_end(self, *, reusable: bool) -> None:
        """The response is whole."""

    def response_failed(self, error: UpstreamError) -> None:
        """The response will never be whole."""

    def upstream_writable(self, *, writable: bool) -> None:
        """The connection's send buffer has room, or not."""


class UpstreamConnection(asyncio.Protocol):
    """One connection, at most one exchange at a time."""

    def __init__(self, on_lost: Callable[[UpstreamConnection], None]) -> None:
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        #: Sends request bytes.
        self.write: Callable[[bytes], None] = drop
        self._sink: ResponseSink | None = None
        self._pieces: list[bytes] = []
        # Called by llhttp for each piece of a body, without a frame of Python between.
        self.on_body = self._pieces.append
        self._parser = httptools.HttpResponseParser(self)
        self._partial_head = b""
        self._in_head = True
        self._complete = False
        self._surplus = False
        self._delimited = True
        self._chunked = False
        self._keep_alive = False

    # ---- used by the exchange

    def attach(self, sink: ResponseSink) -> None:
        """Give the next response to `sink`."""
        self._sink = sink
        self._in_head = True
        self._complete = self._surplus = False
        self._delimited = True

    def detach(self) -> None:
        """Nobody waits for a response any more."""
        self._sink = None

    def pause(self) -> None:
        """Stop reading: the client is slower than the upstream."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def abort(self) -> None:
        """Close at once, so that the upstream stops computing."""
        self._sink = None
        if self._transport is not None:
            self._transport.abort()

    @property
    def usable(self) -> bool:
        """Whether a request can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    # ---- asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # uvloop's transports are not asyncio's by inheritance.
        self._transport = cast("asyncio.Transport", transport)
        self.write = self._transport.write

    def data_received(self, data: bytes) -> None:
        """Relay and parse; bytes that nobody asked for end the connection."""
        if self._sink is None:
            self.abort()
            return
        try:
            if self._in_head:
                self._receive_head(data)
            else:
                # Almost every call is this one: a piece of a stream.
                self._parser.feed_data(data)
                if self._complete:
                    self._check_end(data)
                self._sink.response_body(data, self._pieces)
                self._pieces.clear()
        except httptools.HttpParserUpgrade:
            self._fail(UpstreamError("the upstream switches protocols unasked"))
            return
        except (httptools.HttpParserError, HeadError, UpstreamError) as error:
            self._fail(UpstreamError(f"the upstream's response is not HTTP: {error}"))
            return
        if self._complete:
            self._finish(reusable=self._keep_alive and not self._surplus)

    def eof_received(self) -> None:
        """An undelimited body ends here; any other was cut."""
        if self._sink is not None and not self._in_head and not self._delimited:
            self._finish(reusable=False)

    def connection_lost(self, error: Exception | None) -> None:
        """Tell the exchange, and the pool."""
        self._transport = None
        self.write = drop
        self._on_lost(self)
        if self._sink is not None and not self._in_head and not self._delimited and error is None:
            self._finish(reusable=False)
        elif self._sink is not None:
            self._fail(UpstreamError("the upstream closed the connection before the response had ended"))

    def pause_writing(self) -> None:
        """The upstream takes the request slower than the client sends it."""
        if self._sink is not None:
            self._sink.upstream_writable(writable=False)

    def resume_writing(self) -> None:
        """The upstream takes more."""
        if self._sink is not None:
            self._sink.upstream_writable(writable=True)

    # ---- httptools

    def on_message_begin(self) -> None:
        """A second response begins behind a whole one: it belongs to no request."""
        if self._complete:
            self._surplus = True

    def on_headers_complete(self) -> None:
        """Learn whether the connection lives on: after the message llhttp has forgotten."""
        self._keep_alive = bool(self._parser.should_keep_alive())

    def on_message_complete(self) -> None:
        """The response is whole."""
        self._complete = True

    # ---- inside

    def _receive_head(self, data: bytes) -> None:
        rest = data
        while rest and self._in_head:
            rest = self._read_head(rest)
        sink = self._sink
        if sink is None:
            return
        if rest:
            self._read_body(sink, rest)
        elif not self._in_head:
            sink.flush()

    def _read_head(self, data: bytes) -> bytes:
        """Parse one head if it is whole, and return the bytes behind it."""
        data = self._partial_head + data
        end = data.find(heads.HEAD_END) + len(heads.HEAD_END)
        if end < len(heads.HEAD_END):
            if len(data) > heads.MAX_HEAD_BYTES:
                raise UpstreamError("its head is too large")
            self._partial_head = data
            return b""
        self._partial_head = b""
        raw, rest = data[:end], data[end:]
        self._parser.feed_data(raw)
        status = self._parser.get_status_code()
        if self._sink is None:
            return b""
        head = heads.read_head(raw)
        if not _is_status_line(head.start):
            raise UpstreamError("its status line is none of HTTP/1.1")
        if status < 200:
            self._complete = False
            self._sink.interim(raw)
            return rest
        self._begin_response(self._sink, status, raw, head)
        return rest

    def _begin_response(self, sink: ResponseSink, status: int, raw: bytes, head: heads.Head) -> None:
        self._in_head = False
        self._chunked = chunked = _is_chunked(head)
        if sink.is_head_request or status in (204, 304):
            # llhttp cannot know that a HEAD's answer has no body, so its state is of no more use.
            self._complete = True
            if sink.is_head_request:
                self._parser = httptools.HttpResponseParser(self)
        else:
            self._delimited = chunked or b"content-length" in head.fields
        sink.response_head(ResponseHead(status, raw, head, chunked, self._delimited))

    def _read_body(self, sink: ResponseSink, data: bytes) -> None:
        if self._complete:
            self._surplus = True
            return
        self._parser.feed_data(data)
        self._check_end(data)
        sink.response_body(data, self._pieces)
        self._pieces.clear()

    def _check_end(self, data: bytes) -> None:
        """Nothing may come behind a response; line ends are what llhttp passes over."""
        if not self._complete:
            return
        if self._chunked:
            behind = len(data) - len(data.rstrip(b"\r\n")) > len(heads.HEAD_END)
        else:
            behind = len(data) != sum(map(len, self._pieces))
        if self._surplus or behind:
            raise UpstreamError("it sends more than one response")

    def _finish(self, *, reusable: bool) -> None:
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.response_end(reusable=reusable and self._delimited and self.usable)

    def _fail(self, error: UpstreamError) -> None:
        sink, self._sink = self._sink, None
        if self._transport is not None:
            self._transport.abort()
        if sink is not None:
            sink.response_failed(error)


def _is_chunked(head: heads.Head) -> bool:
    """Tell how a body is framed; where that can be read in two ways, nobody behind the proxy may read it in another."""
    if b"transfer-encoding" not in head.fields:
        return False
    codings = [line.lower() for line in head.lines if line[:17].lower() == b"transfer-encoding"]
    if codings not in _CHUNKED or b"content-length" in head.fields:
        raise UpstreamError("its body's framing is in doubt")
    return True


@functools.lru_cache(256)
def _is_status_line(line: bytes) -> bool:
    """Tell whether a client reads a status line as llhttp does, which is lenient with it (RFC 9112, 4)."""
    return _STATUS_LINE.fullmatch(line) is not None


class UpstreamPool:
    """Idle connections to one upstream, newest first."""

    def __init__(self, address: Address, connect_timeout: float) -> None:
        self._address = address
        #: What the Host header says: Ollama on loopback refuses foreign names.
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
        """Open a connection; UpstreamError names the address where it cannot be had within the connect timeout."""
        loop = asyncio.get_running_loop()
        host, port = self._address.host or "127.0.0.1", self._address.port
        try:
            async with asyncio.timeout(self._connect_timeout):
                _, connection = await loop.create_connection(lambda: UpstreamConnection(self._forget), host, port)
        except TimeoutError:
            raise UpstreamError(f"no connection to {self._address} in {self._connect_timeout:g} s") from None
        except OSError as error:
            raise UpstreamError(f"cannot connect to {self._address}: {error.strerror or error}") from None
        self.opened += 1
        return connection

    def release(self, connection: UpstreamConnection) -> None:
        """Keep a connection whose response ended cleanly; one that has closed since is found by `acquire`."""
        if len(self._idle) < MAX_IDLE_CONNECTIONS:
            connection.detach()
            self._idle.append(connection)
        else:
            connection.abort()

    def close(self) -> None:
        """Close what is idle."""
        for connection in self._idle:
            connection.abort()
        self._idle.clear()

    def _forget(self, connection: UpstreamConnection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)
