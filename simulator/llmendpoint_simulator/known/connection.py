"""A connection of the known-latency server: requests, and writes whose time is known.

It owns its socket. A transport of uvloop writes at the end of a turn of the event loop, and does not say when.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import httptools

from llmendpoint_simulator.known.timers import Timers

_READ = 256 * 1024
_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 503: "Service Unavailable"}


class Request(NamedTuple):
    """A request whose body is complete. Names of headers are in lower case. `lag` is the ledger's `receive_lag`."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes
    received_at: float
    lag: float
    version: str
    keep_alive: bool


def whole_response(status: int, body: bytes, content_type: str = "application/json") -> bytes:
    """Return a response with its head."""
    head = f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: {content_type}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


class Connection:
    """One client's connection. `handle` answers a request, with `respond` or with `send` and `end`."""

    def __init__(
        self, sock: socket.socket, number: int, timers: Timers, handle: Callable[[Connection, Request], None]
    ) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.number = number
        #: Is called if the client closes the connection before the end of a response.
        self.on_lost: Callable[[], None] | None = None
        self.is_open = True
        self._sock = sock
        self._timers = timers
        self._handle = handle
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._backlog = bytearray()
        self._requests: deque[Request] = deque()
        self._answering: Request | None = None
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

    def end(self) -> None:
        """End the response, and answer the next request. Closes the connection if the client asked for it."""
        answered, self._answering, self.on_lost = self._answering, None, None
        if answered is not None and not answered.keep_alive:
            self._closes = True
            if not self._backlog:
                self.close()
        self._answer_next()

    def respond(self, status: int, body: bytes, content_type: str = "application/json") -> None:
        """Send a whole response, and end it."""
        self.send(whole_response(status, body, content_type))
        self.end()

    def close(self) -> None:
        """Close the connection."""
        if self.is_open:
            self.is_open = False
            self._loop.remove_reader(self._sock.fileno())
            self._loop.remove_writer(self._sock.fileno())
            self._sock.close()

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
        except httptools.HttpParserError:
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
        """Let the client send the body if it waits for that."""
        if self._headers.get("expect", "").lower() == "100-continue":
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, part: bytes) -> None:
        """Add a part of the body."""
        self._body.append(part)

    def on_message_complete(self) -> None:
        """Answer the request, or let it wait for the response before it."""
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
            )
        )
        self._answer_next()
