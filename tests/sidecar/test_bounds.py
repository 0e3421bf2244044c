"""Bounds of the connections of clients: silent and half-open ones do not shut out those that send requests."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from llmendpoint_common.contracts.sidecar import RequestRecord, SidecarConfig
from llmendpoint_sidecar.budget import DEFAULT_BUDGET
from llmendpoint_sidecar.proxy.connection import ClientConnection
from support.servers import StartSidecar, StartSimulator
from support.tls import issue
from support.waiting import eventually, wait_until
from support.wire.data_path import Clock, DataPath, Wire

GET = b"GET /api/tags HTTP/1.1\r\nHost: h\r\n\r\n"
POST = b"POST /api/chat HTTP/1.1\r\nHost: h\r\nContent-Length: 13\r\n\r\n"
FINE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class Crowd(DataPath):
    """A proxy with room for four connections, 1,000 bytes of incomplete heads, and 2,000 bytes of responses."""

    def __init__(self, config: SidecarConfig | None = None) -> None:
        self.clock = Clock()
        budget = replace(DEFAULT_BUDGET, connections=4, head_bytes=1000, unsent_bytes=2000)
        super().__init__(config, self.clock, budget)
        # The connection that every data path has is in none of the tests.
        self.client.connection_lost(None)

    def enter(self, data: bytes = b"") -> tuple[ClientConnection, Wire]:
        client, wire = self.connect()
        if data:
            client.data_received(data)
        return client, wire


@pytest.fixture
def crowd() -> Crowd:
    return Crowd()


def open_ones(*pairs: tuple[ClientConnection, Wire]) -> list[bool]:
    return [not wire.closed for _, wire in pairs]


# ---- the number of connections


def test_the_oldest_connection_without_a_head_makes_room(crowd: Crowd) -> None:
    busy, silent, half = crowd.enter(POST), crowd.enter(), crowd.enter(GET[:9])
    new = [crowd.enter() for _ in range(3)]
    assert open_ones(busy, silent, half, *new) == [True, False, False, True, True, True]
    assert len(crowd.proxy.connections) == 4


def test_then_the_oldest_idle_connection_makes_room(crowd: Crowd) -> None:
    busy = crowd.enter(POST)
    idle = [crowd.enter(GET) for _ in range(3)]
    for connection, _ in crowd.upstreams[1:]:
        connection.data_received(FINE)
    new = crowd.enter(POST)
    assert open_ones(busy, *idle, new) == [True, False, True, True, True]


def test_a_second_head_does_not_protect_an_idle_connection(crowd: Crowd) -> None:
    idle = [crowd.enter(GET) for _ in range(4)]
    for (client, _), (connection, _) in zip(idle, crowd.upstreams, strict=True):
        connection.data_received(FINE)
        client.data_received(GET[:5])
    new = crowd.enter(POST)
    assert open_ones(*idle, new) == [False, True, True, True, True]


def test_a_refused_request_that_is_not_complete_does_not_hold_a_place() -> None:
    crowd = Crowd(SidecarConfig(allowed_hosts=("other",)))
    refused = [crowd.enter(POST) for _ in range(4)]
    assert open_ones(*refused) == [True] * 4
    new = crowd.enter(GET)
    assert open_ones(*refused, new) == [False, True, True, True, True]


def test_connections_with_requests_stay_and_a_further_one_is_told_to_try_again(
    crowd: Crowd, caplog: pytest.LogCaptureFixture
) -> None:
    records: list[RequestRecord] = []
    crowd.meter.journal.listeners.append(records.append)
    busy = [crowd.enter(GET) for _ in range(4)]
    _, wire = crowd.enter(GET)
    assert wire.closed
    assert crowd.metrics.totals_by("requests", "outcome") == {"rejected": 1}
    assert [(record.code, record.refusal_reason) for record in records] == [(503, "connections")]
    assert wire.written.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: 1\r\n" in wire.written
    assert open_ones(*busy) == [True] * 4
    assert len(crowd.upstreams) == 4
    assert "the limit of 4 connections is reached" in caplog.text


def test_a_closed_connection_leaves_its_place(crowd: Crowd) -> None:
    busy = [crowd.enter(GET) for _ in range(4)]
    busy[0][0].connection_lost(None)
    assert not crowd.enter(GET)[1].closed
    assert len(crowd.proxy.connections) == 4


def test_the_log_names_a_full_house_once_per_minute(crowd: Crowd, caplog: pytest.LogCaptureFixture) -> None:
    for seconds, count in ((0, 1), (59, 1), (2, 2)):
        crowd.clock.now += seconds
        for _ in range(10):
            crowd.enter()
        assert caplog.text.count("the limit of 4 connections") == count


# ---- the memory of incomplete heads


def test_incomplete_heads_share_a_bound_and_the_oldest_gives_way(crowd: Crowd) -> None:
    head = b"GET / HTTP/1.1\r\nX: "
    first, second = crowd.enter(head), crowd.enter(head)
    third = crowd.enter(head)
    assert open_ones(first, second, third) == [True] * 3
    second[0].data_received(b"x" * 300)
    assert open_ones(first, second, third) == [False, True, True]
    # A head that is complete no longer counts.
    second[0].data_received(b"\r\nHost: h\r\n\r\n")
    third[0].data_received(b"x" * 400)
    assert open_ones(second, third) == [True, True]
    third[0].data_received(b"x" * 800)
    assert open_ones(second, third) == [True, False]


def test_a_head_in_many_pieces_counts_once(crowd: Crowd) -> None:
    one = crowd.enter(b"GET / HTTP/1.1\r\nX: ")
    for _ in range(500):
        one[0].data_received(b"x")
    assert open_ones(one) == [True]
    one[0].data_received(b"\r\nHost: h\r\n\r\n")
    assert len(crowd.upstreams) == 1


@pytest.mark.parametrize("end", ["leaves", "is late", "is not HTTP"])
def test_a_head_that_ends_in_another_way_no_longer_counts(crowd: Crowd, end: str) -> None:
    for _ in range(20):
        client, wire = crowd.enter(b"GET / HTTP/1.1\r\nX: " + b"x" * 600)
        assert not wire.closed
        if end == "leaves":
            client.connection_lost(None)
        elif end == "is late":
            crowd.clock.now += 31
            client.check_timeouts(crowd.clock.now, crowd.proxy.timeouts)
        else:
            client.data_received(b"\0\r\n\r\n")
    assert not crowd.enter(b"GET / HTTP/1.1\r\nX: " + b"x" * 600)[1].closed


# ---- the memory of responses


def test_unread_responses_share_a_bound_and_the_slowest_reader_gives_way(crowd: Crowd) -> None:
    one, two, three = (crowd.enter(GET) for _ in range(3))
    for (client, wire), size in ((one, 1000), (two, 900), (one, 0), (three, 900)):
        wire.unsent_bytes = size
        if size:
            client.pause_writing()
        else:
            client.resume_writing()
    assert open_ones(one, two, three) == [True] * 3
    one[1].unsent_bytes = 300
    one[0].pause_writing()
    assert open_ones(one, two, three) == [True, False, True]


def test_a_further_response_waits_until_the_client_has_read_the_one_before(crowd: Crowd) -> None:
    client, _ = crowd.enter(GET * 2)
    client.pause_writing()
    crowd.upstreams[0][0].data_received(FINE)
    assert [wire.reading for _, wire in crowd.upstreams] == [True, False]
    client.resume_writing()
    assert crowd.upstreams[1][1].reading


# ---- TLS


async def test_a_handshake_that_is_not_completed_is_ended(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, tmp_path: Path
) -> None:
    cert, key = issue(tmp_path, "h")
    sidecar = await start_sidecar((await start_simulator()).port, tls_cert=cert, tls_key=key)
    proxy = sidecar.proxy_service.proxy
    reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.port)
    await eventually(lambda: len(proxy.connections) == 1)
    proxy.timeouts = proxy.timeouts._replace(handshake=0.01)
    assert await asyncio.wait_for(reader.read(), 30) == b""
    await eventually(lambda: len(proxy.connections) == 0)
    writer.close()


@pytest.mark.parametrize("ending", ["leave", "reset", "speak HTTP"])
async def test_a_handshake_that_fails_leaves_its_place(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, tmp_path: Path, ending: str
) -> None:
    cert, key = issue(tmp_path, "h")
    sidecar = await start_sidecar((await start_simulator()).port, tls_cert=cert, tls_key=key)
    connections = sidecar.proxy_service.proxy.connections
    _, writer = await asyncio.open_connection("127.0.0.1", sidecar.port)
    await eventually(lambda: len(connections) == 1)
    if ending == "speak HTTP":
        writer.write(GET)
    elif ending == "reset":
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.transport.abort()
    else:
        writer.close()
    await eventually(lambda: len(connections) == 0)
    writer.close()


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_stop_and_a_drain_end_handshakes(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, tmp_path: Path, at_once: bool
) -> None:
    cert, key = issue(tmp_path, "h")
    sidecar = await start_sidecar((await start_simulator()).port, tls_cert=cert, tls_key=key)
    reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.port)
    await eventually(lambda: len(sidecar.proxy_service.proxy.connections) == 1)
    await (sidecar.stop() if at_once else sidecar.drain())
    assert await asyncio.wait_for(reader.read(), 30) == b""
    writer.close()


async def test_a_stream_over_tls_ends_when_its_client_does_not_close_properly(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, tmp_path: Path
) -> None:
    cert, key = issue(tmp_path, "h")
    sidecar = await start_sidecar((await start_simulator(ttft=60.0)).port, tls_cert=cert, tls_key=key)
    context = ssl.create_default_context(cafile=str(cert))
    _, writer = await asyncio.open_connection("127.0.0.1", sidecar.port, ssl=context, server_hostname="localhost")
    body = b'{"model":"simulated","messages":[{"role":"user","content":"x"}]}'
    writer.write(POST.replace(b"13", b"%d" % len(body)) + body)
    await eventually(lambda: bool(sidecar.runtime.meter.in_flight.counts()))
    writer.transport.abort()
    await eventually(lambda: len(sidecar.proxy_service.proxy.connections) == 0)


# ---- the whole process, with few descriptors


@pytest.fixture
def many_files() -> Iterator[None]:
    """Allow the test process itself to open some hundred sockets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
async def new_connections() -> AsyncIterator[aiohttp.ClientSession]:
    """Client that opens a connection for each request."""
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=10)) as session:
        yield session


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


class Small:
    """A sidecar process that may open 256 files, with TLS and a key."""

    def __init__(self, folder: Path, upstream_port: int) -> None:
        self.cert, key = issue(folder, "h")
        (folder / "keys").mkdir()
        (folder / "keys" / "team").write_text("k")
        self.port, self.admin_port = free_port(), free_port()
        arguments = {
            "listen": f"127.0.0.1:{self.port}", "admin-listen": f"127.0.0.1:{self.admin_port}",
            "upstream": f"http://127.0.0.1:{upstream_port}", "tls-cert": self.cert, "tls-key": key,
            "keys": folder / "keys",
        }  # fmt: skip
        command = [
            sys.executable,
            "-m",
            "llmendpoint_sidecar",
            *(f"--{name}={value}" for name, value in arguments.items()),
        ]
        limited = f"ulimit -n 256; exec {' '.join(command)}"
        self.process = subprocess.Popen(["/bin/sh", "-c", limited], stderr=subprocess.PIPE, env=os.environ)

    def accepts(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.admin_port)):
            return True
        return False

    def rss_bytes(self) -> int:
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) * 1024
        raise AssertionError("the process has no memory")

    def stop(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=20)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="the limit and the memory are those of Linux")
@pytest.mark.usefixtures("many_files")
@pytest.mark.parametrize("attack", ["half-open handshakes", "incomplete heads"])
async def test_attackers_without_a_key_leave_probes_streams_and_requests_working(
    start_simulator: StartSimulator, new_connections: aiohttp.ClientSession, tmp_path: Path, attack: str
) -> None:
    http = new_connections
    simulator = await start_simulator(tokens=1_000_000, inter_token=0.02)
    small = Small(tmp_path, simulator.port)
    context = ssl.create_default_context(cafile=str(small.cert))
    url, livez = f"https://localhost:{small.port}", f"http://127.0.0.1:{small.admin_port}/livez"
    chat = {"model": "simulated", "messages": [{"role": "user", "content": "x"}]}
    headers = {"x-api-key": "k"}
    attackers: list[asyncio.StreamWriter] = []

    async def is_alive() -> bool:
        with contextlib.suppress(aiohttp.ClientError):
            async with http.get(livez) as response:
                return response.status == 200
        return False

    async def attack_once() -> None:
        tls = {} if attack == "half-open handshakes" else {"ssl": context, "server_hostname": "localhost"}
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", small.port, **tls)  # type: ignore[arg-type]
            attackers.append(writer)
            writer.write(b"\x16\x03\x01" if not tls else b"GET / HTTP/1.1\r\nX: " + b"x" * 63 * 1024)

    try:
        await asyncio.to_thread(wait_until, small.accepts)
        before = small.rss_bytes()
        async with http.post(f"{url}/api/chat", json=chat, headers=headers, ssl=context) as stream:
            await stream.content.readline()
            for _ in range(10):
                await asyncio.gather(*(attack_once() for _ in range(50)))
                assert await is_alive()
                one = {**chat, "stream": False, "options": {"num_predict": 1}}
                async with http.post(f"{url}/api/chat", json=one, headers=headers, ssl=context) as response:
                    assert response.status == 200
            assert await stream.content.readline()
            assert small.rss_bytes() - before < 64 * 1024 * 1024
    finally:
        for writer in attackers:
            writer.transport.abort()
        small.stop()
