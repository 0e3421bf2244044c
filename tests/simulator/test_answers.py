"""The simulator's answers follow from the request: limits, tools, formats, thinking, and old versions of HTTP."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from support.servers import RunningSimulator, StartSimulator

MESSAGES = [{"role": "user", "content": "one two three"}]
CITY = {"type": "object", "properties": {"city": {"$ref": "#/$defs/City"}}, "$defs": {"City": {"enum": ["Oslo"]}}}
TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": CITY}}


async def ask(http: aiohttp.ClientSession, simulator: RunningSimulator, path: str, **body: Any) -> dict[str, Any]:
    """Send a request that is not streamed, and return the answer."""
    asked = {"model": "simulated", "messages": MESSAGES, "stream": False, **body}
    async with http.post(simulator.url + path, json=asked) as response:
        answer: dict[str, Any] = await response.json()
        assert response.status == 200, answer
        return answer


@pytest.mark.parametrize(("limit", "reason"), [(3, "length"), (5, "stop"), (9, "stop"), (0, "stop"), (-1, "stop")])
async def test_a_limit_below_the_tokens_ends_an_answer_with_length(
    start_simulator: StartSimulator, http: aiohttp.ClientSession, limit: int, reason: str
) -> None:
    simulator = await start_simulator(tokens=5)
    answer = await ask(http, simulator, "/api/chat", options={"num_predict": limit})
    assert (answer["done_reason"], answer["eval_count"]) == (reason, 3 if limit == 3 else 5)
    openai = await ask(http, simulator, "/v1/chat/completions", max_tokens=limit)
    assert openai["choices"][0]["finish_reason"] == reason
    completion = await ask(http, simulator, "/v1/completions", max_tokens=limit, prompt="x")
    assert completion["choices"][0]["finish_reason"] == reason
    if limit > 0:
        message = await ask(http, simulator, "/v1/messages", max_tokens=limit)
        assert message["stop_reason"] == {"length": "max_tokens", "stop": "end_turn"}[reason]


async def test_a_stream_over_http_1_0_ends_with_the_connection(start_simulator: StartSimulator) -> None:
    simulator = await start_simulator(tokens=4)
    reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port)
    body = json.dumps({"model": "simulated", "messages": MESSAGES}).encode()
    writer.write(b"POST /api/chat HTTP/1.0\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    head, _, content = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    assert head.startswith(b"HTTP/1.0 200")
    assert b"Transfer-Encoding" not in head
    lines = [json.loads(line) for line in content.splitlines()]
    assert [line["done"] for line in lines] == [False] * 4 + [True]


async def test_an_offered_tool_is_called_until_its_result_is_known(
    start_simulator: StartSimulator, http: aiohttp.ClientSession
) -> None:
    simulator = await start_simulator()
    message = (await ask(http, simulator, "/api/chat", tools=[TOOL]))["message"]
    assert message["tool_calls"][0]["function"] == {"index": 0, "name": "get_weather", "arguments": {"city": "Oslo"}}
    told = [*MESSAGES, message, {"role": "tool", "content": "sunny"}]
    answer = await ask(http, simulator, "/api/chat", tools=[TOOL], messages=told)
    assert answer["message"]["content"].startswith("the quick")
    assert "tool_calls" not in answer["message"]


async def test_a_requested_schema_is_observed_and_a_cut_answer_is_no_json(
    start_simulator: StartSimulator, http: aiohttp.ClientSession
) -> None:
    simulator = await start_simulator()
    answer = await ask(http, simulator, "/api/chat", format=CITY)
    assert json.loads(answer["message"]["content"]) == {"city": "Oslo"}
    assert answer["done_reason"] == "stop"
    cut = await ask(http, simulator, "/api/chat", format=CITY, options={"num_predict": 2})
    assert cut["done_reason"] == "length"
    assert cut["message"]["content"] == '{"city":'


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "array", "items": {"type": "integer"}, "minItems": 2}, [7, 7]),
        ({"anyOf": [{"type": "null"}, {"type": "string"}]}, None),
        ({"type": ["boolean", "null"]}, True),
        ({"const": 3}, 3),
        ({"properties": {"a": {}}}, {"a": "fox"}),
        ({"$ref": "#/nowhere"}, None),
    ],
)
async def test_examples_of_schemas(
    start_simulator: StartSimulator, http: aiohttp.ClientSession, schema: dict[str, Any], value: Any
) -> None:
    simulator = await start_simulator()
    given = json.loads((await ask(http, simulator, "/api/chat", format=schema))["message"]["content"])
    assert given == value


async def test_an_example_of_a_recursive_schema_ends(
    start_simulator: StartSimulator, http: aiohttp.ClientSession
) -> None:
    simulator = await start_simulator()
    answer = await ask(http, simulator, "/api/chat", format={"properties": {"again": {"$ref": "#"}}})
    assert json.loads(answer["message"]["content"])["again"]["again"]


async def test_thinking_comes_before_the_text_and_is_part_of_the_tokens(
    start_simulator: StartSimulator, http: aiohttp.ClientSession
) -> None:
    simulator = await start_simulator(tokens=4)
    answer = await ask(http, simulator, "/api/chat", think=True)
    assert (answer["message"]["thinking"], answer["message"]["content"]) == ("the quick ", "brown fox ")
    assert answer["eval_count"] == 4
    assert simulator.simulator.ledger.accounts["simulated:latest/chat"].generation_tokens == 4


async def test_a_pull_that_is_not_streamed_waits_for_its_end(
    start_simulator: StartSimulator, http: aiohttp.ClientSession
) -> None:
    simulator = await start_simulator(registry=["other:1b"])
    assert await ask(http, simulator, "/api/pull", model="other:1b") == {"status": "success"}
    assert await ask(http, simulator, "/api/create", **{"model": "mine", "from": "other:1b"}) == {"status": "success"}
    assert "mine:latest" in simulator.simulator.store.present


@pytest.mark.parametrize(
    "name", ["SIMULATED", "simulated:LATEST", "library/simulated", "https://registry.ollama.ai/library/simulated"]
)
async def test_a_model_is_found_by_each_name_that_ollama_accepts(
    start_simulator: StartSimulator, http: aiohttp.ClientSession, name: str
) -> None:
    simulator = await start_simulator()
    assert (await ask(http, simulator, "/api/chat", model=name))["model"] == name
    assert set(simulator.simulator.ledger.accounts) == {"simulated:latest/chat"}
