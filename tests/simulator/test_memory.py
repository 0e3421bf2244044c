"""Memory of the simulator: `/api/ps`, keep-alive, evictions, partial offload, and loads that wait."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest

from llmendpoint_common.process.errors import QueueFullError
from llmendpoint_simulator.memory import Limits, Memory, Wanted
from support.servers import RunningSimulator, StartSimulator
from support.waiting import eventually

GB = 1_000_000_000
SIZES = {"small:1b": 2 * GB, "medium:7b": 8 * GB, "big:70b": 40 * GB}


async def loaded(http: aiohttp.ClientSession, simulator: RunningSimulator) -> dict[str, dict[str, Any]]:
    async with http.get(f"{simulator.url}/api/ps") as response:
        return {model["name"]: model for model in (await response.json())["models"]}


async def generate(http: aiohttp.ClientSession, simulator: RunningSimulator, model: str, **rest: Any) -> dict[str, Any]:
    body = {"model": model, "prompt": "one", "stream": False, **rest}
    async with http.post(f"{simulator.url}/api/generate", json=body) as response:
        answer: dict[str, Any] = await response.json()
        return answer | {"status": response.status}


@pytest.fixture
async def gpu(start_simulator: StartSimulator) -> RunningSimulator:
    """A simulator with a GPU of 10 GB, and three models."""
    return await start_simulator(models=list(SIZES), sizes=SIZES, memory=10 * GB)


async def test_a_model_that_does_not_fit_evicts_the_one_with_the_shortest_keep_alive(
    gpu: RunningSimulator, http: aiohttp.ClientSession
) -> None:
    await generate(http, gpu, "small:1b", keep_alive="1h")
    await generate(http, gpu, "medium:7b", keep_alive="1m")
    assert set(await loaded(http, gpu)) == {"small:1b", "medium:7b"}
    gpu.behave(sizes={**SIZES, "third:3b": 3 * GB}, models=[*SIZES, "third:3b"])
    await generate(http, gpu, "third:3b")
    assert set(await loaded(http, gpu)) == {"small:1b", "third:3b"}
    async with http.get(f"{gpu.url}/simulator/ledger") as response:
        ledger = await response.json()
    assert (ledger["loads"], ledger["evictions"]) == (3, 1)


async def test_a_model_that_is_too_large_is_partly_on_the_cpu(
    gpu: RunningSimulator, http: aiohttp.ClientSession
) -> None:
    await generate(http, gpu, "small:1b")
    await generate(http, gpu, "big:70b")
    assert {name: (model["size"], model["size_vram"]) for name, model in (await loaded(http, gpu)).items()} == {
        "big:70b": (40 * GB, 10 * GB)
    }


async def test_without_a_gpu_models_are_on_the_cpu(
    start_simulator: StartSimulator, http: aiohttp.ClientSession
) -> None:
    simulator = await start_simulator(memory=0)
    await generate(http, simulator, "simulated")
    assert (await loaded(http, simulator))["simulated:latest"]["size_vram"] == 0


async def test_a_load_waits_for_a_busy_model_and_the_wait_is_part_of_its_load_duration(
    gpu: RunningSimulator, http: aiohttp.ClientSession
) -> None:
    gpu.behave(ttft=0.3, tokens=1)
    busy = asyncio.ensure_future(generate(http, gpu, "medium:7b"))
    await eventually(lambda: gpu.simulator.store.is_loaded("medium:7b"))
    answer = await generate(http, gpu, "big:70b")
    assert busy.done()
    assert answer["load_duration"] > 0.1e9
    assert set(await loaded(http, gpu)) == {"big:70b"}


@pytest.mark.parametrize(
    ("keep_alive", "seconds"), [("10m", 600), (90, 90), (-1, timedelta(days=36500).total_seconds()), (None, 120)]
)
async def test_a_model_expires_after_its_keep_alive(
    start_simulator: StartSimulator, http: aiohttp.ClientSession, keep_alive: Any, seconds: float
) -> None:
    simulator = await start_simulator(keep_alive=120)
    before = datetime.now(UTC)
    await generate(http, simulator, "simulated", **({} if keep_alive is None else {"keep_alive": keep_alive}))
    expires = datetime.fromisoformat((await loaded(http, simulator))["simulated:latest"]["expires_at"])
    assert 0 <= (expires - before).total_seconds() - seconds < 30


async def test_a_keep_alive_of_zero_unloads_after_the_answer(
    start_simulator: StartSimulator, http: aiohttp.ClientSession
) -> None:
    simulator = await start_simulator()
    assert (await generate(http, simulator, "simulated", keep_alive=0))["done_reason"] == "stop"
    assert await loaded(http, simulator) == {}


async def test_a_slow_load_happens_once_and_is_reported(
    start_simulator: StartSimulator, http: aiohttp.ClientSession
) -> None:
    simulator = await start_simulator(load=0.2, parallel=4)
    answers = await asyncio.gather(*(generate(http, simulator, "simulated") for _ in range(3)))
    assert all(answer["load_duration"] > 0.15e9 for answer in answers)
    assert simulator.simulator.store.memory.loads == 1
    assert (await generate(http, simulator, "simulated")).get("load_duration", 0) == 0


async def test_the_keep_alive_begins_with_the_end_of_the_last_use() -> None:
    now = [datetime(2026, 1, 1, tzinfo=UTC)]
    memory = Memory(lambda: now[0], lambda: Limits(None, timedelta(minutes=5), 10))
    wanted = Wanted("w", "m", "d", 1, None)
    runner, _ = await memory.use(wanted, lambda: 0.0)
    now[0] += timedelta(hours=1)
    assert memory.find("w") is runner
    memory.release(runner)
    now[0] += timedelta(minutes=4)
    assert memory.find("w") is runner
    now[0] += timedelta(minutes=2)
    assert memory.find("w") is None
    assert memory.runners() == []


async def test_an_unload_waits_for_the_requests_that_run() -> None:
    memory = Memory(lambda: datetime.now(UTC), lambda: Limits(None, timedelta(minutes=5), 10))
    runner, _ = await memory.use(Wanted("w", "m", "d", 1, None), lambda: 0.0)
    memory.unload("w")
    assert memory.find("w") is runner
    memory.release(runner)
    assert memory.find("w") is None


async def test_too_many_requests_for_models_that_are_not_in_memory_are_refused() -> None:
    memory = Memory(lambda: datetime.now(UTC), lambda: Limits(None, timedelta(minutes=5), 1))
    first = asyncio.ensure_future(memory.use(Wanted("a", "a", "d", 1, None), lambda: 30.0))
    await asyncio.sleep(0)
    with pytest.raises(QueueFullError):
        await memory.use(Wanted("b", "b", "d", 1, None), lambda: 0.0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert (await memory.use(Wanted("b", "b", "d", 1, None), lambda: 0.0))[0].name == "b"
