"""The simulator: slots and queue as in Ollama, behaviour over HTTP, and the ledger."""

from __future__ import annotations

import asyncio

import aiohttp

from support.servers import StartSimulator


async def test_parallel_slots_and_a_bounded_queue(start_simulator: StartSimulator, http: aiohttp.ClientSession) -> None:
    simulator = await start_simulator(ttft=0.2, parallel=1, max_queue=1)

    async def ask() -> int:
        async with http.post(f"{simulator.url}/api/generate", json={"model": "simulated", "prompt": "x"}) as response:
            await response.read()
            return response.status

    assert sorted(await asyncio.gather(ask(), ask(), ask())) == [200, 200, 503]


async def test_behaviour_is_changed_over_http_and_a_wrong_field_named(
    start_simulator: StartSimulator, http: aiohttp.ClientSession
) -> None:
    simulator = await start_simulator()
    async with http.put(f"{simulator.url}/simulator/behaviour", json={"tokens": 2}) as response:
        assert (await response.json())["tokens"] == 2
    async with http.put(f"{simulator.url}/simulator/behaviour", json={"tokns": 2}) as response:
        assert response.status == 400
        assert "tokns" in (await response.json())["error"]


async def test_the_ledger_is_readable_over_http(start_simulator: StartSimulator, http: aiohttp.ClientSession) -> None:
    simulator = await start_simulator(tokens=3)
    async with http.post(
        f"{simulator.url}/api/generate", json={"model": "simulated", "prompt": "a b"}, headers={"X-Request-ID": "r1"}
    ) as response:
        await response.read()
    async with http.get(f"{simulator.url}/simulator/ledger") as response:
        ledger = await response.json()
    assert ledger["accounts"]["simulated:latest/generate"]["generation_tokens"] == 3
    assert ledger["entries"][0]["request_id"] == "r1"


async def test_an_unknown_pull_fails_inside_the_stream(
    start_simulator: StartSimulator, http: aiohttp.ClientSession
) -> None:
    simulator = await start_simulator()
    async with http.post(f"{simulator.url}/api/pull", json={"model": "none:1b"}) as response:
        assert response.status == 200
        assert b"file does not exist" in await response.read()
