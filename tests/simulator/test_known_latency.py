"""The known-latency mode: scheduled times are exact, and the ledger reports the server's own errors."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
import urllib.request
from typing import Any

import aiohttp
import pytest

from llmendpoint_simulator.behaviour import Behaviour
from llmendpoint_simulator.known.admission import Admission
from llmendpoint_simulator.ledger import Entry, Exactness
from llmendpoint_simulator.serving.timers import Timers
from llmendpoint_simulator.settings import parse_settings
from support.load.known_latency import known_latency_process
from support.servers import RunningKnownLatency, StartKnownLatency
from support.waiting import eventually

CHAT = {"model": "any", "messages": [{"role": "user", "content": "one two three"}]}


async def lines_of(http: aiohttp.ClientSession, url: str, **fields: Any) -> list[tuple[float, dict[str, Any]]]:
    """Return the lines of a streamed answer, each with the time at which it was read."""
    async with http.post(f"{url}/api/chat", json={**CHAT, **fields}) as response:
        return [(time.monotonic(), json.loads(line)) async for line in response.content]


def raw_request() -> bytes:
    body = json.dumps(CHAT).encode()
    return b"POST /api/chat HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def exactness(entry: Entry) -> Exactness:
    assert entry.exactness is not None
    return entry.exactness


def begun(server: RunningKnownLatency) -> list[float]:
    return sorted(exactness(entry).begun_at or 0.0 for entry in server.entries)


def one_after_the_other(server: RunningKnownLatency, seconds: float) -> list[float]:
    """Return when each request begins if the one before holds the server for some seconds."""
    times: list[float] = []
    for received in sorted(entry.received_at for entry in server.entries):
        times.append(max(received, times[-1] + seconds) if times else received)
    return times


@pytest.mark.parametrize(("tokens_per_chunk", "chunks"), [(1, 28), (4, 7), (7, 4)])
async def test_an_answer_has_the_wanted_chunks_at_the_scheduled_times(
    start_known_latency: StartKnownLatency, http: aiohttp.ClientSession, tokens_per_chunk: int, chunks: int
) -> None:
    server = await start_known_latency(ttft=0.05, inter_token=0.002, tokens=28, tokens_per_chunk=tokens_per_chunk)

    lines = await lines_of(http, server.url)

    assert len(lines) == chunks + 1
    assert lines[-1][1]["eval_count"] == 28
    gap = tokens_per_chunk * 0.002
    assert lines[-1][1]["eval_duration"] == pytest.approx((chunks - 1) * gap * 1e9)
    (entry,) = server.entries
    times = exactness(entry)
    assert times.begun_at == entry.received_at
    assert times.first_due_at == pytest.approx(entry.received_at + 0.05, abs=1e-9)
    assert times.last_due_at == pytest.approx(entry.received_at + 0.05 + (chunks - 1) * gap, abs=1e-9)
    assert entry.sent == chunks
    assert times.first_due_at is not None
    assert all(read >= times.first_due_at + index * gap for index, (read, _) in enumerate(lines[:-1]))


async def test_an_answer_that_is_not_streamed_comes_when_the_last_chunk_would(
    start_known_latency: StartKnownLatency, http: aiohttp.ClientSession
) -> None:
    server = await start_known_latency(ttft=0.05, inter_token=0.01, tokens=6)

    lines = await lines_of(http, server.url, stream=False)

    (entry,) = server.entries
    assert exactness(entry).last_due_at == pytest.approx(entry.received_at + 0.1, abs=1e-9)
    assert [line["eval_count"] for _, line in lines] == [6]
    assert lines[0][0] >= entry.received_at + 0.1


async def test_openai_is_served_at_any_base_path(
    start_known_latency: StartKnownLatency, http: aiohttp.ClientSession
) -> None:
    server = await start_known_latency(ttft=0.0, inter_token=0.0, tokens=8, tokens_per_chunk=4)
    body = {**CHAT, "stream": True, "stream_options": {"include_usage": True}, "max_tokens": 5}
    async with http.post(f"{server.url}/some/base/v1/chat/completions", json=body) as response:
        events = [line async for line in response.content if line.strip()]

    assert events[-1].strip() == b"data: [DONE]"
    chunks = [json.loads(event.removeprefix(b"data: ")) for event in events[:-1]]
    content = [chunk["choices"][0]["delta"]["content"] for chunk in chunks if chunk["choices"]]
    assert len([text for text in content if text]) == 2
    assert chunks[-1]["usage"]["completion_tokens"] == 5


async def test_a_request_gets_the_slot_when_the_answer_before_it_was_due_to_end(
    start_known_latency: StartKnownLatency, http: aiohttp.ClientSession
) -> None:
    server = await start_known_latency(ttft=0.02, inter_token=0.01, tokens=3, parallel=1)

    await asyncio.gather(*(lines_of(http, server.url) for _ in range(4)))

    assert begun(server) == pytest.approx(one_after_the_other(server, 0.04), abs=1e-9)
    assert max(exactness(entry).in_flight for entry in server.entries) > 1


async def test_a_server_with_a_capacity_turns_to_one_request_per_interval(
    start_known_latency: StartKnownLatency, http: aiohttp.ClientSession
) -> None:
    server = await start_known_latency(ttft=0.0, inter_token=0.0, tokens=1, capacity=50)

    await asyncio.gather(*(lines_of(http, server.url) for _ in range(6)))

    assert begun(server) == pytest.approx(one_after_the_other(server, 1 / 50), abs=1e-9)


def test_a_late_event_loop_does_not_lower_the_capacity() -> None:
    """The turn at 10.01 s is overdue when a request arrives at 10.013 s: it is not moved to the time of arrival."""

    class Request:
        def __init__(self, received_at: float) -> None:
            self.received_at = received_at
            self.begun_at = 0.0

        def begin(self, when: float) -> None:
            self.begun_at = when

    admission = Admission(lambda: Behaviour(capacity=100, parallel=10), Timers())
    first, waiting, late = Request(10.0), Request(10.002), Request(10.013)
    for request in (first, waiting, late):
        assert admission.arrive(request)
    admission.on_turn(10.02)
    assert [first.begun_at, waiting.begun_at, late.begun_at] == pytest.approx([10.0, 10.01, 10.02], abs=1e-9)


async def test_a_rate_under_the_capacity_waits_for_nothing(
    start_known_latency: StartKnownLatency, http: aiohttp.ClientSession
) -> None:
    server = await start_known_latency(ttft=0.0, inter_token=0.0, tokens=1, capacity=20_000)
    for _ in range(5):
        await lines_of(http, server.url)
    assert all(exactness(entry).begun_at == entry.received_at for entry in server.entries)


async def test_a_client_that_leaves_frees_its_slot_and_its_place_in_the_queue(
    start_known_latency: StartKnownLatency, http: aiohttp.ClientSession
) -> None:
    server = await start_known_latency(ttft=30.0, tokens=1, parallel=1)
    running = asyncio.ensure_future(lines_of(http, server.url))
    await eventually(lambda: bool(server.entries))
    waiting = asyncio.ensure_future(lines_of(http, server.url))
    await eventually(lambda: len(server.entries) == 2)
    async with http.put(f"{server.url}/simulator/behaviour", json={"ttft": 0.0}) as response:
        assert response.status == 200
    waiting.cancel()
    running.cancel()
    await asyncio.gather(running, waiting, return_exceptions=True)

    assert (await lines_of(http, server.url))[-1][1]["done"]
    assert [entry.outcome for entry in server.entries] == ["cancelled", "cancelled", "completed"]


async def test_a_full_queue_answers_503(start_known_latency: StartKnownLatency, http: aiohttp.ClientSession) -> None:
    # The first request runs until the third one has come, also on a busy machine.
    server = await start_known_latency(ttft=2.0, tokens=1, parallel=1, max_queue=1)

    async def status() -> int:
        async with http.post(f"{server.url}/api/chat", json=CHAT) as response:
            return response.status

    answers = []
    for count in (1, 2, 3):
        answers.append(asyncio.ensure_future(status()))
        await eventually(lambda count=count: len(server.entries) == count)  # type: ignore[misc]
    assert await asyncio.gather(*answers) == [200, 200, 503]
    assert server.server.ledger.accounts["any/chat"].faulted == 1


async def test_the_ledger_says_by_how_much_the_server_was_late(
    start_known_latency: StartKnownLatency, http: aiohttp.ClientSession
) -> None:
    server = await start_known_latency(ttft=0.02, inter_token=0.0, tokens=1)
    for _ in range(5):
        await lines_of(http, server.url)
    punctual = min(exactness(entry).receive_lag for entry in server.entries)

    answer = asyncio.ensure_future(lines_of(http, server.url))
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(raw_request())
    time.sleep(0.2)  # The request has been sent, and the event loop of the server does not run.
    await asyncio.gather(answer, reader.readuntil(b"0\r\n\r\n"))
    writer.close()

    *_, late = server.entries
    assert exactness(late).receive_lag > 0.15
    assert exactness(late).receive_lag > 10 * punctual


async def test_the_ledger_says_by_how_much_a_chunk_was_late(
    start_known_latency: StartKnownLatency, http: aiohttp.ClientSession
) -> None:
    server = await start_known_latency(ttft=1.0, inter_token=0.0, tokens=1)
    answer = asyncio.ensure_future(lines_of(http, server.url))
    await eventually(lambda: bool(server.entries))

    time.sleep(1.3)  # The event loop of the server does not run.
    await answer

    (entry,) = server.entries
    times = exactness(entry)
    assert times.send_lag > 0.1
    assert (times.first_sent_at or 0.0) - (times.first_due_at or 0.0) > 0.1
    assert server.server.timers.longest_lateness > 0.1


async def test_times_to_first_token_follow_from_the_seed(
    start_known_latency: StartKnownLatency, http: aiohttp.ClientSession
) -> None:
    async def ttfts(seed: int) -> list[float]:
        server = await start_known_latency(ttft=0.002, ttft_cv=0.5, inter_token=0.0, tokens=1, seed=seed)
        for _ in range(200):
            await lines_of(http, server.url)
        return [(exactness(entry).first_due_at or 0.0) - entry.received_at for entry in server.entries]

    first, second, other = await ttfts(1), await ttfts(1), await ttfts(2)
    assert first == pytest.approx(second, abs=1e-9)
    assert first != pytest.approx(other, abs=1e-9)
    assert statistics.mean(first) == pytest.approx(0.002, rel=0.15)
    assert statistics.stdev(first) / statistics.mean(first) == pytest.approx(0.5, rel=0.25)


async def test_the_ledger_is_read_and_cleared_over_http(
    start_known_latency: StartKnownLatency, http: aiohttp.ClientSession
) -> None:
    server = await start_known_latency(ttft=0.0, inter_token=0.0, tokens=1)
    async with http.post(f"{server.url}/api/chat", json=CHAT, headers={"X-Request-ID": "r1"}) as response:
        await response.read()
    async with http.get(f"{server.url}/simulator/ledger?entries=5") as response:
        ledger = await response.json()
    assert ledger["entries"][0]["request_id"] == "r1"
    assert ledger["entries"][0]["exactness"]["connection"] >= 1
    async with http.delete(f"{server.url}/simulator/ledger") as response:
        assert response.status == 200
    assert server.entries == []


async def test_a_fault_is_refused_instead_of_ignored(
    start_known_latency: StartKnownLatency, http: aiohttp.ClientSession
) -> None:
    server = await start_known_latency()
    async with http.put(f"{server.url}/simulator/behaviour", json={"fault": "reset"}) as response:
        assert response.status == 400
        assert "does not inject faults" in (await response.json())["error"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"faults": [{"fault": "reset"}]}, "does not inject faults"),
        ({"jitter": 0.1}, "exact times"),
        ({"memory": 5}, "does not use memory"),
        ({"registry": ["a"], "layers": 2}, "does not use registry and layers"),
        ({"load_factor": 2}, "exact times"),
        ({"inter_token": {"distribution": "gamma", "mean": 1}}, "needs a constant inter_token"),
        ({"ttft": {"distribution": "gamma", "mean": 1}, "ttft_cv": 1}, "a distribution already"),
    ],
)
async def test_a_field_that_would_make_times_inexact_is_refused(
    start_known_latency: StartKnownLatency, http: aiohttp.ClientSession, changes: dict[str, Any], sentence: str
) -> None:
    server = await start_known_latency()
    async with http.put(f"{server.url}/simulator/behaviour", json=changes) as response:
        assert response.status == 400
        assert sentence in (await response.json())["error"]


@pytest.mark.parametrize("wanted", ["abc", "-1", "1.5"])
async def test_a_wrong_number_of_entries_is_refused(
    start_known_latency: StartKnownLatency, http: aiohttp.ClientSession, wanted: str
) -> None:
    server = await start_known_latency()
    async with http.get(f"{server.url}/simulator/ledger?entries={wanted}") as response:
        assert response.status == 400
        assert repr(wanted) in (await response.json())["error"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--capacity", "5"], "--capacity needs --known-latency"),
        (["--ttft-cv", "0.5"], "--ttft-cv needs --known-latency"),
        (["--known-latency", "--load", "1s"], "--load cannot be combined with --known-latency"),
        (["--known-latency", "--capacity=-1"], "is negative"),
    ],
)
def test_flags_that_would_have_no_effect_are_refused(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_settings(arguments)
    assert ended.value.code == 2
    assert sentence in capsys.readouterr().err


async def test_chunks_that_the_client_does_not_read_are_counted(start_known_latency: StartKnownLatency) -> None:
    server = await start_known_latency(ttft=0.0, inter_token=0.0, tokens=2_000_000, tokens_per_chunk=100_000)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
    writer.write(raw_request())
    await eventually(lambda: bool(server.entries) and server.entries[0].outcome == "completed")
    assert exactness(server.entries[0]).blocked > 0

    data = b""
    while not data.endswith(b"0\r\n\r\n"):
        data = data[-16:] + await reader.read(1_000_000)
    writer.close()


async def test_pipelined_requests_are_answered_in_order(start_known_latency: StartKnownLatency) -> None:
    server = await start_known_latency(ttft=0.01, inter_token=0.0, tokens=1)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(raw_request() + b"GET /api/version HTTP/1.1\r\nHost: x\r\n\r\n")
    stream = await reader.readuntil(b"0\r\n\r\n")
    assert b'"done":true' in stream
    assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200 OK")
    writer.close()


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_a_connection_is_closed_if_the_client_asks_for_it(
    start_known_latency: StartKnownLatency, version: bytes
) -> None:
    server = await start_known_latency(ttft=0.0, inter_token=0.0, tokens=2)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(raw_request().replace(b"HTTP/1.1", b"HTTP/" + version).replace(b"Host: x", b"Connection: close"))
    answer = await reader.read()
    assert (b"Transfer-Encoding: chunked" in answer) == (version == b"1.1")
    assert b'"eval_count":2' in answer
    writer.close()


async def test_without_timers_of_the_kernel_the_event_loop_has_them(
    start_known_latency: StartKnownLatency, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmendpoint_simulator.serving.timers.HAS_KERNEL_TIMERS", False)
    server = await start_known_latency(ttft=0.02, inter_token=0.002, tokens=5)
    lines = await lines_of(http, server.url)
    assert len(lines) == 6
    assert lines[0][0] >= server.entries[0].received_at + 0.02


@pytest.mark.alone
def test_a_process_of_its_own_is_exact_to_a_millisecond() -> None:
    """A chunk whose lateness is not in the ledger does not reach the client late either."""
    with known_latency_process("--ttft=20ms", "--inter-token=5ms", "--tokens=3") as server:
        for _ in range(20):
            ask = urllib.request.Request(f"{server.url}/api/chat", json.dumps(CHAT).encode())
            urllib.request.urlopen(ask, timeout=30).read()
        times = [entry["exactness"] for entry in server.entries]
    assert len(times) == 20
    late = [one["first_sent_at"] - one["first_due_at"] for one in times]
    assert statistics.median(late) < 0.001
    assert min(late) >= 0
