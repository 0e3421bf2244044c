"""Pulls, pushes and uploads of the simulator: progress, speed, silences, and failures."""

from __future__ import annotations

import asyncio
import hashlib
import json
from itertools import pairwise
from typing import Any

import aiohttp
import pytest

from support.servers import RunningSimulator, StartSimulator

MODEL = "other:1b"


async def pull(http: aiohttp.ClientSession, simulator: RunningSimulator, **rest: Any) -> list[tuple[float, Any]]:
    """Return the lines of a pull, each with the time at which it was read."""
    clock = asyncio.get_running_loop().time
    async with http.post(f"{simulator.url}/api/pull", json={"model": MODEL, **rest}) as response:
        assert response.status == 200
        return [(clock(), json.loads(line)) async for line in response.content]


async def test_a_pull_reports_its_layers_and_how_far_each_of_them_is(
    start_simulator: StartSimulator, http: aiohttp.ClientSession
) -> None:
    simulator = await start_simulator(registry=[MODEL], layers=4, sizes={MODEL: 5_000_000})
    lines = [line for _, line in await pull(http, simulator)]
    assert [line["status"] for line in (lines[0], *lines[-3:])] == [
        "pulling manifest", "verifying sha256 digest", "writing manifest", "success"
    ]  # fmt: skip
    totals = {line["digest"]: line["total"] for line in lines if "digest" in line}
    assert list(totals.values()) == [5_000_000, 500, 500, 500]
    weights = [line for line in lines if line.get("total") == 5_000_000]
    assert "completed" not in weights[0]
    assert [line["completed"] for line in weights[1:]] == sorted(line["completed"] for line in weights[1:])
    assert weights[-1]["completed"] == 5_000_000
    async with http.get(f"{simulator.url}/api/tags") as response:
        assert {model["name"]: model["size"] for model in (await response.json())["models"]}[MODEL] == 5_000_000


async def test_a_pull_has_a_speed(start_simulator: StartSimulator, http: aiohttp.ClientSession) -> None:
    simulator = await start_simulator(registry=[MODEL], sizes={MODEL: 3_000_000}, pull_speed=6_000_000.0)
    lines = await pull(http, simulator)
    assert lines[-1][0] - lines[0][0] == pytest.approx(0.5, abs=0.2)
    assert 7 <= sum("digest" in line for _, line in lines) <= 10


async def test_a_pull_is_silent_while_digests_are_verified(
    start_simulator: StartSimulator, http: aiohttp.ClientSession
) -> None:
    simulator = await start_simulator(registry=[MODEL], verify=0.3)
    lines = await pull(http, simulator)
    times = {line["status"]: time for time, line in lines}
    assert times["writing manifest"] - times["verifying sha256 digest"] > 0.25


@pytest.mark.parametrize(
    ("fault", "sentence", "lines"),
    [
        ("manifest_missing", "pull model manifest: file does not exist", 2),
        ("no_location", "http: no Location header in response", 2),
        ("disk_full", "no space left on device", 8),
        ("digest_mismatch", "digest mismatch, file must be downloaded again: want sha256:", 14),
    ],
)
async def test_a_pull_fails_inside_its_stream(
    start_simulator: StartSimulator, http: aiohttp.ClientSession, fault: str, sentence: str, lines: int
) -> None:
    simulator = await start_simulator(registry=[MODEL, "third:1b"], faults=[{"fault": fault, "model": MODEL}])
    told = [line for _, line in await pull(http, simulator)]
    assert len(told) == lines
    assert sentence in told[-1]["error"]
    assert MODEL not in simulator.simulator.store.present
    assert [line for _, line in await pull(http, simulator, model="third:1b")][-1] == {"status": "success"}


async def test_a_pull_that_fails_and_is_not_streamed_has_a_status(
    start_simulator: StartSimulator, http: aiohttp.ClientSession
) -> None:
    simulator = await start_simulator(registry=[MODEL], fault="disk_full")
    async with http.post(f"{simulator.url}/api/pull", json={"model": MODEL, "stream": False}) as response:
        assert response.status == 500
        assert "no space left" in (await response.json())["error"]


async def test_a_pull_can_stall(start_simulator: StartSimulator, http: aiohttp.ClientSession) -> None:
    simulator = await start_simulator(
        registry=[MODEL], faults=[{"fault": "stall", "route": "/api/pull", "seconds": 0.3}]
    )
    lines = await pull(http, simulator)
    gaps = [later - earlier for (earlier, _), (later, _) in pairwise(lines)]
    assert max(gaps) > 0.25
    assert lines[-1][1] == {"status": "success"}


async def test_a_new_revision_removes_the_old_layers(
    start_simulator: StartSimulator, http: aiohttp.ClientSession
) -> None:
    simulator = await start_simulator(registry=[MODEL])
    await pull(http, simulator)
    simulator.behave(revisions={MODEL: "2"})
    statuses = [line["status"] for _, line in await pull(http, simulator)]
    assert statuses[-2:] == ["removing unused layers", "success"]


async def test_a_blob_that_exists_is_answered_before_its_body(start_simulator: StartSimulator) -> None:
    simulator = await start_simulator()
    digest = f"sha256:{hashlib.sha256(b'hello').hexdigest()}"
    head = f"POST /api/blobs/{digest} HTTP/1.1\r\nHost: localhost\r\nContent-Length: "
    reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port)
    writer.write(f"{head}5\r\n\r\nhello".encode())
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 201")
    # A small rest is read, and the connection is used again.
    writer.write(f"{head}5\r\n\r\n".encode())
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    writer.write(b"helloGET /api/version HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert b"0.17.4" in await reader.readuntil(b"}")
    # A large rest is not read.
    writer.write(f"{head}{10**9}\r\n\r\n".encode())
    answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"Connection: close" in answer
    writer.close()


async def test_a_blob_with_a_wrong_digest_is_refused_after_its_body(start_simulator: StartSimulator) -> None:
    simulator = await start_simulator()
    reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port)
    writer.write(
        f"POST /api/blobs/sha256:{'0' * 64} HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
        "Content-Length: 10\r\n\r\nhello".encode()
    )
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.readexactly(1), 0.1)
    writer.write(b"hello")
    assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 400")
    writer.close()
