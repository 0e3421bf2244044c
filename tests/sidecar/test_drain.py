"""What clients with open connections see while the sidecar drains.

A request must not be sent into a connection that is then closed without a response. A response announces this with
`Connection: close` (RFC 9112, 9.6). If its head was sent before the drain, the next response has to.
"""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from llmendpoint_sidecar.main import Sidecar
from support.servers import StartSidecar, StartSimulator
from support.tls import issue
from support.waiting import eventually
from support.wire.data_path import DataPath
from support.wire.wirefuzz import FINE

GET = b"GET /api/version HTTP/1.1\r\nHost: h\r\n\r\n"
CHAT = b'{"model":"simulated","messages":[{"role":"user","content":"x"}]}'
STREAM = b"POST /api/chat HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%b" % (len(CHAT), CHAT)


class Connection:
    """A connection of a client that is kept open."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, request: bytes) -> None:
        self.writer.write(request)

    async def head(self) -> bytes:
        return await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 30)

    async def rest_of_stream(self) -> bytes:
        return await asyncio.wait_for(self.reader.readuntil(b"\r\n0\r\n\r\n"), 30)

    async def answered_and_closed(self) -> bool:
        """Return whether one more response arrives, announces the end of the connection, and is followed by it."""
        head = await self.head()
        rest = await asyncio.wait_for(self.reader.read(), 30)
        return head.startswith(b"HTTP/1.1 200") and b"\r\nConnection: close\r\n" in head and bool(rest)

    def close(self) -> None:
        self.writer.close()


Connect = Callable[..., Awaitable[Connection]]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Return a function that opens a connection, with TLS if a context is given. All are closed at the end."""
    opened: list[asyncio.StreamWriter] = []

    async def connect(port: int, tls: ssl.SSLContext | None = None) -> Connection:
        name = None if tls is None else "localhost"
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname=name)
        opened.append(writer)
        return Connection(reader, writer)

    yield connect
    for writer in opened:
        writer.close()


def open_connections(sidecar: Sidecar) -> int:
    return len(sidecar.proxy_service.proxy.connections)


@pytest.fixture(params=["plain", "TLS"])
def tls(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[ssl.SSLContext | None, dict[str, object]]:
    """The client's context and the sidecar's settings."""
    if request.param == "plain":
        return None, {}
    cert, key = issue(tmp_path, "h")
    return ssl.create_default_context(cafile=str(cert)), {"tls_cert": cert, "tls_key": key}


@pytest.mark.parametrize("tokens", [2, 12])
async def test_the_request_after_a_stream_from_before_the_drain_is_answered(
    start_simulator: StartSimulator,
    start_sidecar: StartSidecar,
    connect: Connect,
    tls: tuple[ssl.SSLContext | None, dict[str, object]],
    tokens: int,
) -> None:
    # The longer stream ends after the delay, when no new connections are accepted any more.
    context, settings = tls
    simulator = await start_simulator(ttft=0.05, inter_token=0.1, tokens=tokens)
    sidecar = await start_sidecar(simulator.port, drain_delay=0.8, **settings)
    client = await connect(sidecar.port, context)
    client.send(STREAM)
    assert b"close" not in await client.head()
    drain = asyncio.create_task(sidecar.drain())
    await client.rest_of_stream()
    client.send(GET)
    assert await client.answered_and_closed()
    client.close()
    await asyncio.wait_for(drain, 30)


async def test_a_pipelined_request_behind_a_stream_from_before_the_drain_is_answered(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, connect: Connect
) -> None:
    simulator = await start_simulator(ttft=0.05, inter_token=0.05, tokens=4)
    sidecar = await start_sidecar(simulator.port)
    client = await connect(sidecar.port)
    client.send(STREAM)
    await client.head()
    drain = asyncio.create_task(sidecar.drain())
    client.send(GET)
    await client.rest_of_stream()
    assert await client.answered_and_closed()
    client.close()
    await drain


async def test_clients_that_ask_all_the_time_are_all_answered(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, connect: Connect
) -> None:
    simulator = await start_simulator(ttft=0.01, inter_token=0.02, tokens=5, parallel=30)
    sidecar = await start_sidecar(simulator.port, drain_delay=0.5)
    pauses = random.Random(7)
    lost = 0

    async def ask() -> int:
        """Ask until a response announces the end. Return the number of responses."""
        nonlocal lost
        client = await connect(sidecar.port)
        answered = 0
        with suppress(ConnectionError):
            while True:
                client.send(STREAM)
                try:
                    head = await client.head()
                except (asyncio.IncompleteReadError, ConnectionError):
                    lost += 1
                    break
                await client.rest_of_stream()
                answered += 1
                if b"\r\nConnection: close\r\n" in head:
                    break
                await asyncio.sleep(pauses.uniform(0, 0.05))
        client.close()
        return answered

    asking = [asyncio.create_task(ask()) for _ in range(30)]
    await eventually(lambda: len(simulator.simulator.ledger.entries) >= 60)
    await sidecar.drain()
    assert min(await asyncio.gather(*asking)) >= 1
    assert lost == 0


async def test_an_idle_connection_is_open_during_the_delay_and_closed_after_it(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, connect: Connect
) -> None:
    sidecar = await start_sidecar((await start_simulator()).port, drain_delay=0.4)
    idle, asking = await connect(sidecar.port), await connect(sidecar.port)
    await eventually(lambda: open_connections(sidecar) == 2)
    drain = asyncio.create_task(sidecar.drain())
    await asyncio.sleep(0)
    asking.send(GET)
    assert await asking.answered_and_closed()
    asking.close()
    assert open_connections(sidecar) >= 1
    assert await asyncio.wait_for(idle.reader.read(), 30) == b""
    await asyncio.wait_for(drain, 30)
    idle.close()


async def test_a_connection_that_stays_idle_does_not_prolong_the_drain_beyond_its_timeout(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    simulator = await start_simulator(ttft=0.05, inter_token=0.1, tokens=3)
    sidecar = await start_sidecar(simulator.port, drain_delay=0.3, drain_timeout=0.2)
    client = await connect(sidecar.port)
    client.send(STREAM)
    await client.head()
    began = asyncio.get_running_loop().time()
    await sidecar.drain()
    assert asyncio.get_running_loop().time() - began < 2
    assert "closed during a request" not in caplog.text
    client.close()


async def test_a_request_that_has_arrived_when_its_connection_would_be_closed_is_answered(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, connect: Connect
) -> None:
    sidecar = await start_sidecar((await start_simulator()).port, drain_delay=30.0)
    client = await connect(sidecar.port)
    client.send(GET)
    await client.head()
    drain = asyncio.create_task(sidecar.drain())
    await asyncio.sleep(0)
    await client.reader.readuntil(b"}")
    (connection,) = sidecar.proxy_service.proxy.connections
    # The kernel has the bytes now, and the event loop has not read them.
    sent = client.writer.get_extra_info("socket")
    assert isinstance(sent.fileno(), int)
    with socket.socket(fileno=socket.dup(sent.fileno())) as raw:
        raw.send(GET)
    connection.close_if_idle(float("inf"))
    assert await client.answered_and_closed()
    client.close()
    drain.cancel()


async def test_a_response_is_not_lost_if_its_client_sends_more_requests(
    start_simulator: StartSimulator, start_sidecar: StartSidecar
) -> None:
    """A connection that is closed while bytes arrive is reset, which takes the unread end of the response along."""
    simulator = await start_simulator(ttft=0.0, inter_token=0.0, tokens=2_000)
    sidecar = await start_sidecar(simulator.port, drain_delay=30.0)
    drain = asyncio.create_task(sidecar.drain())
    await asyncio.sleep(0)
    loop = asyncio.get_running_loop()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        await loop.sock_connect(client, ("127.0.0.1", sidecar.port))
        await loop.sock_sendall(client, STREAM)
        await eventually(lambda: sidecar.runtime.metrics.totals_by("requests", "outcome") == {"ok": 1})
        await loop.sock_sendall(client, GET)
        received = b""
        while piece := await asyncio.wait_for(loop.sock_recv(client, 65536), 30):
            received += piece
    assert b"\r\nConnection: close\r\n" in received
    assert received.endswith(b"\r\n0\r\n\r\n")
    drain.cancel()


def test_a_connection_on_which_a_head_is_being_received_is_not_idle() -> None:
    path = DataPath()
    path.client.data_received(GET[:10])
    path.client.close_if_idle(float("inf"))
    assert not path.wire.closed
    path.client.data_received(GET[10:])
    path.upstreams[-1][0].data_received(FINE)
    assert path.wire.written == FINE
    path.client.close_if_idle(float("inf"))
    assert path.wire.closed
