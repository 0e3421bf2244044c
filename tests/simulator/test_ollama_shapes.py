"""The simulator answers as Ollama: the same fields, types, events and statuses on every route that it has.

`ollama_shapes.json` has the shapes of Ollama 0.17.4. `tests/clients/test_ollama.py` compares it with a real Ollama.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import aiohttp

from support.servers import StartSimulator
from support.wire.ollama_requests import ollama_requests, shape_of_answer

SHAPES = Path(__file__).parent / "ollama_shapes.json"


async def test_every_answer_has_the_shape_of_ollamas(
    start_simulator: StartSimulator, http: aiohttp.ClientSession
) -> None:
    simulator = await start_simulator(ttft=0.001, inter_token=0.001)
    seen: dict[str, Any] = {}
    for request in ollama_requests("simulated"):
        async with http.request(request.method, simulator.url + request.path, **request.content()) as response:
            kind = response.headers.get("Content-Type", "")
            seen[request.name] = shape_of_answer(response.status, kind, await response.read())
    expected = json.loads(SHAPES.read_text())
    assert {name: shape for name, shape in seen.items() if shape != expected[name]} == {}
    assert seen.keys() == expected.keys()
