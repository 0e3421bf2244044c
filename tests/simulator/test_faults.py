"""Injected faults: each kind in each API, and the rules that select the requests that get them."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise
from typing import Any

import aiohttp
import pytest

from support.servers import RunningSimulator, StartSimulator
from support.waiting import eventually

MESSAGES = [{"role": "user", "content": "one two three"}]
BODY = {"model": "simulated", "messages": MESSAGES, "input": "one", "prompt": "one", "max_tokens": 100, "stream": True}
STREAMS = ("/api/generate", "/api/chat", "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages")
#: The end of a complete stream.
ENDS = {"/v1/responses": b"response.completed", "/v1/messages": b"message_stop", "/v1/chat/completions": b"[DONE]",
        "/v1/completions": b"[DONE]"}  # fmt: skip


async def read(http: aiohttp.ClientSession, url: str, **rest: Any) -> tuple[int, bytes, str]:
    """Return status and body of a request, and how it ended: `end`, or the name of the error."""
    data = b""
    async with http.post(url, json={**BODY, **rest}) as response:
        try:
            async for piece in response.content.iter_any():
                data += piece
        except aiohttp.ClientError as error:
            return response.status, data, type(error).__name__
        return response.status, data, "end"


@pytest.mark.parametrize("path", STREAMS)
async def test_an_error_in_a_stream_has_the_form_of_the_api(
    start_simulator: StartSimulator, http: aiohttp.ClientSession, path: str
) -> None:
    simulator = await start_simulator(tokens=10, fault="stream_error")
    status, data, ended = await read(http, simulator.url + path)
    assert (status, ended) == (200, "end")
    assert ENDS.get(path, b'"done":true') not in data
    # Ollama's own API has an error line, and the other streams end without their last event.
    assert (b'{"error":"simulated failure in the stream"}' in data) == path.startswith("/api/")
    (entry,) = simulator.simulator.ledger.entries
    assert (entry.sent, entry.outcome, entry.reason) == (3, "faulted", "stream_error")


@pytest.mark.parametrize("path", STREAMS)
@pytest.mark.parametrize(
    ("fault", "end"), [("truncate", "ClientPayloadError"), ("reset", "ClientOSError"), ("no_done", "end")]
)
async def test_a_stream_ends_early(
    start_simulator: StartSimulator, http: aiohttp.ClientSession, path: str, fault: str, end: str
) -> None:
    simulator = await start_simulator(tokens=10, inter_token=0.002, fault=fault)
    status, data, ended = await read(http, simulator.url + path)
    assert status == 200
    assert ended in (end, "ClientPayloadError")
    assert (ended == "end") == (end == "end")
    assert ENDS.get(path, b'"done":true') not in data
    assert simulator.simulator.ledger.entries[0].reason == fault


@pytest.mark.parametrize("after", [0, 4])
async def test_a_fault_occurs_after_a_number_of_chunks(
    start_simulator: StartSimulator, http: aiohttp.ClientSession, after: int
) -> None:
    simulator = await start_simulator(tokens=4, faults=[{"fault": "no_done", "after": after}])
    _, data, _ = await read(http, f"{simulator.url}/api/chat")
    assert len(data.splitlines()) == after


@pytest.mark.parametrize(
    ("fault", "status", "ended"),
    [("stream_error", 500, "end"), ("truncate", 200, "ClientPayloadError"), ("no_done", 200, "end"),
     ("status_500", 500, "end"), ("queue_full", 503, "end")],
)  # fmt: skip
async def test_a_fault_of_an_answer_that_is_not_streamed(
    start_simulator: StartSimulator, http: aiohttp.ClientSession, fault: str, status: int, ended: str
) -> None:
    simulator = await start_simulator(fault=fault)
    assert (await read(http, f"{simulator.url}/api/chat", stream=False))[::2] == (status, ended)


async def test_a_stall_is_a_silence_after_which_the_stream_goes_on(
    start_simulator: StartSimulator, http: aiohttp.ClientSession
) -> None:
    simulator = await start_simulator(tokens=6, faults=[{"fault": "stall", "after": 2, "seconds": 1.5}])
    loop = asyncio.get_running_loop()
    async with http.post(f"{simulator.url}/api/chat", json=BODY) as response:
        times = [loop.time() async for _ in response.content]
    assert len(times) == 7
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert gaps.index(max(gaps)) == 1
    assert max(gaps) > 1


async def test_a_hang_by_a_rule_concerns_one_request_and_ends_with_its_client(
    start_simulator: StartSimulator, http: aiohttp.ClientSession
) -> None:
    simulator = await start_simulator(faults=[{"fault": "hang", "count": 1}])
    hung = asyncio.ensure_future(read(http, f"{simulator.url}/api/chat"))
    await eventually(lambda: bool(simulator.simulator.ledger.entries))
    assert (await read(http, f"{simulator.url}/api/chat"))[0] == 200
    assert not hung.done()
    hung.cancel()
    await eventually(lambda: simulator.simulator.ledger.entries[0].outcome == "cancelled")
    assert simulator.simulator.store.slots["simulated:latest"].running == 0


async def statuses(http: aiohttp.ClientSession, simulator: RunningSimulator, count: int, **rest: Any) -> list[int]:
    return [(await read(http, f"{simulator.url}/api/chat", **rest))[0] for _ in range(count)]


async def test_the_next_requests_get_a_fault_by_count(
    start_simulator: StartSimulator, http: aiohttp.ClientSession
) -> None:
    simulator = await start_simulator(faults=[{"fault": "status", "status": 429, "message": "slow down", "count": 2}])
    assert await statuses(http, simulator, 4) == [429, 429, 200, 200]
    async with http.get(f"{simulator.url}/simulator/ledger") as response:
        (tally,) = (await response.json())["faults"]
    assert (tally["matched"], tally["injected"]) == (4, 2)


async def test_a_share_of_the_requests_gets_a_fault_and_equal_seeds_the_same_ones(
    start_simulator: StartSimulator, http: aiohttp.ClientSession
) -> None:
    async def seen(seed: int) -> list[int]:
        rule = {"fault": "status_500", "probability": 0.3}
        simulator = await start_simulator(tokens=1, seed=seed, faults=[rule])
        return await statuses(http, simulator, 100)

    first, second, other = await seen(1), await seen(1), await seen(2)
    assert first == second != other
    assert 15 <= first.count(500) <= 45


async def test_random_faults_begin_again_when_the_ledger_is_cleared(
    start_simulator: StartSimulator, http: aiohttp.ClientSession
) -> None:
    simulator = await start_simulator(tokens=1, faults=[{"fault": "status_500", "probability": 0.5}])
    first = await statuses(http, simulator, 20)
    async with http.delete(f"{simulator.url}/simulator/ledger"):
        pass
    assert await statuses(http, simulator, 20) == first


@pytest.mark.parametrize(
    ("rule", "changes", "headers", "path", "status"),
    [
        ({"model": "OTHER:1b"}, {"model": "other:1b"}, {}, "/api/chat", 500),
        ({"model": "other:1b"}, {}, {}, "/api/chat", 200),
        ({"route": "/api/chat"}, {}, {}, "/api/chat", 500),
        ({"route": "/api/chat"}, {}, {}, "/api/generate", 200),
        ({"key": "team-a"}, {}, {"Authorization": "Bearer team-a"}, "/api/chat", 500),
        ({"key": "team-a"}, {}, {"x-api-key": "team-a"}, "/v1/messages", 500),
        ({"key": "team-a"}, {}, {"Authorization": "Bearer team-b"}, "/api/chat", 200),
        ({}, {"model": "embed:1b"}, {}, "/api/embed", 500),
        ({"route": "/api/tags"}, {}, {}, "/api/chat", 200),
    ],
)
async def test_a_rule_is_limited_to_a_model_a_route_or_a_key(
    start_simulator: StartSimulator,
    http: aiohttp.ClientSession,
    rule: dict[str, str],
    changes: dict[str, str],
    headers: dict[str, str],
    path: str,
    status: int,
) -> None:
    models = ["simulated:latest", "other:1b"]
    simulator = await start_simulator(
        models=models, embedding_models=["embed:1b"], faults=[{"fault": "status_500", **rule}]
    )
    async with http.post(simulator.url + path, json={**BODY, **changes}, headers=headers) as response:
        assert response.status == status


async def test_a_rule_with_a_route_concerns_any_route(
    start_simulator: StartSimulator, http: aiohttp.ClientSession
) -> None:
    rules = [{"fault": "status", "status": 502, "route": "/api/tags", "count": 1}, {"fault": "reset", "route": "/"}]
    simulator = await start_simulator(faults=rules)
    for status in (502, 200):
        async with http.get(f"{simulator.url}/api/tags") as response:
            assert response.status == status
    with pytest.raises(aiohttp.ClientError):
        await http.get(f"{simulator.url}/")


async def test_a_load_fails_only_if_the_model_has_to_be_loaded(
    start_simulator: StartSimulator, http: aiohttp.ClientSession
) -> None:
    simulator = await start_simulator(faults=[{"fault": "load_failure", "count": 1}])
    status, data, _ = await read(http, f"{simulator.url}/api/chat")
    assert (status, json.loads(data)) == (500, {"error": "llama runner process has terminated: exit status 2"})
    assert await statuses(http, simulator, 1) == [200]
    simulator.behave(faults=[{"fault": "load_failure"}])
    assert await statuses(http, simulator, 1) == [200]


async def test_the_ledger_counts_each_reason(start_simulator: StartSimulator, http: aiohttp.ClientSession) -> None:
    simulator = await start_simulator(tokens=5, faults=[{"fault": "truncate", "count": 2}])
    url = f"{simulator.url}/api/chat"
    for _ in range(3):
        await read(http, url)
    await read(http, url, options={"num_predict": 2})
    await read(http, url, messages=[])
    await read(http, url, think="wrong")
    account = simulator.simulator.ledger.accounts["simulated:latest/chat"]
    assert account.reasons == {"truncate": 2, "stop": 1, "length": 1, "load": 1, "refused": 1}
    assert (account.requests, account.completed, account.faulted) == (6, 3, 3)
    assert account.generation_tokens == 5 + 2


@pytest.mark.parametrize(
    ("rule", "named"),
    [
        ({"fault": "explode"}, "explode"),
        ({"fault": "stall", "probability": 2}, "faults[0].probability"),
        ({"fault": "status", "status": 200}, "faults[0].status"),
        ({"fault": "stall", "rout": "/"}, "rout"),
        ({"fault": "stall", "route": "api/chat"}, "`route` is a path, such as /api/chat - at `$.faults[0]`"),
        ({"fault": "disk_full", "route": "/api/chat"}, "`disk_full` is a fault of pulls"),
        ({"fault": "none"}, "a rule needs a `fault` other than `none`"),
    ],
)
async def test_a_wrong_rule_is_refused_and_its_field_named(
    start_simulator: StartSimulator, http: aiohttp.ClientSession, rule: dict[str, Any], named: str
) -> None:
    simulator = await start_simulator()
    async with http.put(f"{simulator.url}/simulator/behaviour", json={"faults": [rule]}) as response:
        assert response.status == 400
        assert named in (await response.json())["error"]


async def test_a_field_that_would_have_no_effect_is_refused(
    start_simulator: StartSimulator, http: aiohttp.ClientSession
) -> None:
    simulator = await start_simulator()
    async with http.put(f"{simulator.url}/simulator/behaviour", json={"capacity": 5}) as response:
        assert response.status == 400
        assert "need a simulator with --known-latency" in (await response.json())["error"]


async def test_the_first_behaviour_is_restored(start_simulator: StartSimulator, http: aiohttp.ClientSession) -> None:
    simulator = await start_simulator(tokens=7)
    async with http.put(f"{simulator.url}/simulator/behaviour", json={"tokens": 9, "fault": "reset"}) as response:
        assert response.status == 200
    async with http.delete(f"{simulator.url}/simulator/behaviour") as response:
        assert ((await response.json())["tokens"], (await response.json())["fault"]) == (7, "none")
