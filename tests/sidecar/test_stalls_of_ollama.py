"""A real Ollama whose runner is stopped with SIGSTOP: noticed in the stated time, and over when it runs again."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from llmendpoint_common.contracts.sidecar import DeclaredModel, SidecarConfig
from llmendpoint_sidecar.main import Sidecar
from llmendpoint_sidecar.stall.detector import StallTimes
from support.machine.real_ollama import MODEL, RealOllama, running_ollama
from support.servers import StartSidecar
from support.waiting import eventually

AFTER = 4.0
#: The detector's interval, and the time that a busy machine needs.
TOLERANCE = 2.0


@pytest.fixture(scope="module")
def ollama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealOllama]:
    with running_ollama(tmp_path_factory.mktemp("ollama")) as one:
        yield one


def runners() -> set[int]:
    """Return the processes in which an Ollama runs models."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if b"runner" in words[1:2] and state != "Z":
            found.add(int(folder.name))
    return found


def runner_of(ollama: RealOllama) -> int:
    """Return the runner of this Ollama. Others may run on this machine."""
    (one,) = [pid for pid in runners() if b"OLLAMA_HOST=127.0.0.1:%d\0" % ollama.port in environment_of(pid)]
    return one


def environment_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


class Stalled:
    """A sidecar in front of the Ollama. Its runner can be stopped."""

    def __init__(self, http: aiohttp.ClientSession, sidecar: Sidecar, ollama: RealOllama) -> None:
        self.http, self.sidecar, self.ollama = http, sidecar, ollama

    async def ask(self, path: str = "/api/generate", tokens: int = 8, **fields: Any) -> int:
        body = {"model": MODEL, "prompt": "hello", "stream": False, "options": {"num_predict": tokens}, **fields}
        async with self.http.post(f"http://127.0.0.1:{self.sidecar.port}{path}", json=body) as response:
            await response.read()
            return response.status

    def stop_runner(self) -> int:
        runner = runner_of(self.ollama)
        os.kill(runner, signal.SIGSTOP)
        return runner


@pytest.fixture
async def stalled(ollama: RealOllama, start_sidecar: StartSidecar, http: aiohttp.ClientSession) -> Stalled:
    config = SidecarConfig(models=(DeclaredModel(MODEL),))
    sidecar = await start_sidecar(ollama.port, config, stall_after=AFTER, parallel=2)
    await eventually(lambda: sidecar.status().ready, 60)
    return Stalled(http, sidecar, ollama)


async def test_a_stopped_runner_is_noticed_and_ollama_recovers(stalled: Stalled) -> None:
    clock = asyncio.get_running_loop().time
    assert await stalled.ask() == 200
    runner = stalled.stop_runner()
    try:
        began = clock()
        status = await stalled.ask()
        noticed = clock() - began
        assert status == 504
        assert noticed < AFTER + TOLERANCE
        assert stalled.sidecar.status().stalled is not None
        # Ollama itself still answers.
        async with stalled.http.get(f"{stalled.ollama.url}/api/tags") as response:
            assert response.status == 200
        # When the waiting requests have ended, Ollama replaces the runner; if not, it continues here.
    finally:
        with_runner = runner in runners()
        if with_runner:
            os.kill(runner, signal.SIGCONT)
    await eventually(lambda: stalled.sidecar.status().ready)
    print(f"noticed after {noticed:.1f} s, ready after {clock() - began:.1f} s")
    assert await stalled.ask() == 200


async def test_with_a_free_slot_it_is_noticed_earlier(stalled: Stalled) -> None:
    clock = asyncio.get_running_loop().time
    times = StallTimes(AFTER)
    # Two streams at once show that the model has two slots.
    assert await asyncio.gather(*(stalled.ask(tokens=300, stream=True) for _ in range(2))) == [200, 200]
    runner = stalled.stop_runner()
    try:
        began = clock()
        assert await stalled.ask(stream=True) == 504
        assert clock() - began < times.suspicion + times.answer + TOLERANCE
    finally:
        if runner in runners():
            os.kill(runner, signal.SIGCONT)
    await eventually(lambda: stalled.sidecar.status().ready)


async def test_healthy_work_of_a_real_ollama_is_never_a_hang(stalled: Stalled) -> None:
    """Long answers without a stream, a full queue, other options of the runner, and embeddings."""
    long = [stalled.ask(tokens=900) for _ in range(4)]
    embeddings = [stalled.ask("/api/embed", input=["one two three"] * 50) for _ in range(2)]
    others = [stalled.ask(options={"num_predict": 50, "num_ctx": 512}) for _ in range(2)]
    statuses = await asyncio.gather(*long, *embeddings, *others)
    assert set(statuses[:4]) == set(statuses[6:]) == {200}
    assert stalled.sidecar.runtime.metrics.total("upstream_stalls") == 0
