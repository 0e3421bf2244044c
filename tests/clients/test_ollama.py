"""A real Ollama: the scripted model, and the shapes that the simulator's answers are compared with."""

from __future__ import annotations

import json
import os
from pathlib import Path

import aiohttp
import pytest

from support.ollama_requests import ollama_requests, shape_of_answer
from support.real_ollama import MODEL, RealOllama
from support.scripted_model import TEXT, THOUGHT, TOOL_CALL

pytestmark = pytest.mark.clients

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
