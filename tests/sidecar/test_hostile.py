"""Hostile clients: smuggling, malformed heads, slow senders, slow readers, invalid names."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import time
from collections.abc import AsyncIterator

import aiohttp
import pytest

from llmendpoint_common.contracts.sidecar import SidecarConfig
from llmendpoint_sidecar.meter.model_labels import MAX_MODELS
from support.private import labels_given, unsent_bytes
from support.servers import StartSidecar, StartSimulator
from support.waiting import eventually
from support.wire.corpus import corpus

HOST = b"Host: h\r\n"

#: What must be refused, and is too large for a file.
LARGE = {
    "huge head": b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 70_000 + b"\r\n\r\n",
    "many header lines": b"GET / HTTP/1.1\r\n" + HOST + b"a:\r\n" * 300 + b"\r\n",
    "huge target": b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
    "many headers": b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n" * 20_000 + b"\r\n",
}
#: The upstream must see nothing of any of these, in particular not `/smuggled`.
REFUSED = {name: data for name, data in corpus("requests").items() if name.startswith("refused-")} | LARGE


class Recorder:
    """An upstream that answers every request and keeps all received bytes."""

    def __init__(self) -> None:
        self.got = b""
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        watching = False
        while data := await reader.read(65536):
            # The sidecar polls the models on separate connections.
            watching = watching or data.startswith(b"GET /api/")
            self.got += b"" if watching else data
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()


@pytest.fixture
async def recorder() -> AsyncIterator[Recorder]:
    upstream = Recorder()
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    upstream.port = server.sockets[0].getsockname()[1]
    yield upstream
    server.close()


async def talk(port: int, data: bytes, seconds: float = 5.0) -> bytes:
    """Send bytes, and return all received bytes until the proxy closes or a timeout expires."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = b""
    try:
        writer.write(data)
        async with asyncio.timeout(seconds):
            while piece := await reader.read(65536):
                answer += piece
    except (TimeoutError, ConnectionError):
        pass
    writer.close()
    return answer


@pytest.mark.parametrize("name", REFUSED)
async def test_invalid_or_ambiguous_bytes_are_refused_and_not_forwarded(
    start_sidecar: StartSidecar, recorder: Recorder, name: str
) -> None:
    sidecar = await start_sidecar(recorder.port)
    answer = await talk(sidecar.port, REFUSED[name], 1.0)
    assert answer.split(b" ")[1][:1] in (b"4", b"5"), answer[:80]
    assert b"smuggled" not in recorder.got
    assert answer.count(b"HTTP/1.1 ") == 1
    # The process still serves.
    fine = await talk(sidecar.port, b"GET /fine HTTP/1.1\r\nConnection: close\r\n" + HOST + b"\r\n")
    assert fine.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("step", ["request_body", "request_end", "start"])
async def test_a_fault_of_our_own_ends_one_connection_and_not_the_process(
    start_sidecar: StartSidecar,
    recorder: Recorder,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    step: str,
) -> None:
    sidecar = await start_sidecar(recorder.port)
    request = b"POST /fine HTTP/1.1\r\nConnection: close\r\n" + HOST + b"Content-Length: 1\r\n\r\n1"
    with monkeypatch.context() as patch:
        patch.delattr(f"llmendpoint_sidecar.proxy.exchange.Exchange.{step}")
        assert await talk(sidecar.port, request) == b""
    assert "AttributeError" in caplog.text
    assert (await talk(sidecar.port, request)).startswith(b"HTTP/1.1 200")


async def test_extensions_trailers_and_offers_are_no_way_in(start_sidecar: StartSidecar, recorder: Recorder) -> None:
    sidecar = await start_sidecar(recorder.port)
    request = (
        b"POST /one HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\nUpgrade: h2c\r\nConnection: Upgrade, X-Secret\r\nX-Secret: 1\r\n"
        b"TE: trailers\r\nTrailer: Authorization\r\n\r\n5;a=b\r\nhello\r\n0\r\nAuthorization: Bearer k\r\n\r\n"
    )  # fmt: skip
    answer = await talk(sidecar.port, request, 1.0)
    assert answer.startswith(b"HTTP/1.1 200")
    assert recorder.got.endswith(b"5\r\nhello\r\n0\r\n\r\n")
    for hidden in (b"X-Secret", b"h2c", b";a=b", b"TE:", b"Trailer", b"Authorization"):
        assert hidden not in recorder.got


@pytest.mark.parametrize("host", [b"", b"Host: allowed\r\n"])
async def test_a_target_names_no_other_host_than_the_allowed_ones(
    start_sidecar: StartSidecar, recorder: Recorder, host: bytes
) -> None:
    sidecar = await start_sidecar(recorder.port, SidecarConfig(allowed_hosts=("allowed",)))
    for version in (b"HTTP/1.1", b"HTTP/1.0"):
        request = b"GET http://other/one %b\r\nConnection: close\r\n%b\r\n" % (version, host)
        status = int((await talk(sidecar.port, request)).split(b" ")[1])
        assert status == (403 if not host and version == b"HTTP/1.0" else 400)
    assert not recorder.got
    request = b"GET http://allowed/one HTTP/1.1\r\nConnection: close\r\nHost: allowed\r\n\r\n"
    assert (await talk(sidecar.port, request)).startswith(b"HTTP/1.1 200")
    assert recorder.got.startswith(b"GET /one HTTP/1.1\r\n")


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 5\r\n\r\nhello", b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"]
)
@pytest.mark.parametrize("cut", range(0, 120, 23))
async def test_an_offered_upgrade_hides_no_request_in_its_body(
    start_sidecar: StartSidecar, recorder: Recorder, framing: bytes, cut: int
) -> None:
    """Java's HTTP client offers h2c with every POST, and httptools does not read a body after an offer."""
    sidecar = await start_sidecar(recorder.port)
    smuggled = framing.replace(b"hello", b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n")
    smuggled = smuggled.replace(b"5\r\n", b"%x\r\n" % 35 if b"chunked" in framing else b"35\r\n", 1)
    request = (
        b"POST /one HTTP/1.1\r\n"
        + HOST
        + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
        + smuggled
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.port)
    for part in (request[:cut], request[cut:]):
        writer.write(part)
        await writer.drain()
        await asyncio.sleep(0.01)
    assert (await reader.readuntil(b"{}")).startswith(b"HTTP/1.1 200")
    writer.write(b"GET /two HTTP/1.1\r\nConnection: close\r\n" + HOST + b"\r\n")
    answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 200")
    assert recorder.got.count(b" HTTP/1.1\r\nHost: 127.0.0.1") == 2  # what goes upstream: two requests, one with a body
    assert b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n" in recorder.got
    writer.close()


@pytest.mark.alone
async def test_hundreds_of_slow_senders_are_ended_and_nobody_waits_for_them(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession
) -> None:
    simulator = await start_simulator()
    sidecar = await start_sidecar(simulator.port)
    sidecar.proxy_service.proxy.timeouts = sidecar.proxy_service.proxy.timeouts._replace(
        head=1.0, client=1.0, keep_alive=1.0
    )
    half_head, half_body = (
        b"POST /api/chat HTTP/1.1\r\nHo",
        b"POST /api/chat HTTP/1.1\r\n" + HOST + b"Content-Length: 9\r\n\r\n{",
    )
    slow = [
        asyncio.create_task(talk(sidecar.port, data, 20)) for data in (half_head, half_body, b"") for _ in range(100)
    ]
    await eventually(lambda: len(sidecar.proxy_service.proxy.connections) >= 300)
    began = time.monotonic()
    body = {"model": "simulated", "messages": [{"role": "user", "content": "x"}], "stream": False}
    async with http.post(f"http://127.0.0.1:{sidecar.port}/api/chat", json=body) as response:
        assert response.status == 200
    assert time.monotonic() - began < 1
    answers = await asyncio.gather(*slow)
    assert [answer[:12] for answer in answers[:200]] == [b"HTTP/1.1 408"] * 200
    assert answers[200:] == [b""] * 100


class Torrent:
    """An upstream whose responses never end."""

    def __init__(self) -> None:
        self.sent: list[int] = []
        self.running = 0
        self.ended = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"GET"):
                writer.write(b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            else:
                await self._flood(writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _flood(self, writer: asyncio.StreamWriter) -> None:
        line = json.dumps({"model": "m", "response": "x" * 16_000}).encode() + b"\n"
        self.sent.append(0)
        index, self.running = len(self.sent) - 1, self.running + 1
        # Small kernel buffers, so that those of a hundred clients fill quickly.
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32 * 1024)
        try:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n")
            while not self.ended:
                writer.write(b"%x\r\n%b\r\n" % (len(line), line))
                self.sent[index] += len(line)
                await writer.drain()
                await asyncio.sleep(0)
        finally:
            self.running -= 1


async def test_slow_readers_hold_neither_memory_nor_a_place(start_sidecar: StartSidecar) -> None:
    upstream = Torrent()
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    sidecar = await start_sidecar(server.sockets[0].getsockname()[1])
    sidecar.proxy_service.proxy.timeouts = sidecar.proxy_service.proxy.timeouts._replace(client=3.0)
    request = b"POST /api/generate HTTP/1.1\r\n" + HOST + b"Content-Length: 2\r\n\r\n{}"
    readers = [socket.socket() for _ in range(100)]
    try:
        for sock in readers:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.connect(("127.0.0.1", sidecar.port))
            sock.sendall(request)
        await eventually(lambda: len(upstream.sent) == 100)
        assert max(unsent_bytes(sidecar.proxy_service.proxy.connections)) < 1024 * 1024
        # They read nothing for the time limit of clients. Each request is ended, and its upstream connection is closed.
        await eventually(lambda: upstream.running == 0, 40)
        ended = {"client_cancelled": 100}
        await eventually(lambda: dict(sidecar.runtime.metrics.totals_by("requests", "outcome")) == ended)
        assert max(upstream.sent) < 16 * 1024 * 1024
    finally:
        upstream.ended = True
        for sock in readers:
            sock.close()
        server.close()


async def test_a_thousand_junk_model_names_make_no_series(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession
) -> None:
    simulator = await start_simulator()
    sidecar = await start_sidecar(simulator.port)
    for index in range(1000):
        async with http.post(
            f"http://127.0.0.1:{sidecar.port}/api/chat", json={"model": f"junk-{index}:{'x' * 50}"}
        ) as response:
            await response.read()
    await eventually(lambda: sidecar.runtime.metrics.total("requests") == 1000)
    assert dict(sidecar.runtime.metrics.totals_by("requests", "model_name")) == {"other": 1000}
    assert labels_given(sidecar.runtime.meter.model_labels) <= MAX_MODELS


async def test_requests_in_random_pieces_under_faults_reconcile_to_the_token(
    start_simulator: StartSimulator, start_sidecar: StartSidecar
) -> None:
    """Send a thousand requests. `python bench/proxy/reconcile.py` sends a hundred thousand, on more routes."""
    simulator = await start_simulator(tokens=3)
    sidecar = await start_sidecar(simulator.port)
    body = json.dumps({"model": "simulated", "messages": [{"role": "user", "content": "a b"}]}).encode()
    request = b"POST /api/chat HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % len(body) + body
    random_ = random.Random(3)
    faults = ["none", "none", "none", "status_500", "stream_error", "truncate", "no_done"]
    for _ in range(40):
        simulator.behave(fault=random_.choice(faults), fault_after=random_.randint(0, 3), tokens=random_.randint(1, 6))
        await asyncio.gather(*(converse(sidecar.port, request, random_) for _ in range(25)))
    await eventually(lambda: sidecar.runtime.metrics.total("requests") == 1000)
    entries = simulator.simulator.ledger.entries
    whole = [entry for entry in entries if entry.outcome == "completed"]
    cut = sum(entry.sent for entry in entries if entry.outcome != "completed")
    assert len(entries) == 1000
    assert sidecar.runtime.metrics.total("prompt_tokens") == sum(entry.prompt_tokens for entry in whole)
    # In a response that was cut off, each sent chunk counts as one token.
    assert sidecar.runtime.metrics.total("generation_tokens") == sum(entry.generation_tokens for entry in whole) + cut
    assert not sidecar.runtime.meter.in_flight.counts()


async def converse(port: int, request: bytes, random_: random.Random) -> None:
    """Send a request in random pieces, and read until its response has ended or was cut off."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        rest = request
        while rest:
            size = random_.randint(1, len(rest))
            writer.write(rest[:size])
            rest = rest[size:]
            await asyncio.sleep(0)
        head = await reader.readuntil(b"\r\n\r\n")
        if b"chunked" in head.lower():
            await reader.readuntil(b"0\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    writer.close()
