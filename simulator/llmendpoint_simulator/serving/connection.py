"""A connection of the simulator: requests, and writes whose time is known.

It owns its socket. A transport of uvloop writes at the end of a turn of the event loop, and does not say when. A `send`
says when the kernel has taken the bytes, and costs less per chunk.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeAlias

import httptools

from llmendpoint_simulator.serving.responses import Response, encoded, whole_response
from llmendpoint_simulator.serving.timers import Timers

_READ = 256 * 1024
#: As Go's server (net/http, maxPostHandlerReadBytes): it reads at most this much of a body that no handler reads, and
#: otherwise closes the connection, 0.5 s after the response (rstAvoidanceDelay).
_UNREAD_BYTES = 256 * 1024
_LINGER_SECONDS = 0.5
_RESET = struct.pack("ii", 1, 0)


class Sink(Protocol):
    """Receives the body of a request piece by piece. With an `answer`, the body is not needed.

    The answer is then sent before the body has arrived.
    """

    answer: Response | None

    def feed(self, part: bytes) -> None:
        """Receive a part of the body."""


class Request(NamedTuple):
    """A request whose body is complete. Names of headers are in lower case. `lag` is the ledger's `receive_lag`.

    If a sink has received the body, `body` is empty.
    """

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes
    received_at: float
    lag: float
    version: str
    keep_alive: bool
    sink: Sink | None = None


#: Answers a request, with `respond`, or with `send` and `end`.
Handle: TypeAlias = Callable[["Connection", Request], None]
#: Returns what receives a body, from method, path and headers, or None to keep it in memory.
Receive: TypeAlias = Callable[[str, str, dict[str, str]], Sink | None]


class Connection:
    """One client's connection."""

    def __init__(
        self, sock: socket.socket, number: int, timers: Timers, handle: Handle, receive: Receive | None = None
    ) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.number = number
        #: Is called if the client closes the connection before the end of a response.
        self.on_lost: Callable[[], object] | None = None
        #: Is called when the kernel has taken all bytes, after `send` has returned False.
        self.on_drained: Callable[[], None] | None = None
        #: Is called when the connection is closed.
        self.on_closed: Callable[[Connection], None] | None = None
        self.is_open = True
        self._sock = sock
        self._timers = timers
        self._handle = handle
        self._receive = receive
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._backlog = bytearray()
        self._requests: deque[Request] = deque()
        self._answering: Request | None = None
        self._sink: Sink | None = None
        #: The response to the request that is being read has been sent.
        self._is_answered = False
        self._closes = False
        self._loop.add_reader(sock.fileno(), self._on_readable)

    # ---- responses

    def send(self, data: bytes) -> bool:
        """Send bytes. Returns False if the kernel did not take all of them; the rest follows when it does."""
        if not self.is_open:
            return False
        sent = 0
        if not self._backlog:
            try:
                sent = self._sock.send(data)
            except BlockingIOError:
                pass
            except OSError:
                self._lose()
                return False
            if sent == len(data):
                return True
            self._loop.add_writer(self._sock.fileno(), self._on_writable)
        self._backlog += data[sent:]
        return False

    def end(self, *, close: bool = False) -> None:
        """End the response, and answer the next request.

        Closes the connection if the client asked for it, or if the end of the response is the end of the connection.
        """
        answered, self._answering, self.on_lost, self.on_drained = self._answering, None, None, None
        if close or (answered is not None and not answered.keep_alive):
            self.close_after_sending()
        self._answer_next()

    def respond(self, status: int, body: bytes, content_type: str = "application/json") -> None:
        """Send a whole response, and end it."""
        self.send(whole_response(status, body, content_type))
        self.end()

    def close_after_sending(self) -> None:
        """Close the connection when the kernel has taken all bytes."""
        self._closes = True
        if not self._backlog:
            self.close()

    def reset(self) -> None:
        """Close the connection with a TCP reset. Bytes that the client has not received are lost."""
        if self.is_open:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.close()

    def close(self) -> None:
        """Close the connection."""
        if self.is_open:
            self.is_open = False
            self._loop.remove_reader(self._sock.fileno())
            self._loop.remove_writer(self._sock.fileno())
            self._sock.close()
            if self.on_closed is not None:
                self.on_closed(self)

    def _on_writable(self) -> None:
        try:
            sent = self._sock.send(self._backlog)
        except BlockingIOError:
            return
        except OSError:
            self._lose()
            return
        del self._backlog[:sent]
        if self._backlog:
            return
        self._loop.remove_writer(self._sock.fileno())
        if self._closes:
            self.close()
        elif self.on_drained is not None:
            self.on_drained()

    # ---- requests

    def _on_readable(self) -> None:
        self._now = time.monotonic()
        try:
            data = self._sock.recv(_READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lose()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # As in Go's server, an upgrade is not offered, and the request has been answered as it is.
            self._parser = httptools.HttpRequestParser(self)
        except httptools.HttpParserError:
            self._refuse()

    def _refuse(self) -> None:
        """Answer bytes that are not HTTP/1.1 as Go's server does. A response that has begun is cut."""
        if self._answering is None and not self._requests:
            body = b"400 Bad Request"
            self.send(encoded(Response(400, body, "text/plain; charset=utf-8"), keep_alive=False))
        self._lose()

    def _lose(self) -> None:
        self.close()
        lost, self.on_lost = self.on_lost, None
        if lost is not None:
            lost()

    def _answer_next(self) -> None:
        while self.is_open and self._answering is None and self._requests:
            self._answering = self._requests.popleft()
            self._handle(self, self._answering)

    def _answer_early(self, response: Response) -> None:
        """Answer a request whose body is not needed, and discard the body or close the connection."""
        self._is_answered = True
        length = self._headers.get("content-length", "0" if "transfer-encoding" not in self._headers else "")
        keep = length.isdecimal() and int(length) <= _UNREAD_BYTES
        self.send(encoded(response, keep_alive=keep))
        if not keep:
            self._loop.remove_reader(self._sock.fileno())
            self._sock.shutdown(socket.SHUT_WR)
            self._timers.at(self._now + _LINGER_SECONDS, lambda _: self.close())

    # ---- callbacks of the parser

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._url = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []

    def on_url(self, part: bytes) -> None:
        """Add a part of the URL."""
        self._url += part

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header."""
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Find out what receives the body, and let the client send it if it waits for that."""
        self._is_answered = False
        self._sink = None
        if self._receive is not None:
            path = self._url.decode("latin-1").partition("?")[0]
            self._sink = self._receive(self._parser.get_method().decode(), path, self._headers)
            is_next = self._answering is None and not self._requests
            if self._sink is not None and self._sink.answer is not None and is_next:
                self._answer_early(self._sink.answer)
                return
        if self._headers.get("expect", "").lower() == "100-continue":
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, part: bytes) -> None:
        """Add a part of the body."""
        if self._is_answered:
            return
        if self._sink is not None:
            self._sink.feed(part)
        else:
            self._body.append(part)

    def on_message_complete(self) -> None:
        """Answer the request, or let it wait for the response before it."""
        if self._is_answered:
            return
        path, _, query = self._url.decode("latin-1").partition("?")
        parser = self._parser
        self._requests.append(
            Request(
                method=parser.get_method().decode(),
                path=path,
                query=query,
                headers=self._headers,
                body=b"".join(self._body),
                received_at=self._now,
                lag=self._timers.overdue(self._now),
                version=parser.get_http_version(),
                keep_alive=bool(parser.should_keep_alive()),
                sink=self._sink,
            )
        )
        self._answer_next()
