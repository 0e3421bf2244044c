"""A model server whose behaviour a test scripts, byte by byte: what is wrong on the wire, and when."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

NDJSON = "application/x-ndjson"
SSE = "text/event-stream"


def chunk(data: bytes) -> bytes:
    """Return bytes as one chunk of the chunked coding."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def head(status: str = "200 OK", content_type: str | None = NDJSON, *lines: str, framing: str = "chunked") -> bytes:
    """Return a head. `framing` is chunked, until-close or the length of the body."""
    fields = [f"HTTP/1.1 {status}", *lines]
    fields += [f"Content-Type: {content_type}"] if content_type is not None else []
    if framing == "chunked":
        fields.append("Transfer-Encoding: chunked")
    elif framing != "until-close":
        fields.append(f"Content-Length: {framing}")
    return "\r\n".join([*fields, "", ""]).encode()


def plain(status: str, body: bytes, *lines: str, content_type: str = "application/json") -> bytes:
    """Return a response that is not chunked."""
    return head(status, content_type, *lines, framing=str(len(body))) + body


def ollama(content: str = "", **fields: Any) -> bytes:
    """Return a line of `/api/chat`."""
    message = {"role": "assistant", "content": content} | fields.pop("message", {})
    return json.dumps({"model": "m", "message": message, "done": False, **fields}).encode() + b"\n"


def ollama_done(count: int | None = 2, **fields: Any) -> bytes:
    """Return the last line of `/api/chat`."""
    counts: dict[str, Any] = {} if count is None else {"prompt_eval_count": 7, "eval_count": count}
    return ollama(done=True, done_reason="stop", **counts, **fields)


def event(data: object) -> bytes:
    """Return a server-sent event."""
    return b"data: " + (data if isinstance(data, bytes) else json.dumps(data).encode()) + b"\n\n"


def openai(content: str | None = None, finish: str | None = None, **fields: Any) -> bytes:
    """Return an event of `/v1/chat/completions`."""
    delta = fields.pop("delta", {} if content is None else {"content": content})
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return event({"id": "x", "object": "chat.completion.chunk", "model": "m", "choices": [choice], **fields})


def openai_usage(count: Any = 2, **fields: Any) -> bytes:
    """Return the event with the usage."""
    usage = {"prompt_tokens": 7, "completion_tokens": count} | fields.pop("usage", {})
    return event({"id": "x", "model": "m", "choices": [], "usage": usage, **fields})


DONE = event(b"[DONE]")
END = b"0\r\n\r\n"
#: A complete answer of Ollama.
ANSWER = head() + chunk(ollama("a")) + chunk(ollama_done()) + END


@dataclass
class Exchange:
    """A request, and what a behaviour can do with its connection. `nth` counts the requests of the connection from 1."""

    line: str
    headers: dict[str, str]
    body: Any
    connection: int
    nth: int
    writer: asyncio.StreamWriter

    async def send(self, *parts: bytes, pause: float = 0.0) -> None:
        """Write parts, each with a flush, and a pause after each of them."""
        for part in parts:
            self.writer.write(part)
            await self.writer.drain()
            await asyncio.sleep(pause)

    def close(self) -> None:
        """Close the connection in an orderly way."""
        self.writer.close()

    def reset(self) -> None:
        """Reset the connection."""
        option = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, option)
        self.writer.transport.abort()


Behaviour: TypeAlias = Callable[[Exchange], Awaitable[None]]


@dataclass
class FaultServer:
    """A server that passes each request to `behave`. `received` contains the requests, without their connections."""

    behave: Behaviour
    received: list[Exchange] = field(default_factory=list)
    connections: int = 0
    port: int = 0
    scheme: str = "http"
    #: Seconds after which a connection is closed if no other request follows an answer on it.
    idle_seconds: float | None = None
    writers: dict[asyncio.StreamWriter, asyncio.StreamReader] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """The base URL."""
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def open_connections(self) -> int:
        """Connections that neither side has closed."""
        return len(self.writers)

    @property
    def is_abandoned(self) -> bool:
        """Whether the clients have closed all connections, also those whose requests are being served."""
        return all(reader.at_eof() or reader.exception() for reader in self.writers.values())

    def close_all(self) -> None:
        """Close all connections, as a server that restarts does."""
        for writer in self.writers:
            writer.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number, nth = self.connections, 0
        self.writers[writer] = reader
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, TimeoutError):
            while not writer.is_closing():
                # Like a server's limit for keep-alive, it does not apply to the first request of a connection.
                async with asyncio.timeout(self.idle_seconds if nth else None):
                    raw = await reader.readuntil(b"\r\n\r\n")
                nth += 1
                exchange = await _read(raw, reader, writer, number, nth)
                self.received.append(exchange)
                await self.behave(exchange)
        self.writers.pop(writer, None)
        writer.close()


async def _read(
    raw: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int, nth: int
) -> Exchange:
    line, *lines = raw.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    headers = {name.lower(): value for name, _, value in (entry.partition(": ") for entry in lines)}
    length = int(headers.get("content-length", "0"))
    body = json.loads(await reader.readexactly(length)) if length else {}
    return Exchange(line, headers, body, number, nth, writer)


@contextlib.asynccontextmanager
async def fault_server(
    behave: Behaviour, *, tls: ssl.SSLContext | None = None, idle_seconds: float | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[FaultServer]:
    """Serve on a free port until the end of the block."""
    server = FaultServer(behave, scheme="https" if tls else "http", idle_seconds=idle_seconds)
    listening = await asyncio.start_server(server.serve, host, 0, ssl=tls, backlog=1024)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        # Connections that were just accepted begin to be served in one of the next turns. If one stays open, uvloop warns
        # about it when it closes; as an error, the warning would keep the loop from ending.
        for _ in range(5):
            await asyncio.sleep(0)
            for writer in list(server.writers):
                writer.transport.abort()


def answering(*parts: bytes, pause: float = 0.0, close: bool = False) -> Behaviour:
    """Return a behaviour that sends the same bytes to each request."""

    async def behave(exchange: Exchange) -> None:
        await exchange.send(*parts, pause=pause)
        if close:
            exchange.close()

    return behave


@dataclass
class Relay:
    """A TCP server that passes the bytes of its clients to the port `to_port` of this machine, each after a delay."""

    to_port: int
    delay: float
    port: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await asyncio.sleep(self.delay)
            to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self.to_port)
            await asyncio.gather(_copy(reader, to_writer), _copy(to_reader, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
    writer.close()


@contextlib.asynccontextmanager
async def relay(to_port: int = 0, delay: float = 0.0) -> AsyncIterator[Relay]:
    """Relay connections to a port of this machine, which may also be set later, until the end of the block."""
    made = Relay(to_port, delay)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    server.close()
