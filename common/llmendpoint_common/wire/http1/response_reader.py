"""A reader of HTTP/1.1 responses: bytes in, calls of a handler out. It has no transport and no clock.

One reader serves one connection. Before each request, the owner of the connection calls `expect` with the handler of
the response; then it passes every received piece to `feed`, and the end of the connection to `eof`. llhttp decides
whether the bytes are HTTP. The reader also splits heads into lines, and both must agree on the end of a head.

State        Event                                          Calls                            Next state
-----------  ---------------------------------------------  -------------------------------  ------------------
IDLE         expect                                                                          HEAD
IDLE         bytes that no request asked for                close                            CLOSED
IDLE         eof                                                                             CLOSED
HEAD         a 1xx head                                     interim                          HEAD
HEAD         a head without a body (a)                      response_head (c), response_end  IDLE or CLOSED (b)
HEAD         a head with chunked or Content-Length          response_head (c)                BODY
HEAD         any other head                                 response_head (c)                UNTIL_CLOSE
BODY         a piece of the body                            response_body                    BODY
BODY         the last piece of the body                     response_body, response_end      IDLE or CLOSED (b)
UNTIL_CLOSE  a piece of the body                            response_body                    UNTIL_CLOSE
UNTIL_CLOSE  eof                                            response_end                     CLOSED
HEAD, BODY   eof                                            close, response_failed           CLOSED
UNTIL_CLOSE  eof(reset=True)                                close, response_failed           CLOSED
not IDLE     bytes that are not HTTP, or two responses      close, response_failed           CLOSED
any          abandon                                                                         CLOSED

(a) A response to HEAD, 204, 304 (RFC 9112, 6.3), or Content-Length: 0.
(b) IDLE if the connection can carry another request (`reusable`), otherwise CLOSED. Extra bytes after a head without a
    body make the connection unusable. Extra bytes after a body make the response ambiguous, so it fails.
(c) Also response_head_alone, if no byte of the body came with the head.

Rules and their sources:

- A response to HEAD, and 204 and 304, have no body, regardless of their fields (RFC 9112, 6.3, item 1).
- Transfer-Encoding must be exactly `chunked`, once, and without Content-Length. RFC 9112, 6.1 and 6.3 (item 3) allow
  a recipient to read anything else in several ways, so a response that carries it is rejected.
- A response without either ends with its connection (RFC 9112, 6.3, item 8). All other bodies are incomplete if
  the connection ends first (RFC 9112, 8).
- 101 Switching Protocols is rejected, because no user of this reader offers an upgrade (RFC 9110, 7.8).
- The status line must match the grammar of RFC 9112, 4. llhttp is more lenient.
- A head is at most 64 KiB (`heads.MAX_HEAD_BYTES`): llhttp has no limit, so memory use would be unbounded. nginx allows
4 or 8 KiB, Node.js 16 KiB, Go 10 MiB.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from enum import Enum
from types import SimpleNamespace
from typing import Protocol

import httptools
import msgspec

from llmendpoint_common.process.errors import BodyError, HeadError, ProtocolError, UpstreamError
from llmendpoint_common.wire.http1 import heads

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] [1-9]\d\d(?: [\t\x20-\x7e\x80-\xff]*)?")
_CHUNKED = ([b"transfer-encoding: chunked"], [b"transfer-encoding:chunked"])
_WITHOUT_BODY = frozenset({204, 304})


class ResponseState(Enum):
    """States of a reader. The table above lists the transitions."""

    IDLE = "idle"
    HEAD = "head"
    BODY = "body"
    UNTIL_CLOSE = "until close"
    CLOSED = "closed"


# Looking up a member in its class costs more than the comparison, and `feed` compares for each piece of a stream.
_IDLE, _HEAD, _BODY = ResponseState.IDLE, ResponseState.HEAD, ResponseState.BODY
_UNTIL_CLOSE, _CLOSED = ResponseState.UNTIL_CLOSE, ResponseState.CLOSED
_IN_RESPONSE = frozenset({_HEAD, _BODY, _UNTIL_CLOSE})


class ResponseHead(msgspec.Struct, frozen=True, gc=False):
    """The head of a final response. `raw` contains its bytes, including the empty line.

    `delimited` is False if only the end of the connection ends the body.
    """

    status: int
    raw: bytes
    head: heads.Head
    chunked: bool
    delimited: bool

    @property
    def fields(self) -> heads.Fields:
        """Return the last value of each header by its lower-case name."""
        return self.head.fields


class ResponseHandler(Protocol):
    """The receiver of one response. The reader calls it in the order of the bytes.

    The last call is `response_end` or `response_failed`, unless the owner of the reader calls `abandon` first.
    """

    def interim(self, head: bytes) -> None:
        """Receive a 1xx head, including its empty line."""

    def response_head(self, head: ResponseHead) -> None:
        """Receive the final head."""

    def response_head_alone(self) -> None:
        """Note that the head was received without a byte of the body. The body may follow at any time."""

    def response_body(self, raw: bytes, pieces: list[bytes]) -> None:
        """Receive a piece of the body as it was received (`raw`, with chunk framing) and without framing (`pieces`).

        The reader clears `pieces` after the call. The list is empty if the bytes are only framing.
        """

    def response_end(self, *, reusable: bool) -> None:
        """Note that the response is complete. If `reusable`, the connection can carry another request."""

    def response_failed(self, error: ProtocolError) -> None:
        """Note that the response is incomplete, and that the connection can no longer be used.

        HeadError: the head is not valid HTTP. BodyError: the framing of the body is not. UpstreamError: the
        connection ended before the response.
        """


class ResponseReader:
    """Reads the responses of one connection. It calls `close` if the connection can no longer be used.

    It does not call `close` at the end of a response: `response_end` reports whether the connection is reusable.
    """

    __slots__ = (
        "_chunked",
        "_close",
        "_ended",
        "_handler",
        "_keep_alive",
        "_on_body",
        "_parse",
        "_parser",
        "_partial",
        "_pieces",
        "_to_head",
        "_two_responses",
        "state",
    )

    def __init__(self, close: Callable[[], None]) -> None:
        self.state = _IDLE
        self._close = close
        self._handler: ResponseHandler | None = None
        self._on_body: Callable[[bytes, list[bytes]], None] = _drop
        self._to_head = False
        self._chunked = False
        #: The received part of a head that is not complete.
        self._partial = b""
        #: Filled by llhttp itself, so that no Python function is called for each piece of the body.
        self._pieces: list[bytes] = []
        # State of llhttp: whether the message has ended, and whether the connection can be used again.
        self._ended = False
        self._keep_alive = False
        self._two_responses = False
        self._renew_parser()

    @property
    def awaits_head(self) -> bool:
        """Whether the final head of a response has not arrived."""
        return self.state is _HEAD

    @property
    def partial_head(self) -> bytes:
        """The received part of a head that is not complete."""
        return self._partial

    # ---- calls of the owner of the connection

    def expect(self, handler: ResponseHandler, to_head: bool = False) -> None:
        """Pass the next response to `handler`. `to_head`: the request is a HEAD."""
        self.state = _HEAD
        self._handler = handler
        self._on_body = handler.response_body
        self._to_head = to_head
        self._ended = self._two_responses = False

    def feed(self, data: bytes) -> None:
        """Read received bytes."""
        try:
            state = self.state
            if state is _BODY or state is _UNTIL_CLOSE:
                # Almost every call is this one: a piece of a stream. Python 3.11 calls a local variable faster than an
                # attribute in a slot.
                parse, on_body, pieces = self._parse, self._on_body, self._pieces
                parse(data)
                if self._ended:
                    self._read_last_piece(data)
                else:
                    on_body(data, pieces)
                    pieces.clear()
            elif state is _HEAD:
                self._read_heads(data)
            elif state is _IDLE:
                self.state = _CLOSED
                self._close()
        except httptools.HttpParserUpgrade:
            self._fail(HeadError("the response switches protocols, although no upgrade was offered"))
        except httptools.HttpParserError as error:
            kind = HeadError if self.state is _HEAD else BodyError
            self._fail(kind(f"the response is not valid HTTP: {error}"))
        except (HeadError, BodyError) as error:
            self._fail(type(error)(f"the response is not valid HTTP: {error}"))

    def eof(self, *, reset: bool = False) -> None:
        """Note the end of the connection. `reset`: it was not closed in an orderly way."""
        if self.state is _UNTIL_CLOSE and not reset:
            self._finish(False)
        elif self.state in _IN_RESPONSE:
            self._fail(UpstreamError("the connection was closed before the response had ended"))
        else:
            self.state = _CLOSED

    def abandon(self) -> None:
        """Do not call the handler again: the response is not needed, and the connection is about to be closed."""
        self.state = _CLOSED
        self._handler, self._on_body = None, _drop

    # ---- heads

    def _read_heads(self, data: bytes) -> None:
        """Read interim heads, the final head, and the bytes of the body that follow it in `data`."""
        rest = data
        while rest and self.state is _HEAD:
            rest = self._read_head(rest)
        if self._handler is None or self.state is _HEAD or self.state is _CLOSED:
            return
        if self._ended:
            self._handler.response_head_alone()
            self._finish(self._keep_alive and not rest)
        elif rest:
            self.feed(rest)
        else:
            self._handler.response_head_alone()

    def _read_head(self, data: bytes) -> bytes:
        """Read one head if it is complete, and return the bytes after it."""
        data = self._partial + data
        # The end may lie across the border to the bytes that came before.
        end = data.find(heads.HEAD_END, max(0, len(self._partial) - len(heads.HEAD_END))) + len(heads.HEAD_END)
        is_whole = end >= len(heads.HEAD_END)
        if (end if is_whole else len(data)) > heads.MAX_HEAD_BYTES:
            raise HeadError("its head is larger than 64 KiB")
        if not is_whole:
            self._partial = data
            return b""
        self._partial = b""
        raw, rest = data[:end], data[end:]
        self._parse(raw)
        status = self._parser.get_status_code()
        head = heads.read_head(raw)
        if not _is_status_line(head.start):
            raise HeadError("its status line is not valid")
        if status < 200:
            # For llhttp, an interim response is a complete message.
            self._ended = False
            if self._handler is not None:
                self._handler.interim(raw)
        else:
            self._begin_body(status, raw, head)
        return rest

    def _begin_body(self, status: int, raw: bytes, head: heads.Head) -> None:
        self._chunked = chunked = _is_chunked(head)
        delimited = True
        if self._to_head:
            # llhttp does not know that this response has no body, and may wait for one.
            if not self._ended:
                self._note_message_complete()
            self._renew_parser()
        elif status in _WITHOUT_BODY:
            self._ended = True
        else:
            delimited = chunked or b"content-length" in head.fields
        self.state = _BODY if delimited else _UNTIL_CLOSE
        if self._handler is not None:
            self._handler.response_head(ResponseHead(status, raw, head, chunked, delimited))

    # ---- ends

    def _read_last_piece(self, data: bytes) -> None:
        """Read the piece in which the body ends. Only line ends may follow, which llhttp skips."""
        if self._chunked:
            surplus = len(data) - len(data.rstrip(b"\r\n")) > len(heads.HEAD_END)
        else:
            surplus = len(data) != sum(map(len, self._pieces))
        if surplus or self._two_responses:
            raise BodyError("extra bytes follow the response")
        self._on_body(data, self._pieces)
        self._pieces.clear()
        self._finish(self._keep_alive)

    def _finish(self, reusable: bool) -> None:
        handler, self._handler = self._handler, None
        if handler is not None:
            self.state = _IDLE if reusable else _CLOSED
            handler.response_end(reusable=reusable)

    def _fail(self, error: ProtocolError) -> None:
        handler, self._handler = self._handler, None
        self.state = _CLOSED
        self._pieces.clear()
        self._close()
        if handler is not None:
            handler.response_failed(error)

    # ---- llhttp

    def _renew_parser(self) -> None:
        callbacks = SimpleNamespace(
            on_body=self._pieces.append,
            on_message_begin=self._note_message_begin,
            on_message_complete=self._note_message_complete,
        )
        self._parser = httptools.HttpResponseParser(callbacks)
        self._parse = self._parser.feed_data

    def _note_message_begin(self) -> None:
        self._two_responses = self._ended

    def _note_message_complete(self) -> None:
        self._ended = True
        # llhttp discards this value when the call returns.
        self._keep_alive = self._parser.should_keep_alive()


def _drop(raw: bytes, pieces: list[bytes]) -> None:
    """Discard bytes: there is no handler."""


def _is_chunked(head: heads.Head) -> bool:
    """Return whether a body is chunked. Raises HeadError if two recipients could interpret its framing differently."""
    if b"transfer-encoding" not in head.fields:
        return False
    codings = [line.lower() for line in head.lines if line[:17].lower() == b"transfer-encoding"]
    if codings not in _CHUNKED or b"content-length" in head.fields:
        raise HeadError("the framing of its body is ambiguous")
    return True


@functools.lru_cache(256)
def _is_status_line(line: bytes) -> bool:
    return _STATUS_LINE.fullmatch(line) is not None
