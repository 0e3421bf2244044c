"""Selection of the upstream for the demo."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from llmendpoint_cli.upstream import Upstream, find_ollama, model_of
from support.machine.doctor_machine import scripted_server
from support.servers import StartSimulator


async def test_a_local_completion_model_of_a_simulator_is_taken_and_said_to_be_simulated(
    start_simulator: StartSimulator,
) -> None:
    simulator = await start_simulator(models=["big:70b", "other:1b"], embedding_models=["embed:1b"])
    simulator.simulator.store.add("remote:cloud")
    found = await asyncio.to_thread(find_ollama, simulator.url)
    assert found == Upstream(simulator.url, "big:70b", is_real=False)


async def test_what_is_in_memory_comes_first(start_simulator: StartSimulator) -> None:
    simulator = await start_simulator(models=["big:70b", "other:1b"])
    await asyncio.to_thread(find_ollama, simulator.url)  # loads big:70b
    simulator.simulator.store.unload("big:70b")
    simulator.simulator.store.load("other:1b", timedelta(minutes=1))
    found = await asyncio.to_thread(find_ollama, simulator.url)
    assert isinstance(found, Upstream)
    assert found.model == "other:1b"


async def test_embedding_and_cloud_models_are_no_upstream(start_simulator: StartSimulator) -> None:
    simulator = await start_simulator(models=["remote:cloud"], embedding_models=["embed:1b"])
    found = await asyncio.to_thread(find_ollama, simulator.url)
    assert isinstance(found, str)
    assert "no local completion model" in found


async def test_a_model_that_is_too_slow_is_said(start_simulator: StartSimulator) -> None:
    simulator = await start_simulator(models=["slow:1b"], ttft=10.0)
    found = await asyncio.to_thread(find_ollama, simulator.url)
    assert isinstance(found, str)
    assert "does not answer within 3 s" in found


def test_a_server_without_the_routes_of_the_simulator_is_an_ollama() -> None:
    script = {"/api/tags": {"models": [{"name": "a:1b"}]}, "/api/ps": {}, "/api/show": {}, "/api/generate": {}}
    with scripted_server(script) as server:
        url = f"http://127.0.0.1:{server.port}"
        assert find_ollama(url) == Upstream(url, "a:1b", is_real=True)


async def test_the_suggested_model_is_one_in_memory_that_completes(start_simulator: StartSimulator) -> None:
    simulator = await start_simulator(models=["big:70b", "other:1b"], embedding_models=["embed:1b"])
    simulator.simulator.store.load("other:1b", timedelta(minutes=1))
    assert await asyncio.to_thread(model_of, simulator.url) == "other:1b"
    assert await asyncio.to_thread(model_of, "http://127.0.0.1:1") == ""
