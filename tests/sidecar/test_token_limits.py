"""Charges of tokens by a running sidecar: whoever leaves, and whatever the response tells, a request is never free."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from llmendpoint_common.contracts.sidecar import SidecarConfig, TenantLimits
from llmendpoint_sidecar.main import Sidecar
from support.servers import StartSidecar, StartSimulator
from support.waiting import eventually

#: About 150 tokens by the estimate.
PROMPT = "word " * 120


def limits(tokens_per_minute: int, **others: Any) -> SidecarConfig:
    return SidecarConfig(default_tenant=TenantLimits(tokens_per_minute=tokens_per_minute, **others))


def chat(stream: bool, content: str = PROMPT) -> dict[str, Any]:
    return {"model": "simulated", "messages": [{"role": "user", "content": content}], "stream": stream}


async def status_of(http: aiohttp.ClientSession, sidecar: Sidecar, path: str, body: dict[str, Any]) -> int:
    async with http.post(f"http://127.0.0.1:{sidecar.port}{path}", json=body) as response:
        await response.read()
        return response.status


async def leave_after(sidecar: Sidecar, path: str, body: dict[str, Any], pieces: int) -> None:
    """Send a request, and leave after so many pieces of its response, or when it is in flight if this is 0."""
    reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.port)
    data = json.dumps(body).encode()
    writer.write(b"POST %b HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%b" % (path.encode(), len(data), data))
    if not pieces:
        await eventually(lambda: bool(sidecar.runtime.meter.in_flight.counts()))
    for _ in range(pieces):
        await reader.readuntil(b"simulated")
    writer.close()
    await eventually(lambda: not sidecar.runtime.meter.in_flight.counts())


@pytest.mark.parametrize("pieces", [0, 1], ids=["before the response", "after the first piece"])
@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions", "/v1/completions", "/v1/messages"])
async def test_a_client_that_leaves_pays_for_its_prompt(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession, path: str, pieces: int
) -> None:
    simulator = await start_simulator(ttft=0.0 if pieces else 30.0, inter_token=10.0, tokens=50)
    sidecar = await start_sidecar(simulator.port, limits(100))
    body = {**chat(stream=True), "prompt": PROMPT, "max_tokens": 50}
    await leave_after(sidecar, path, body, pieces)
    simulator.behave(ttft=0.0, inter_token=0.0)
    assert await status_of(http, sidecar, path, body) == 429


async def test_a_stream_without_usage_pays_for_its_prompt_and_its_pieces(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession
) -> None:
    simulator = await start_simulator(tokens=100)
    short, whole = chat(stream=True, content="x"), chat(stream=True)
    for body, expected in ((short, 200), (whole, 429)):
        # 100 pieces, and 20 or 170 tokens by the estimate.
        sidecar = await start_sidecar(simulator.port, limits(200))
        assert await status_of(http, sidecar, "/v1/chat/completions", body) == 200
        assert await status_of(http, sidecar, "/v1/chat/completions", body) == expected


async def test_an_answer_that_tells_no_tokens_pays_the_estimate(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession
) -> None:
    simulator = await start_simulator()
    sidecar = await start_sidecar(simulator.port, limits(100))
    body = {"model": "simulated", "prompt": PROMPT}
    assert await status_of(http, sidecar, "/api/embeddings", body) == 200
    assert await status_of(http, sidecar, "/api/embeddings", body) == 429


async def test_a_prompt_is_charged_while_it_runs_and_corrected_when_the_server_tells(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession
) -> None:
    simulator = await start_simulator(ttft=30.0, tokens=5)
    sidecar = await start_sidecar(simulator.port, limits(100))
    long = chat(stream=False, content="x" * 4000)  # one word for the simulator, a thousand tokens by the estimate
    first = asyncio.create_task(status_of(http, sidecar, "/api/chat", long))
    await eventually(lambda: bool(sidecar.runtime.meter.in_flight.counts()))
    assert await status_of(http, sidecar, "/api/chat", chat(stream=False)) == 429
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)

    simulator.behave(ttft=0.0)
    sidecar = await start_sidecar(simulator.port, limits(100))
    assert await status_of(http, sidecar, "/api/chat", long) == 200
    assert await status_of(http, sidecar, "/api/chat", long) == 200


async def test_what_the_upstream_or_the_proxy_refuses_is_not_charged(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession
) -> None:
    simulator = await start_simulator(fault="status_500")
    sidecar = await start_sidecar(simulator.port, limits(100, allowed_models=("simulated:latest",)))
    assert await status_of(http, sidecar, "/api/chat", chat(stream=False)) == 500
    assert await status_of(http, sidecar, "/api/chat", {**chat(stream=False), "model": "other"}) == 403
    simulator.behave(fault="none")
    assert await status_of(http, sidecar, "/api/chat", chat(stream=False)) == 200

    unreachable = await start_sidecar(1, limits(100))
    assert [await status_of(http, unreachable, "/api/chat", chat(stream=False)) for _ in range(2)] == [502, 502]


async def test_the_estimate_is_at_most_what_the_loaded_model_reads(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession
) -> None:
    simulator = await start_simulator()
    sidecar = await start_sidecar(simulator.port, limits(10_000))
    assert await status_of(http, sidecar, "/api/chat", chat(stream=False, content="x")) == 200
    await sidecar.runtime.watch.poll()
    assert sidecar.runtime.watch.context_length("SIMULATED") == 4096
    simulator.behave(ttft=30.0)
    long = chat(stream=False, content="x" * 200_000)  # 50,000 tokens, of which the model reads 4,096
    waiting = []
    for running in (1, 2, 3):
        waiting.append(asyncio.create_task(status_of(http, sidecar, "/api/chat", long)))
        await eventually(lambda expected=running: sum(sidecar.runtime.meter.in_flight.counts().values()) == expected)  # type: ignore[misc]
    assert await status_of(http, sidecar, "/api/chat", chat(stream=False, content="x")) == 429
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_tool_call_in_one_piece_pays_for_its_size(start_sidecar: StartSidecar) -> None:
    arguments = json.dumps({"text": "word " * 8000})
    call = {"index": 0, "function": {"name": "write", "arguments": arguments}}
    event = b"data: " + json.dumps({"choices": [{"delta": {"tool_calls": [call]}}]}).encode() + b"\n\ndata: [DONE]\n\n"
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
        % len(event)
    )

    async def upstream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head + event)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(upstream, "127.0.0.1", 0)
    sidecar = await start_sidecar(server.sockets[0].getsockname()[1], limits(5000))
    async with aiohttp.ClientSession() as http:
        for expected in (200, 429):
            assert await status_of(http, sidecar, "/v1/chat/completions", chat(stream=True)) == expected
    server.close()
    await server.wait_closed()
