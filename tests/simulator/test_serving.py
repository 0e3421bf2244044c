"""The simulator's HTTP server: framing, slow readers, clients that leave, and requests that are not HTTP."""

from __future__ import annotations

import asyncio
import json
import re

import aiohttp
import pytest

from support.servers import RunningSimulator, StartSimulator
from support.waiting import eventually

CHAT = {"model": "simulated", "messages": [{"role": "user", "content": "hello"}]}


def post(path: str = "/api/chat", version: str = "1.1", fields: str = "") -> bytes:
    body = json.dumps(CHAT).encode()
    head = f"POST {path} HTTP/{version}\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n{fields}\r\n"
    return head.encode() + body


async def exchange(simulator: RunningSimulator, data: bytes) -> bytes:
    """Send bytes and return all that comes until the server closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port)
    writer.write(data)
    answer = await reader.read()
    writer.close()
    return answer


async def test_each_chunk_of_a_stream_is_a_chunk_of_http(start_simulator: StartSimulator) -> None:
    simulator = await start_simulator(tokens=3)
    answer = await exchange(simulator, post(fields="Connection: close\r\n"))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert re.search(rb"Date: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", head)
    sizes = []
    while body:
        size, _, rest = body.partition(b"\r\n")
        sizes.append(int(size, 16))
        assert rest[sizes[-1] : sizes[-1] + 2] == b"\r\n"
        body = rest[sizes[-1] + 2 :]
    assert len(sizes) == 5
    assert sizes[-1] == 0


async def test_the_head_of_a_stream_comes_with_its_first_chunk(start_simulator: StartSimulator) -> None:
    """As Ollama's: a client that waits for the head waits for the first token."""
    simulator = await start_simulator(ttft=2.0)
    reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port)
    writer.write(post())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.readexactly(1), 0.1)
    assert b'"done":false' in await reader.readuntil(b"}\n")
    writer.close()


@pytest.mark.parametrize("kept", [True, False])
async def test_http_1_0_keeps_a_connection_if_the_client_asks_for_it(
    start_simulator: StartSimulator, kept: bool
) -> None:
    simulator = await start_simulator()
    field = b"Connection: keep-alive\r\n" if kept else b""
    request = b"GET /api/version HTTP/1.0\r\n" + field + b"\r\n"
    answer = await exchange(simulator, request + b"GET /api/version HTTP/1.0\r\n\r\n")
    assert answer.count(b"HTTP/1.0 200") == (2 if kept else 1)


async def test_head_has_the_headers_of_get_and_no_body(start_simulator: StartSimulator) -> None:
    simulator = await start_simulator()
    answer = await exchange(simulator, b"HEAD / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert b"Content-Length: 17\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")


async def test_bytes_that_are_not_http_get_400(start_simulator: StartSimulator) -> None:
    simulator = await start_simulator()
    assert (await exchange(simulator, b"NONSENSE\r\n\r\n")).startswith(b"HTTP/1.1 400 Bad Request")


async def test_an_upgrade_is_not_offered_and_the_request_answered(start_simulator: StartSimulator) -> None:
    simulator = await start_simulator()
    fields = b"Connection: Upgrade\r\nUpgrade: h2c\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port)
    writer.write(b"GET /api/version HTTP/1.1\r\nHost: localhost\r\n" + fields + b"\r\n")
    assert b"0.17.4" in await reader.readuntil(b"}")
    writer.close()


async def test_a_reader_that_is_slow_stops_the_stream_and_gets_all_of_it(start_simulator: StartSimulator) -> None:
    simulator = await start_simulator(tokens=200_000)
    reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port, limit=1024)
    writer.write(post())
    entries = simulator.simulator.ledger.entries
    await eventually(lambda: bool(entries) and entries[0].sent > 0)
    sent = -1
    while entries[0].sent != sent:
        sent = entries[0].sent
        await asyncio.sleep(0.05)
    assert sent < 200_000
    data = b""
    while not data.endswith(b"0\r\n\r\n"):
        data = data[-16:] + await reader.read(1_000_000)
    assert entries[0].generation_tokens == 200_000
    writer.close()


@pytest.mark.parametrize("path", ["/api/chat", "/api/pull"])
async def test_a_client_that_leaves_ends_its_request(start_simulator: StartSimulator, path: str) -> None:
    simulator = await start_simulator(ttft=30.0, pull=30.0, registry=["simulated"])
    _, writer = await asyncio.open_connection("127.0.0.1", simulator.port)
    writer.write(post(path))
    await eventually(lambda: simulator.simulator.in_flight == 1)
    writer.close()
    await eventually(lambda: simulator.simulator.in_flight == 0)
    assert all(entry.outcome == "cancelled" for entry in simulator.simulator.ledger.entries)
    assert all(slots.running == 0 for slots in simulator.simulator.store.slots.values())


async def test_a_stop_ends_streams(start_simulator: StartSimulator) -> None:
    simulator = await start_simulator(tokens=1000, inter_token=1.0)
    reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port)
    writer.write(post())
    await reader.readuntil(b"}\n")
    await simulator.simulator.stop()
    assert b"0\r\n\r\n" not in await reader.read()
    writer.close()


@pytest.mark.parametrize("entries", ["x", "-1"])
async def test_a_wrong_number_of_entries_is_refused(
    start_simulator: StartSimulator, http: aiohttp.ClientSession, entries: str
) -> None:
    simulator = await start_simulator()
    async with http.get(f"{simulator.url}/simulator/ledger?entries={entries}") as response:
        assert response.status == 400


async def test_chunks_come_at_their_times(start_simulator: StartSimulator, http: aiohttp.ClientSession) -> None:
    simulator = await start_simulator(ttft=0.1, inter_token=0.03, tokens=10)
    clock = asyncio.get_running_loop().time
    begun = clock()
    async with http.post(f"{simulator.url}/api/chat", json=CHAT) as response:
        times = [clock() - begun async for _ in response.content]
    expected = [0.1 + 0.03 * min(index, 9) for index in range(11)]
    assert all(time >= due - 0.002 for time, due in zip(times, expected, strict=True))
    assert times[-1] < 0.37 + 0.3
