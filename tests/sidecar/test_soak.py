"""All attacks on memory at the same time, against a sidecar in its own process with a small memory limit.

The attack lasts for some seconds. LLMENDPOINT_SOAK_SECONDS sets another time.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import random
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import aiohttp
import pytest
import zstandard

from llmendpoint_common.process.sockets import bind_sockets, port_of
from llmendpoint_common.process.units import Address
from llmendpoint_sidecar.budget import budget_of
from support.servers import StartSimulator

KIB, MIB = 1024, 1024 * 1024
SECONDS = float(os.environ.get("LLMENDPOINT_SOAK_SECONDS", "4"))
LIMIT = 256 * MIB
BUDGET = budget_of(LIMIT, 4096)
#: The command of a sidecar in a container with this limit.
PROGRAM = f"""
from llmendpoint_sidecar import budget, main
budget.memory_limit = lambda: {LIMIT}
raise SystemExit(main.main())
"""
HOSTILE = "abcde"


class Target:
    """A running sidecar, its memory, and connections of hostile clients to it."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process = process
        self.port = port

    def peak_bytes(self) -> int:
        """Return the largest resident memory since the process started."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * KIB

    async def attack(self, pieces: Iterator[bytes]) -> None:
        """Send pieces, one every half second after the first, until the sidecar answers or closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        answer = asyncio.ensure_future(reader.read(1))
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.wait((answer,), timeout=0.5)
                if answer.done():
                    break
        finally:
            answer.cancel()
            writer.transport.abort()
            await asyncio.gather(answer, return_exceptions=True)


@pytest.fixture
async def target(start_simulator: StartSimulator, tmp_path: Path) -> AsyncIterator[Target]:
    simulator = await start_simulator()
    keys = tmp_path / "keys"
    keys.mkdir()
    for tenant in (*HOSTILE, "good"):
        (keys / tenant).write_text(f"key-of-{tenant}")
    config = tmp_path / "config.json"
    limits = {"maxWaiting": 256, "modelManagement": "Forbidden", "defaultTenant": {"tokensPerMinute": 10**9}}
    config.write_text(json.dumps(limits))
    port, admin_port = free_port(), free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, "--listen", f"127.0.0.1:{port}", "--admin-listen", f"127.0.0.1:{admin_port}",
        "--upstream", simulator.url, "--config", str(config), "--keys", str(keys), "--log-level", "error",
    )  # fmt: skip
    async with aiohttp.ClientSession() as http:
        for _ in range(200):
            with contextlib.suppress(aiohttp.ClientError):
                async with http.get(f"http://127.0.0.1:{admin_port}/livez"):
                    break
            await asyncio.sleep(0.05)
    yield Target(process, port)
    process.kill()
    await process.wait()


def free_port() -> int:
    sockets = bind_sockets(Address("127.0.0.1", 0))
    port = port_of(sockets)
    sockets[0].close()
    return port


def head(framing: str, *headers: str) -> bytes:
    key = f"x-api-key: key-of-{random.choice(HOSTILE)}"
    lines = ["POST /api/chat HTTP/1.1", "Host: localhost", key, framing, *headers, "", ""]
    return "\r\n".join(lines).encode()


def trickled(size: int, sent: int) -> Iterator[bytes]:
    """A body of which the last bytes never arrive."""
    yield head(f"Content-Length: {size}") + b'{"model":"' + b"m" * sent
    yield from itertools.repeat(b"m")


def chunked(size: int, chunk: int) -> Iterator[bytes]:
    """A body in small chunks, which does not end."""
    yield head("Transfer-Encoding: chunked") + (b"%x\r\n%b\r\n" % (chunk, b"[" * chunk)) * (size // chunk)
    yield from itertools.repeat(b"1\r\n[\r\n")


def whole(body: bytes, *headers: str) -> Iterator[bytes]:
    yield head(f"Content-Length: {len(body)}", *headers) + body
    yield from itertools.repeat(b"")


#: 63 MiB, with the largest window that is accepted.
BOMB = zstandard.ZstdCompressor(
    compression_params=zstandard.ZstdCompressionParameters.from_level(1, window_log=23)
).compress(b'{"model":"none"' + b',"0":0' * (63 * MIB // 6) + b"}")
FRAMES = zstandard.compress(b'{"x":1') * 20_000
DEEP = b'{"model":"none","x":' + b"[" * (6 * MIB)

ATTACKS: dict[str, tuple[int, Callable[[], Iterator[bytes]]]] = {
    "large bodies that trickle": (40, lambda: trickled(BUDGET.body_bytes, BUDGET.body_bytes // 2)),
    "small bodies that trickle": (300, lambda: trickled(200 * KIB, 190 * KIB)),
    "tiny bodies that trickle": (200, lambda: trickled(4 * KIB, 3 * KIB)),
    "chunks of two bytes": (4, lambda: chunked(256 * KIB, 2)),
    "chunks of a hundred bytes": (10, lambda: chunked(8 * MIB, 100)),
    "compressed fields": (20, lambda: whole(BOMB, "Content-Encoding: zstd")),
    "compressed frames": (10, lambda: whole(FRAMES, "Content-Encoding: zstd")),
    "deep bodies": (10, lambda: whole(DEEP)),
    "pipelined requests": (20, lambda: iter([b"GET /api/tags HTTP/1.1\r\nHost: localhost\r\nx-api-key: key-of-a\r\n\r\n" * 3000])),
    "heads that do not end": (200, lambda: iter([b"GET / HTTP/1.1\r\nX: " + b"x" * (60 * KIB), b"x", b"x"])),
}  # fmt: skip


async def repeat(attack: Callable[[], Awaitable[object]], until: float) -> None:
    """Repeat an attack until a time. The attacked process may refuse or cut any of them."""
    while time.monotonic() < until:
        with contextlib.suppress(ConnectionError, OSError):
            await attack()


async def test_all_attacks_together_stay_within_the_memory_limit_and_others_are_served(target: Target) -> None:
    until = time.monotonic() + SECONDS
    attackers = [
        asyncio.create_task(repeat(lambda make=make: target.attack(make()), until))  # type: ignore[misc]
        for count, make in ATTACKS.values()
        for _ in range(count)
    ]
    body = {"model": "simulated", "messages": [{"role": "user", "content": "hello"}], "stream": False}
    statuses: list[int] = []
    timeout = aiohttp.ClientTimeout(total=20)
    async with aiohttp.ClientSession(headers={"x-api-key": "key-of-good"}, timeout=timeout) as http:
        while time.monotonic() < until or not statuses:
            async with http.post(f"http://127.0.0.1:{target.port}/api/chat", json=body) as response:
                await response.read()
                statuses.append(response.status)
    for attacker in attackers:
        attacker.cancel()
    await asyncio.gather(*attackers, return_exceptions=True)
    assert target.process.returncode is None
    assert set(statuses) == {200}
    # An eighth of the limit is for buffers of the kernel, which do not count as memory of the process.
    assert target.peak_bytes() < LIMIT * 7 // 8, f"{target.peak_bytes() / MIB:.0f} MiB"
