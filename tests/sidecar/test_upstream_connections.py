"""Opening, using again and closing connections to the upstream."""

from __future__ import annotations

import asyncio
import io
import socket
from contextlib import AsyncExitStack

import aiohttp
import pytest

from llmendpoint_common.process.units import Address
from llmendpoint_sidecar.proxy.dialer import Dialer, Opening
from llmendpoint_sidecar.proxy.pool import UpstreamPool
from llmendpoint_sidecar.proxy.upstream import UpstreamConnection
from support.servers import StartSidecar, StartSimulator
from support.waiting import eventually

#: Larger than the buffers of a loopback connection.
LARGE = b"x" * (16 * 1024 * 1024)


class Wire:
    """A transport that is open until it is aborted."""

    def __init__(self) -> None:
        self.closed = False

    def write(self, data: bytes) -> None:
        """Drop the data."""

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        self.closed = True


def test_bytes_are_sent_before_the_event_loop_knows_the_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        opening = Opening(Dialer(Address("127.0.0.1", server.getsockname()[1]), 5.0))
        assert opening.write(b"head") == 0
        accepted, _ = server.accept()
        with accepted:
            assert accepted.recv(16) == b"head"
        opening.close()


def test_bytes_wait_if_the_upstream_does_not_listen(unused_tcp_port: int) -> None:
    opening = Opening(Dialer(Address("127.0.0.1", unused_tcp_port), 5.0))
    assert opening.write(b"head") == 4
    assert opening.write(b"body") == 8
    opening.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_large_upload_arrives_completely_on_a_new_connection(
    stack: AsyncExitStack, start_sidecar: StartSidecar, http: aiohttp.ClientSession, host: str
) -> None:
    received = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal received
        if b"/api/blobs/" in await reader.readline():
            await reader.readuntil(b"\r\n\r\n")
            while received < len(LARGE):
                received += len(await reader.read(1 << 20))
        writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await stack.enter_async_context(await asyncio.start_server(answer, "127.0.0.1", 0))
    port = server.sockets[0].getsockname()[1]
    sidecar = await start_sidecar(port, upstream=Address(host, port))
    async with http.post(f"http://127.0.0.1:{sidecar.port}/api/blobs/sha256:00", data=io.BytesIO(LARGE)) as response:
        assert response.status == 201
    assert received == len(LARGE)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_an_upstream_that_does_not_listen_is_named(
    start_sidecar: StartSidecar, http: aiohttp.ClientSession, unused_tcp_port: int, host: str
) -> None:
    sidecar = await start_sidecar(unused_tcp_port, upstream=Address(host, unused_tcp_port))
    async with http.get(f"http://127.0.0.1:{sidecar.port}/api/tags") as response:
        assert response.status == 502
        assert f"cannot connect to {host}:{unused_tcp_port}" in (await response.json())["error"]


async def test_a_client_that_leaves_while_the_connection_is_opened_leaves_none_behind(
    start_simulator: StartSimulator, start_sidecar: StartSidecar
) -> None:
    simulator = await start_simulator()
    sidecar = await start_sidecar(simulator.port, upstream=Address("localhost", simulator.port))
    _, writer = await asyncio.open_connection("127.0.0.1", sidecar.port)
    writer.write(b"GET /api/tags HTTP/1.1\r\nHost: x\r\n\r\n")
    writer.transport.abort()
    await eventually(lambda: sidecar.runtime.metrics.total("requests") == 1)
    await eventually(lambda: not sidecar.proxy_service.proxy.connections)


def test_connections_that_are_idle_for_a_minute_are_closed() -> None:
    pool = UpstreamPool(Address("127.0.0.1", 1), 5.0, max_connections=8, now=100.0)
    wires = [Wire(), Wire()]
    old, new = (UpstreamConnection(lambda _: None) for _ in wires)
    old.connection_made(wires[0])  # type: ignore[arg-type]
    new.connection_made(wires[1])  # type: ignore[arg-type]
    pool.release(old)
    pool.trim(150.0)
    pool.release(new)
    pool.trim(170.0)
    assert [wire.closed for wire in wires] == [True, False]
    assert pool.acquire() is new
