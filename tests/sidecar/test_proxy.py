"""The data path over real sockets, in front of the simulator or of a raw server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import aiohttp
import pytest

from llmendpoint_sidecar.main import Sidecar
from llmendpoint_sidecar.meter.model_labels import MAX_MODELS
from support.servers import StartSidecar, StartSimulator
from support.waiting import eventually

CHAT = {"model": "simulated", "messages": [{"role": "user", "content": "one two three"}]}


async def post(http: aiohttp.ClientSession, port: int, path: str, body: object) -> tuple[int, bytes]:
    async with http.post(f"http://127.0.0.1:{port}{path}", json=body) as response:
        return response.status, await response.read()


def counted(sidecar: Sidecar, name: str, label: str) -> dict[str, int]:
    return dict(sidecar.runtime.metrics.totals_by(name, label))


GENERATING = {
    "/api/chat": "chat", "/api/generate": "generate", "/v1/chat/completions": "openai_chat",
    "/v1/completions": "openai_completions", "/v1/responses": "openai_responses", "/v1/messages": "anthropic_messages",
}  # fmt: skip


@pytest.mark.parametrize("path", GENERATING)
@pytest.mark.parametrize("stream", [True, False])
async def test_tokens_are_metered_exactly(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession, path: str, stream: bool
) -> None:
    simulator = await start_simulator(tokens=7)
    sidecar = await start_sidecar(simulator.port)
    body = {
        **CHAT,
        "prompt": "one two three",
        "max_tokens": 50,
        "stream": stream,
        "stream_options": {"include_usage": True},
    }
    if path == "/v1/responses":
        body = {"model": "simulated", "input": "one two three", "stream": stream}
    status, _ = await post(http, sidecar.port, path, body)
    assert status == 200
    await eventually(lambda: counted(sidecar, "generation_tokens", "model_name") == {"simulated:latest": 7})
    assert counted(sidecar, "prompt_tokens", "model_name") == {"simulated:latest": 3}
    assert counted(sidecar, "requests", "outcome") == {"ok": 1}
    assert counted(sidecar, "requests", "operation") == {GENERATING[path]: 1}
    ttft = sidecar.runtime.metrics.series("simulated:latest", GENERATING[path])["time_to_first_token_seconds"]
    assert sum(ttft.counts) == int(stream)


@pytest.mark.parametrize("path", ["/api/embed", "/v1/embeddings"])
async def test_embeddings_count_their_prompt(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession, path: str
) -> None:
    simulator = await start_simulator()
    sidecar = await start_sidecar(simulator.port)
    status, _ = await post(http, sidecar.port, path, {"model": "simulated", "input": ["one two", "three"]})
    assert status == 200
    await eventually(lambda: counted(sidecar, "prompt_tokens", "model_name") == {"simulated:latest": 3})


async def test_what_ollama_does_not_tell_is_visibly_unmetered(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession
) -> None:
    simulator = await start_simulator()
    sidecar = await start_sidecar(simulator.port)
    await post(http, sidecar.port, "/api/embeddings", {"model": "simulated", "prompt": "one"})
    await eventually(lambda: counted(sidecar, "unmetered_requests", "operation") == {"embeddings": 1})
    assert counted(sidecar, "requests", "model_name") == {"simulated:latest": 1}


@pytest.mark.parametrize("path", list(GENERATING))
async def test_a_stream_without_its_terminal_event_is_truncated(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession, path: str
) -> None:
    simulator = await start_simulator(tokens=9, fault="no_done")
    sidecar = await start_sidecar(simulator.port)
    body = {**CHAT, "prompt": "x", "input": "x", "max_tokens": 50, "stream": True}
    status, _ = await post(http, sidecar.port, path, body)
    assert status == 200
    await eventually(lambda: counted(sidecar, "requests", "outcome") == {"truncated": 1})
    assert counted(sidecar, "generation_tokens", "operation") == {GENERATING[path]: 3}  # the pieces seen


async def test_a_stream_without_usage_is_visibly_unmetered(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession
) -> None:
    simulator = await start_simulator()
    sidecar = await start_sidecar(simulator.port)
    await post(http, sidecar.port, "/v1/chat/completions", {**CHAT, "stream": True})
    await eventually(lambda: counted(sidecar, "unmetered_requests", "reason") == {"no_usage": 1})


RawServer = Callable[[Callable[[bytes], list[bytes]]], Awaitable[int]]


@pytest.fixture
async def raw_server() -> object:
    """A server that answers each request head with the given pieces, and keeps the received bytes."""
    servers: list[asyncio.Server] = []

    async def start(answer: Callable[[bytes], list[bytes]]) -> int:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while True:
                    head = await reader.readuntil(b"\r\n\r\n")
                    for piece in answer(head):
                        writer.write(piece)
                        await writer.drain()
                        await asyncio.sleep(0.002)
            except (asyncio.IncompleteReadError, ConnectionError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    yield start
    for server in servers:
        server.close()


async def exchange(port: int, request: bytes, *, until_eof: bool = True) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    data = await asyncio.wait_for(reader.read() if until_eof else reader.readuntil(b"0\r\n\r\n"), 10)
    writer.close()
    return data


GET = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
async def test_a_chunked_body_passes_byte_for_byte_however_it_is_split(
    raw_server: RawServer, start_sidecar: StartSidecar, size: int
) -> None:
    body = b"5;ext=1\r\nhello\r\n1\r\n \r\n6\r\nworld!\r\n0\r\nX-Trailer: t\r\n\r\n"
    whole = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Thing: a  b\r\n\r\n" + body
    port = await raw_server(
        lambda head: [whole[at : at + size] for at in range(0, len(whole), size)] if b"GET / " in head else []
    )
    sidecar = await start_sidecar(port)
    answer = await exchange(sidecar.port, GET)
    head, _, rest = answer.partition(b"\r\n\r\n")
    assert rest == body
    assert b"X-Thing: a  b" in head


async def test_the_upstream_sees_its_own_host_and_a_request_id(
    raw_server: RawServer, start_sidecar: StartSidecar
) -> None:
    heads: list[bytes] = []

    def answer(head: bytes) -> list[bytes]:
        heads.append(head)
        return [b"HTTP/1.1 204 No Content\r\n\r\n"]

    port = await raw_server(answer)
    sidecar = await start_sidecar(port)
    await exchange(
        sidecar.port, b"GET /thing?q=1 HTTP/1.1\r\nHost: evil.example\r\nX-Request-ID: abc\r\nConnection: close\r\n\r\n"
    )
    await exchange(sidecar.port, b"GET /thing HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
    mine = [head for head in heads if b"/thing" in head]
    assert f"Host: 127.0.0.1:{port}\r\n".encode() in mine[0]
    assert b"evil.example" not in b"".join(mine)
    assert b"X-Request-ID: abc\r\n" in mine[0]
    assert b"X-Request-ID: " in mine[1]


async def test_an_http_1_0_client_gets_a_body_without_chunks(
    raw_server: RawServer, start_sidecar: StartSidecar
) -> None:
    port = await raw_server(
        lambda _: [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"3\r\nabc\r\n0\r\n\r\n"]
    )
    sidecar = await start_sidecar(port)
    answer = await exchange(sidecar.port, b"GET / HTTP/1.0\r\n\r\n")
    assert answer.endswith(b"\r\n\r\nabc")
    assert b"ransfer-" not in answer


async def test_upstream_connections_are_used_again(
    start_simulator: StartSimulator, start_sidecar: StartSidecar
) -> None:
    simulator = await start_simulator(tokens=2)
    sidecar = await start_sidecar(simulator.port)
    body = json.dumps({**CHAT, "stream": True}).encode()
    chat = b"POST /api/chat HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    requests = [chat, b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /api/tags HTTP/1.1\r\nHost: x\r\n\r\n"] * 5
    await exchange(sidecar.port, b"".join(requests) + GET)
    assert sidecar.proxy_service.proxy.pool.opened == 1


async def test_head_has_no_body_and_the_connection_lives(
    start_simulator: StartSimulator, start_sidecar: StartSidecar
) -> None:
    simulator = await start_simulator()
    sidecar = await start_sidecar(simulator.port)
    request = b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = await exchange(sidecar.port, request)
    assert answer.count(b"HTTP/1.1 200") == 2
    assert answer.endswith(b"Ollama is running")


async def test_pipelined_requests_are_answered_in_order(
    start_simulator: StartSimulator, start_sidecar: StartSidecar
) -> None:
    simulator = await start_simulator()
    sidecar = await start_sidecar(simulator.port)
    requests = b"".join(f"GET /api/{path} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for path in ("version", "tags", "ps"))
    answer = await exchange(sidecar.port, requests + GET)
    order = [answer.index(sign) for sign in (b'"version"', b'"digest"', b'{"models":[]}', b"Ollama is running")]
    assert order == sorted(order)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"NONSENSE\r\n\r\n",
        b"POST /api/chat HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /api/chat HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"GET / HTTP/1.1\r\nHost: x\r\n folded: 1\r\n\r\n",
    ],
)
async def test_malformed_requests_get_400_and_never_reach_the_upstream(
    raw_server: RawServer, start_sidecar: StartSidecar, request_bytes: bytes
) -> None:
    heads: list[bytes] = []

    def answer(head: bytes) -> list[bytes]:
        heads.append(head)
        return [b"HTTP/1.1 204 No Content\r\n\r\n"]

    sidecar = await start_sidecar(await raw_server(answer))
    response = await exchange(sidecar.port, request_bytes)
    assert response.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert json.loads(response.partition(b"\r\n\r\n")[2])["error"].startswith("the request is not valid HTTP")
    assert not [head for head in heads if b"/api/chat" in head or b"folded" in head]


async def test_a_huge_head_is_refused(start_simulator: StartSimulator, start_sidecar: StartSidecar) -> None:
    simulator = await start_simulator()
    sidecar = await start_sidecar(simulator.port)
    response = await exchange(sidecar.port, b"GET / HTTP/1.1\r\nX-Long: " + b"a" * 100_000)
    assert response.startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize(("path", "shape"), [("/api/chat", str), ("/v1/chat/completions", dict)])
async def test_an_unreachable_upstream_is_a_502_in_the_clients_shape(
    start_sidecar: StartSidecar, http: aiohttp.ClientSession, unused_tcp_port: int, path: str, shape: type
) -> None:
    sidecar = await start_sidecar(unused_tcp_port)
    status, body = await post(http, sidecar.port, path, CHAT)
    assert status == 502
    error = json.loads(body)["error"]
    assert isinstance(error, shape)
    assert "cannot connect" in json.dumps(error)
    assert counted(sidecar, "requests", "outcome") == {"upstream_unreachable": 1}


@pytest.mark.parametrize(
    ("fault", "outcome"), [("stream_error", "stream_error"), ("no_done", "truncated"), ("status_500", "upstream_5xx")]
)
async def test_faults_inside_a_200_are_told_apart(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession, fault: str, outcome: str
) -> None:
    simulator = await start_simulator(tokens=9, fault=fault)
    sidecar = await start_sidecar(simulator.port)
    await post(http, sidecar.port, "/api/chat", CHAT)
    await eventually(lambda: counted(sidecar, "requests", "outcome") == {outcome: 1})


@pytest.mark.parametrize("fault", ["truncate", "reset"])
async def test_a_cut_stream_is_cut_for_the_client_too(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession, fault: str
) -> None:
    simulator = await start_simulator(tokens=9, inter_token=0.005, fault=fault)
    sidecar = await start_sidecar(simulator.port)
    with pytest.raises(aiohttp.ClientError):
        await post(http, sidecar.port, "/api/chat", CHAT)
    await eventually(lambda: counted(sidecar, "requests", "outcome") == {"truncated": 1})


@pytest.mark.parametrize("phase", ["queued", "prefill", "streaming"])
async def test_a_client_that_leaves_stops_the_upstream_within_100_ms(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, phase: str
) -> None:
    simulator = await start_simulator(
        ttft=0.02 if phase == "streaming" else 30.0, inter_token=0.02, tokens=5000, parallel=1
    )
    sidecar = await start_sidecar(simulator.port)
    body = json.dumps(CHAT).encode()
    request = b"POST /api/chat HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    ledger = simulator.simulator.ledger
    blockers = [await asyncio.open_connection("127.0.0.1", sidecar.port) for _ in range(phase == "queued")]
    for _, blocker in blockers:
        blocker.write(request)
        await eventually(lambda: len(ledger.entries) == 1)
    reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.port)
    writer.write(request)
    await eventually(lambda: len(ledger.entries) == 1 + len(blockers))
    entry = ledger.entries[-1]
    if phase == "streaming":
        await reader.readuntil(b"quick")
    left_at = asyncio.get_running_loop().time()
    writer.transport.abort()
    await eventually(lambda: entry.outcome == "cancelled")
    assert asyncio.get_running_loop().time() - left_at < 0.1
    await eventually(lambda: counted(sidecar, "requests", "outcome") == {"client_cancelled": 1})
    assert entry.sent < 5000
    for _, blocker in blockers:
        blocker.transport.abort()


async def test_a_drain_turns_unready_first_and_lets_streams_finish(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession
) -> None:
    simulator = await start_simulator(ttft=0.05, inter_token=0.05, tokens=10)
    sidecar = await start_sidecar(simulator.port)
    await eventually(lambda: sidecar.status().ready)
    running = asyncio.create_task(post(http, sidecar.port, "/api/chat", CHAT))
    await eventually(lambda: len(simulator.simulator.ledger.entries) == 1)
    drain = asyncio.create_task(sidecar.drain())
    await asyncio.sleep(0)
    assert not sidecar.status().ready
    status, body = await running
    assert status == 200
    assert json.loads(body.splitlines()[-1])["done"] is True
    await drain
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", sidecar.port)


async def test_a_failing_meter_never_touches_the_stream(
    start_simulator: StartSimulator,
    start_sidecar: StartSidecar,
    http: aiohttp.ClientSession,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    simulator = await start_simulator(tokens=4)
    sidecar = await start_sidecar(simulator.port)

    def explode(*_: object) -> None:
        raise RuntimeError("injected")

    monkeypatch.setattr("llmendpoint_sidecar.meter.exchange.dialect_of", explode)
    status, body = await post(http, sidecar.port, "/api/chat", CHAT)
    assert status == 200
    assert len(body.splitlines()) == 5
    assert sidecar.runtime.metrics.total("meter_failures") == 1


async def test_an_unknown_model_never_becomes_a_label(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession
) -> None:
    simulator = await start_simulator()
    sidecar = await start_sidecar(simulator.port)
    for index in range(50):
        await post(http, sidecar.port, "/api/chat", {**CHAT, "model": f"junk-{index}"})
    assert counted(sidecar, "requests", "model_name") == {"other": 50}
    assert counted(sidecar, "requests", "outcome") == {"upstream_4xx": 50}


async def test_ten_thousand_requests_reconcile_with_the_ledger_to_the_token(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession
) -> None:
    simulator = await start_simulator(tokens=6, parallel=64)
    sidecar = await start_sidecar(simulator.port)
    paths = ("/api/chat", "/api/generate", "/v1/chat/completions")

    async def worker(first: int) -> None:
        for index in range(first, 10_000, 32):
            openai = index % 3 == 2
            limit = {"max_tokens": 1 + index % 6} if openai else {"options": {"num_predict": 1 + index % 6}}
            words = "word " * (1 + index % 17)
            body = {"model": "simulated", "prompt": words, "messages": [{"role": "user", "content": words}],
                    "stream": index % 2 == 0, "stream_options": {"include_usage": True}, **limit}  # fmt: skip
            status, _ = await post(http, sidecar.port, paths[index % 3], body)
            assert status == 200

    await asyncio.gather(*(worker(first) for first in range(32)))
    accounts = simulator.simulator.ledger.accounts.values()
    await eventually(lambda: sum(counted(sidecar, "requests", "outcome").values()) == 10_000)
    # A limit of 6 tokens cuts nothing.
    assert counted(sidecar, "requests", "outcome") == {"ok": 1_666, "length": 8_334}
    assert sum(account.completed for account in accounts) == 10_000
    for operation in ("chat", "generate", "openai_chat"):
        account = simulator.simulator.ledger.accounts[f"simulated:latest/{operation}"]
        assert counted(sidecar, "prompt_tokens", "operation")[operation] == account.prompt_tokens
        assert counted(sidecar, "generation_tokens", "operation")[operation] == account.generation_tokens
    assert sidecar.status().totals.running == 0


async def test_labels_are_capped_and_the_overflow_is_counted(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession
) -> None:
    simulator = await start_simulator(models=[f"m{index}:1b" for index in range(MAX_MODELS + 5)])
    sidecar = await start_sidecar(simulator.port)
    for index in range(MAX_MODELS + 5):
        await post(http, sidecar.port, "/api/chat", {**CHAT, "model": f"m{index}:1b"})
    total = MAX_MODELS + 5
    await eventually(lambda: sum(counted(sidecar, "requests", "outcome").values()) == total)
    assert len(counted(sidecar, "requests", "model_name")) == MAX_MODELS + 1
    assert counted(sidecar, "requests", "model_name")["other"] == 5
    assert sidecar.runtime.metrics.total("series_overflow") == 5
