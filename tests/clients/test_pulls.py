"""Pulls of a real Ollama and of the simulator: the same statuses, fields and errors."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest

from support.machine.model_registry import ModelRegistry, model_registry
from support.machine.real_ollama import RealOllama
from support.servers import StartSimulator

pytestmark = pytest.mark.clients

#: What a pull from each kind of model corresponds to in the simulator.
FAULTS = {"good": "none", "served-directly": "no_location", "corrupt": "digest_mismatch", "missing": "manifest_missing"}


@pytest.fixture(scope="module")
def registry() -> Iterator[ModelRegistry]:
    """A registry from which a real Ollama can pull."""
    with model_registry() as running:
        yield running


async def pulled(http: aiohttp.ClientSession, url: str, **body: Any) -> tuple[int, str, list[dict[str, Any]]]:
    """Return status, media type, and the lines of a pull, without digests, numbers and repeated lines."""
    async with http.post(f"{url}/api/pull", json=body) as response:
        lines = [json.loads(line) for line in (await response.read()).splitlines()]
        shapes: list[dict[str, Any]] = []
        for line in lines:
            shape = {
                name: re.sub(r"[0-9a-f]{64}|\b[0-9a-f]{12}\b", "HEX", value) if isinstance(value, str) else "number"
                for name, value in line.items()
                # A number of zero is left out.
                if name != "completed"
            }
            if shape not in shapes:
                shapes.append(shape)
        return response.status, response.headers["Content-Type"], shapes


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("stream", [True, False])
async def test_a_pull_of_the_simulator_has_the_lines_of_ollamas(
    real_ollama: RealOllama,
    registry: ModelRegistry,
    start_simulator: StartSimulator,
    http: aiohttp.ClientSession,
    kind: str,
    stream: bool,
) -> None:
    model = registry.model(kind)
    simulator = await start_simulator(registry=[model], layers=3, fault=FAULTS[kind])
    real = await pulled(http, real_ollama.url, model=model, insecure=True, stream=stream)
    assert await pulled(http, simulator.url, model=model, insecure=True, stream=stream) == real
    assert real[0] == (200 if stream or kind == "good" else 500)
