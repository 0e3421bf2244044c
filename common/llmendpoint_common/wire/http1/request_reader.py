"""A reader of HTTP/1.1 requests: bytes in, calls of a handler out. It has no transport and no clock.

One reader serves one connection, and reads pipelined requests one after the other. llhttp decides whether the bytes
are HTTP. The reader also determines the beginning and the end of each request itself, and both must agree: if two
recipients disagree on the end of a request, another request can be smuggled past the first recipient (RFC 9112, 11.2).

State        Event                                    Calls                         Next state
-----------  ---------------------------------------  ----------------------------  ----------
START        an empty line (a)                                                      START
START        bytes of a head, without its end                                       HEAD
START, HEAD  the end of a head, no body               request_head, request_end     START
START, HEAD  the end of a head, a body follows        request_head                  BODY
BODY         a piece of the body                      request_body                  BODY
BODY         the last piece of the body               request_body, request_end     START
not CLOSED   invalid or ambiguous bytes               (HeadError or BodyError)      CLOSED
any          close                                                                  CLOSED
CLOSED       bytes                                                                  CLOSED

(a) Old clients send one after a body (RFC 9112, 2.2).

Rules and their sources:

- The end of a body is given by Content-Length or by chunks. A request without either has no body (RFC 9112, 6.3).
  llhttp rejects both together, two different lengths, and codings other than a final `chunked`.
- Line ends are CRLF. RFC 9112, 2.2 allows recipients to accept a bare LF. Not all do, so it is rejected.
- An offer to upgrade (h2c, WebSocket) is declined by continuing with HTTP/1.1 (RFC 9110, 7.8). llhttp stops reading at
  the offer, so another parser reads the body.
- A head is at most 64 KiB (`heads.MAX_HEAD_BYTES`): llhttp has no limit, so memory use would be unbounded. Node.js
  allows 16 KiB, nginx 4 x 8 KiB, Go 1 MiB; Ollama's clients send a few hundred bytes. It has at most 256 lines.
- `keep_alive` is False for
  HTTP/1.0, which has no chunked coding: only the end of the connection can end a streamed body there (RFC 9112, 6.1).
"""

from __future__ import annotations

from enum import Enum
from http import HTTPStatus
from types import SimpleNamespace
from typing import NamedTuple, Protocol

import httptools
import msgspec

from llmendpoint_common.process.errors import BodyError, HeadError, HeadTooLargeError
from llmendpoint_common.wire.http1 import heads
from llmendpoint_common.wire.http1.chunked import ChunkedFraming

#: Maximum number of heads that one call of `feed` reads. 256 KiB, which an event loop receives in one piece, have room
#: for 9,700 pipelined requests. They would take 13 MiB of memory, and 220 ms during which nothing else runs.
MAX_HEADS_PER_CALL = 16
#: Maximum number of chunks that one call of `feed` reads. 256 KiB have room for 43,000 chunks of one byte. Each of them
#: takes 1 to 2 microseconds, whatever is done with its content.
MAX_CHUNKS_PER_CALL = 4096
_VERSIONS = {b"HTTP/1.1": "1.1", b"HTTP/1.0": "1.0"}
_LINE_END = b"\r\n"
_FRAMING = (b"transfer-encoding", b"content-length")


class RequestState(Enum):
    """States of a reader. The table above lists the transitions."""

    START = "start"
    HEAD = "head"
    BODY = "body"
    CLOSED = "closed"


# Looking up a member in its class costs more than the comparison.
_START, _HEAD = RequestState.START, RequestState.HEAD
_BODY, _CLOSED = RequestState.BODY, RequestState.CLOSED


class RequestHead(msgspec.Struct, frozen=True, gc=False):
    """The head of a request, as sent by the client. `version` is "1.0" or "1.1"."""

    method: bytes
    target: bytes
    version: str
    head: heads.Head
    keep_alive: bool
    chunked: bool

    @property
    def fields(self) -> heads.Fields:
        """Return the last value of each header by its lower-case name."""
        return self.head.fields


class RequestHandler(Protocol):
    """The receiver of requests. The reader calls it in the order of the bytes."""

    def request_head(self, head: RequestHead) -> None:
        """Receive the head of a request, with which the request begins."""

    def request_body(self, data: bytes) -> None:
        """Receive a piece of the body, without chunk framing."""

    def request_end(self, trailers: bytes) -> None:
        """Note that the request is complete. `trailers` are the lines after a chunked body."""


class RequestReader:
    """Reads the requests of one connection."""

    __slots__ = (
        "_chunks",
        "_chunks_left",
        "_handler",
        "_keep_alive",
        "_left",
        "_message_ended",
        "_offered",
        "_parser",
        "_partial",
        "state",
        "unread",
    )

    def __init__(self, handler: RequestHandler) -> None:
        self.state = _START
        #: Bytes that the last call of `feed` has not read. The next call reads them first.
        self.unread = b""
        self._handler = handler
        #: The received part of a head that is not complete.
        self._partial = b""
        #: The remaining bytes of a body with Content-Length, or the framing of a chunked one.
        self._left = 0
        self._chunks: ChunkedFraming | None = None
        self._chunks_left = 0
        # State of llhttp. `_keep_alive` is None until a head is complete; llhttp discards the value when the
        # message ends.
        self._keep_alive: bool | None = None
        self._message_ended = False
        self._offered = False
        self._parser = self._new_parser()

    def feed(self, data: bytes) -> None:
        """Read received bytes: at most MAX_HEADS_PER_CALL requests and MAX_CHUNKS_PER_CALL chunks.

        The rest is kept in `unread`. If the bytes are invalid or ambiguous, close the reader and raise HeadError or
        BodyError.
        """
        if self.unread:
            data, self.unread = self.unread + data, b""
        left, self._chunks_left = MAX_HEADS_PER_CALL, MAX_CHUNKS_PER_CALL
        try:
            while data and self.state is not _CLOSED:
                if self.state is _BODY and self._chunks_left:
                    data = self._read_body(data)
                elif self.state is not _BODY and left:
                    left -= 1
                    data = self._read_head(data)
                else:
                    self.unread = data
                    return
        except httptools.HttpParserCallbackError:
            # The handler failed.
            raise
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            kind = BodyError if self.state is _BODY else HeadError
            self.state = _CLOSED
            raise kind(str(error)) from None
        except (HeadError, BodyError):
            self.state = _CLOSED
            raise

    def close(self) -> None:
        """Ignore all further bytes, and do not call the handler again."""
        self.state = _CLOSED
        self.unread = self._partial = b""

    @property
    def partial_bytes(self) -> int:
        """Return the size of the received part of an incomplete head."""
        return len(self._partial)

    def partial_request(self) -> RequestHead:
        """Return what was received of a request whose head is incomplete or invalid. All of it may be empty."""
        start, *lines = self._partial.split(_LINE_END)
        method, space, rest = start.partition(b" ")
        target = rest.partition(b" ")[0]
        # The last line may be incomplete.
        pairs = [line.partition(b":")[::2] for line in lines[:-1]]
        fields = {name.lower(): value.strip(b" \t") for name, value in pairs}
        head = heads.Head(start, lines[:-1], fields)
        return RequestHead(method if space else b"", target, "1.1", head, keep_alive=False, chunked=False)

    # ---- heads

    def _read_head(self, data: bytes) -> bytes:
        """Read a head if it is complete, and return the bytes after it."""
        before = len(self._partial)
        raw = self._partial + data
        if raw.startswith(b"\r\n"):
            return self._skip_empty_lines(raw)
        end = raw.find(heads.HEAD_END, max(0, before - 3)) + len(heads.HEAD_END)
        if end < len(heads.HEAD_END):
            end, whole = len(raw), False
        else:
            raw, whole = raw[:end], True
        self._partial = raw
        if end > heads.MAX_HEAD_BYTES:
            raise HeadTooLargeError("the head of the request is larger than 64 KiB")
        try:
            self._parser.feed_data(raw[before:] if before else raw)
        except httptools.HttpParserUpgrade:
            self._offered = True
        if not whole:
            self.state = _HEAD
            return b""
        self._begin(raw)
        return data[end - before :]

    def _skip_empty_lines(self, raw: bytes) -> bytes:
        self.state, self._partial = _START, b""
        at = 2
        while raw.startswith(b"\r\n", at):
            at += 2
        return raw[at:]

    def _begin(self, raw: bytes) -> None:
        """Begin a request after its complete head. A request without a body also ends here."""
        if self._keep_alive is None:
            raise HeadError("the end of the head is ambiguous")
        head = heads.read_head(raw)
        if len(head.lines) > heads.MAX_HEAD_LINES:
            raise HeadTooLargeError(f"the head of the request has more than {heads.MAX_HEAD_LINES} lines")
        method, target, version = _request_line(head.start)
        fields = head.fields
        keep_alive = self._keep_alive and version != "1.0"
        if self._offered:
            self._decline_upgrade(fields)
        self._keep_alive = None
        self._partial = b""
        chunked = b"transfer-encoding" in fields
        self._chunks = ChunkedFraming() if chunked else None
        self._left = int(fields.get(b"content-length", b"0"))
        has_body = chunked or self._left
        self.state = _BODY if has_body else _START
        self._handler.request_head(RequestHead(method, target, version, head, keep_alive, chunked))
        if not has_body and self.state is _START:
            self._end(b"")

    def _decline_upgrade(self, fields: heads.Fields) -> None:
        """Continue with another parser, which first gets a head with the same framing fields."""
        self._offered = self._message_ended = False
        self._parser = self._new_parser()
        headers = [(name, fields[name]) for name in _FRAMING if name in fields]
        self._parser.feed_data(heads.write_head(b"POST / HTTP/1.1", [(b"Host", b"_"), *headers]))

    # ---- bodies

    def _read_body(self, data: bytes) -> bytes:
        """Read the bytes of the body, and return the bytes after it."""
        chunks = self._chunks
        if chunks is not None:
            before = chunks.lines
            size = chunks.feed(data, self._chunks_left)
            self._chunks_left -= chunks.lines - before
            ended = chunks.ended
        else:
            size = min(self._left, len(data))
            self._left -= size
            ended = not self._left
        if size < len(data):
            data, rest = data[:size], data[size:]
        else:
            rest = b""
        self._parser.feed_data(data)
        if self.state is _CLOSED:
            return b""
        if ended:
            self._end(b"" if chunks is None else chunks.trailers)
        elif self._message_ended:
            raise BodyError("the end of the body is ambiguous")
        return rest

    def _end(self, trailers: bytes) -> None:
        if not self._message_ended:
            raise BodyError("the end of the body is ambiguous")
        self._message_ended = False
        self.state = _START
        self._handler.request_end(trailers)

    # ---- llhttp

    def _new_parser(self) -> httptools.HttpRequestParser:
        callbacks = SimpleNamespace(
            on_body=self._handler.request_body,
            on_headers_complete=self._note_headers_complete,
            on_message_complete=self._note_message_complete,
        )
        return httptools.HttpRequestParser(callbacks)

    def _note_headers_complete(self) -> None:
        self._keep_alive = bool(self._parser.should_keep_alive())

    def _note_message_complete(self) -> None:
        self._message_ended = True


class Fault(NamedTuple):
    """An error response to a request that is valid HTTP: status and message."""

    status: HTTPStatus
    sentence: str


_TUNNEL = Fault(HTTPStatus.NOT_IMPLEMENTED, "CONNECT is not supported")
_HOST = Fault(HTTPStatus.BAD_REQUEST, "a request must have exactly one Host header")
_TARGET = Fault(
    HTTPStatus.BAD_REQUEST,
    "the target of the request must be a path, or an http or https URL with the same host as the Host header",
)
#: Default ports by scheme (RFC 9110, 4.2).
_PORTS = {b"http": b":80", b"https": b":443"}


def fault_of(request: RequestHead) -> Fault | None:
    """Return the error response to a request that must not be forwarded, or None if it may.

    A request must have exactly one Host (RFC 9112, 3.2), except in HTTP/1.0. CONNECT requests a tunnel (RFC 9110,
    9.3.6), which is not supported. If the target is a complete URL, a server must use its host and ignore the Host
    header (RFC 9112, 3.2.2). Not all do, so the request is refused if they differ, which no client needs (3.2).
    """
    head = request.head
    if request.method == b"CONNECT":
        return _TUNNEL
    host = head.fields.get(b"host")
    if host is None and request.version != "1.0":
        return _HOST
    if len(head.fields) != len(head.lines) and heads.count(head, b"host") > 1:
        return _HOST
    if not request.target.startswith(b"/") and not _is_target_for(host, request.target):
        return _TARGET
    return None


def _is_target_for(host: bytes | None, target: bytes) -> bool:
    """Return whether a target that is not a path is valid and does not contradict the Host header, if there is one."""
    if target == b"*":
        return True
    scheme, separator, rest = target.lower().partition(b"://")
    if not separator or scheme not in _PORTS:
        return False
    authority = rest.partition(b"/")[0].partition(b"?")[0]
    port = _PORTS[scheme]
    return host is None or authority.removesuffix(port) == host.lower().removesuffix(port)


def _request_line(line: bytes) -> tuple[bytes, bytes, str]:
    """Return method, target and version of a request line (RFC 9112, 3)."""
    parts = line.split(b" ")
    if len(parts) != 3 or parts[2] not in _VERSIONS:
        raise HeadError("the request line is not of the form METHOD TARGET HTTP/1.1")
    return parts[0], parts[1], _VERSIONS[parts[2]]
