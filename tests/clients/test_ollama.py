"""Libraries against a real Ollama, directly and through the sidecar, and frameworks also against the simulator.

`make clients` installs the frameworks. The real Ollama answers from a script, so equal requests have equal results.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from clients.conftest import Compare
from support.machine.client_programs import FRAMEWORKS, SDKS, Results, failures
from support.machine.real_ollama import MODEL, RealOllama
from support.machine.scripted_model import TEXT, THOUGHT, TOOL_CALL
from support.servers import StartSimulator
from support.wire.ollama_requests import ollama_requests, shape_of_answer

pytestmark = pytest.mark.clients

#: Calls that fail with Ollama 0.17.4 itself. It accepts levels of thinking only for gpt-oss, and the helper of OpenAI's
#: library for JavaScript cannot read a stream of /v1/responses that begins with reasoning.
_FAIL_WITH_OLLAMA = {"chat reasoning", "response helper"}

SHAPES = Path(__file__).parents[1] / "simulator" / "ollama_shapes.json"


async def test_the_recorded_shapes_are_those_of_ollama(real_ollama: RealOllama, http: aiohttp.ClientSession) -> None:
    """`UPDATE_SHAPES=1` records them."""
    seen = {}
    for request in ollama_requests(MODEL):
        async with http.request(request.method, real_ollama.url + request.path, **request.content()) as response:
            kind = response.headers.get("Content-Type", "")
            seen[request.name] = shape_of_answer(response.status, kind, await response.read())
    if os.environ.get("UPDATE_SHAPES"):
        lines = (f" {json.dumps(name)}: {json.dumps(shape, sort_keys=True)}" for name, shape in seen.items())
        SHAPES.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    expected = json.loads(SHAPES.read_text())
    assert {name: shape for name, shape in seen.items() if shape != expected.get(name)} == {}


async def test_the_scripted_model_says_its_script(real_ollama: RealOllama, http: aiohttp.ClientSession) -> None:
    messages = [{"role": "user", "content": "hello"}]
    tool = {"type": "function", "function": {"name": TOOL_CALL[0], "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}  # fmt: skip

    async def say(**rest: object) -> dict[str, object]:
        body = {"model": MODEL, "messages": messages, "stream": False, **rest}
        async with http.post(f"{real_ollama.url}/api/chat", json=body) as response:
            message: dict[str, object] = (await response.json())["message"]
            return message

    assert (await say(think=False))["content"] == TEXT
    assert (await say(think=True))["thinking"] == THOUGHT
    calls = (await say(tools=[tool]))["tool_calls"]
    assert isinstance(calls, list)
    assert (calls[0]["function"]["name"], calls[0]["function"]["arguments"]) == TOOL_CALL


@pytest.mark.parametrize("program", FRAMEWORKS)
async def test_a_framework_gets_the_same_results_from_the_simulator_and_through_the_sidecar(
    start_simulator: StartSimulator, compare: Compare, program: str
) -> None:
    simulator = await start_simulator(ttft=0.001, inter_token=0.001, tokens=20, parallel=8)
    assert failures(await compare(program, simulator.url, "simulated")) == {}


@pytest.mark.parametrize("program", SDKS + FRAMEWORKS)
async def test_a_library_gets_the_same_results_from_ollama_and_through_the_sidecar(
    real_ollama: RealOllama, compare: Compare, program: str
) -> None:
    results = await compare(program, real_ollama.url, MODEL)
    assert failures(results).keys() <= _FAIL_WITH_OLLAMA
    told = json.dumps(results)
    assert TEXT in told or program.startswith("anthropic")
    assert TOOL_CALL[1]["city"] in told
    _expect(results)


def _expect(results: Results) -> None:
    """Check the counts of the script, if the library returns them."""
    chat: Any = results.get("chat")
    if isinstance(chat, dict) and "eval_count" in chat:
        assert chat["message"]["content"] == TEXT
        assert results["chat thinking"]["message"]["thinking"] == THOUGHT
        assert results["chat cut stream"][-1]["done_reason"] == "length"
