"""A reader of HTTP/1.1 requests: bytes in, calls of a handler out. It has no transport and no clock.

One reader serves one connection, and reads pipelined requests one after the other. llhttp judges whether the bytes
are HTTP. The reader finds the beginning and the end of each request a second time, and both have to agree: a request
that two recipients end at different bytes can smuggle another request past the first one (RFC 9112, 11.2).

State        Event                                    Calls                         Next state
-----------  ---------------------------------------  ----------------------------  ----------
START        an empty line (a)                                                      START
START        bytes of a head, without its end                                       HEAD
START, HEAD  the end of a head, no body               request_head, request_end     START
START, HEAD  the end of a head, a body follows        request_head                  BODY
BODY         a piece of the body                      request_body                  BODY
BODY         the last piece of the body               request_body, request_end     START
not CLOSED   bytes that are not HTTP beyond doubt     (HeadError or BodyError)      CLOSED
any          close                                                                  CLOSED
CLOSED       bytes                                                                  CLOSED

(a) Old clients send one behind a body (RFC 9112, 2.2).

Rules and their sources:

- A body has the length of Content-Length, or ends by its chunks; a request without either has none (RFC 9112, 6.3).
  llhttp refuses both together, two different lengths, and codings other than a final `chunked`.
- Line ends are CRLF. RFC 9112, 2.2 allows recipients to accept a bare LF. Not all do, so it is refused.
- An offer to upgrade (h2c, WebSocket) is declined by going on in HTTP/1.1 (RFC 9110, 7.8). llhttp stops reading at the
  offer, so another parser reads the body.
- A head is at most 64 KiB (`heads.MAX_HEAD_BYTES`): llhttp has no limit, and memory must have one. Node.js allows
  16 KiB, nginx 4 x 8 KiB, Go 1 MiB; Ollama's clients send a few hundred bytes.
- `keep_alive` is False for HTTP/1.0, which has no chunked coding: only the end of the connection can end a streamed
  body there (RFC 9112, 6.1).
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

_VERSIONS = {b"HTTP/1.1": "1.1", b"HTTP/1.0": "1.0"}
_FRAMING = (b"transfer-encoding", b"content-length")


class RequestState(Enum):
    """The state of a reader. The table above lists the transitions."""

    START = "start"
    HEAD = "head"
    BODY = "body"
    CLOSED = "closed"


# Looking up a member in its class costs more than the comparison.
_START, _HEAD = RequestState.START, RequestState.HEAD
_BODY, _CLOSED = RequestState.BODY, RequestState.CLOSED


class RequestHead(msgspec.Struct, frozen=True, gc=False):
    """The head of a request, as the client sent it. `version` is "1.0" or "1.1"."""

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
        """Receive the head of a request; it begins."""

    def request_body(self, data: bytes) -> None:
        """Receive a piece of the body, without chunk framing."""

    def request_end(self, trailers: bytes) -> None:
        """Note that the request is whole; `trailers` are the lines behind a chunked body."""


class RequestReader:
    """Reads the requests of one connection."""

    __slots__ = (
        "_chunks",
        "_handler",
        "_keep_alive",
        "_left",
        "_message_ended",
        "_offered",
        "_parser",
        "_partial",
        "state",
    )

    def __init__(self, handler: RequestHandler) -> None:
        self.state = _START
        self._handler = handler
        #: The beginning of a head whose end has not come.
        self._partial = b""
        #: The bytes of a Content-Length that are still to come, or the chunks.
        self._left = 0
        self._chunks: ChunkedFraming | None = None
        # State of llhttp. `_keep_alive` is None until a head is whole; llhttp forgets it when the
        # message ends.
        self._keep_alive: bool | None = None
        self._message_ended = False
        self._offered = False
        self._parser = self._new_parser()

    def feed(self, data: bytes) -> None:
        """Read received bytes. HeadError or BodyError if they are not HTTP beyond doubt; then the reader is closed."""
        try:
            while data and self.state is not _CLOSED:
                data = self._read_body(data) if self.state is _BODY else self._read_head(data)
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
        """Read and call nothing any more."""
        self.state = _CLOSED

    @property
    def partial_target(self) -> bytes:
        """The target of a request whose head is not whole, or not HTTP; empty if there is none yet."""
        return self._partial.partition(b" ")[2].partition(b" ")[0]

    # ---- heads

    def _read_head(self, data: bytes) -> bytes:
        """Read a head if it is whole, and return the bytes behind it."""
        before = len(self._partial)
        raw = self._partial + data
        if raw.startswith(b"\r\n"):
            return self._skip_empty_lines(raw)
        end = raw.find(heads.HEAD_END, max(0, before - 3)) + len(heads.HEAD_END)
        if end < len(heads.HEAD_END):
            end, whole = len(raw), False
        else:
            raw, whole = raw[:end], True
        if end > heads.MAX_HEAD_BYTES:
            raise HeadTooLargeError("the head of the request is larger than 64 KiB")
        self._partial = raw
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
        """Begin the request of a whole head; it has also ended if it has no body."""
        if self._keep_alive is None:
            raise HeadError("the head's end is in doubt")
        head = heads.read_head(raw)
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
        """Read on with another parser. It is given a head with the same framing fields."""
        self._offered = self._message_ended = False
        self._parser = self._new_parser()
        headers = [(name, fields[name]) for name in _FRAMING if name in fields]
        self._parser.feed_data(heads.write_head(b"POST / HTTP/1.1", [(b"Host", b"_"), *headers]))

    # ---- bodies

    def _read_body(self, data: bytes) -> bytes:
        """Read the bytes of the body, and return those behind it."""
        chunks = self._chunks
        if chunks is not None:
            size = chunks.feed(data)
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
            raise BodyError("the body's end is in doubt")
        return rest

    def _end(self, trailers: bytes) -> None:
        if not self._message_ended:
            raise BodyError("the body's end is in doubt")
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
    """The reason why a request that is valid HTTP is answered with an error."""

    status: HTTPStatus
    sentence: str


_TUNNEL = Fault(HTTPStatus.NOT_IMPLEMENTED, "this proxy opens no tunnels")
_HOST = Fault(HTTPStatus.BAD_REQUEST, "a request has exactly one Host header")


def fault_of(request: RequestHead) -> Fault | None:
    """Return why a request must not be served; None if it may.

    It needs exactly one Host (RFC 9112, 3.2), except in HTTP/1.0. CONNECT asks for a tunnel (RFC 9110, 9.3.6).
    """
    head = request.head
    if request.method == b"CONNECT":
        return _TUNNEL
    if b"host" not in head.fields:
        return None if request.version == "1.0" else _HOST
    if len(head.fields) != len(head.lines) and heads.count(head, b"host") > 1:
        return _HOST
    return None


def _request_line(line: bytes) -> tuple[bytes, bytes, str]:
    """Return method, target and version of a request line (RFC 9112, 3)."""
    parts = line.split(b" ")
    if len(parts) != 3 or parts[2] not in _VERSIONS:
        raise HeadError("the request line is not METHOD TARGET HTTP/1.1")
    return parts[0], parts[1], _VERSIONS[parts[2]]
