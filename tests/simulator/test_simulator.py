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


async def test_the_models_of_a_behaviour_replace_those_of_the_one_before(
    start_simulator: StartSimulator, http: aiohttp.ClientSession
) -> None:
    simulator = await start_simulator(models=("tiny:1b", "other:1b"))
    behaviour = f"{simulator.url}/simulator/behaviour"

    async def listed() -> set[str]:
        async with http.get(f"{simulator.url}/api/tags") as response:
            return {model["name"] for model in (await response.json())["models"]}

    async def ask(model: str) -> int:
        async with http.post(f"{simulator.url}/api/generate", json={"model": model, "prompt": "x"}) as response:
            await response.read()
            return response.status

    async with http.post(f"{simulator.url}/api/copy", json={"source": "tiny:1b", "destination": "copied:1b"}):
        pass
    async with http.put(behaviour, json={"models": ["TINY:1b"], "embedding_models": ["embedder:1b"]}):
        assert await listed() == {"tiny:1b", "embedder:1b", "copied:1b"}
    assert (await ask("other:1b"), await ask("tiny:1b")) == (404, 200)
    async with http.delete(behaviour):
        assert await listed() == {"tiny:1b", "other:1b", "copied:1b"}
    assert await ask("other:1b") == 200
    # What clients have made stays.
    async with http.put(behaviour, json={"models": []}):
        assert await listed() == {"copied:1b"}


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
