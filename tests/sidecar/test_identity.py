"""Bytes through the proxy equal those of a direct connection, for recorded exchanges of Ollama 0.17.4 and random ones.

The exchanges were recorded with `scripts/record_exchanges.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from support.servers import StartSidecar
from support.waiting import eventually

EXCHANGES: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("exchanges.json").read_text())
#: The headers that the proxy adds; Host is Ollama's own.
MADE = (b"x-request-id", b"via")


class Player:
    """An upstream that replays recorded responses, in the recorded or in random pieces, and keeps received requests."""

    def __init__(self, source: random.Random | None) -> None:
        self.answer: list[bytes] = []
        self.got: list[bytes] = []
        self._random = source

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await self._one(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.strip().split(b"\r\n")[1:])
        body = await reader.readexactly(int(fields.get(b"content-length", b"0")))
        if b"user-agent" in fields:
            # The sidecar polls the models.
            listed = json.dumps({"models": [{"name": "tiny:latest", "model": "tiny:latest", "size": 1, "digest": "0"}]})
            writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(listed)}\r\n\r\n{listed}".encode())
            return
        self.got.append(head + body)
        for piece in self._pieces():
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.001)

    def _pieces(self) -> list[bytes]:
        if self._random is None:
            return self.answer
        data, pieces = b"".join(self.answer), []
        while data:
            size = self._random.choice((1, 2, 3, 7, 40, 300, 5000))
            pieces.append(data[:size])
            data = data[size:]
        return pieces


async def ask(port: int, request: bytes, size: int) -> bytes:
    """Send a request, and return the `size` bytes of its response. Further bytes are an error."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    try:
        async with asyncio.timeout(30):
            answer = await reader.readexactly(size)
        behind = b""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.01):
                behind = await reader.read(1)
        assert not behind
    finally:
        writer.close()
    return answer


def lines_of(request: bytes) -> tuple[Counter[bytes], bytes]:
    """Return the lines of a request, without those that the proxy sets, and its body."""
    head, _, body = request.partition(b"\r\n\r\n")
    own = (*MADE, b"host")
    return Counter(line for line in head.split(b"\r\n") if line.partition(b":")[0].lower() not in own), body


@pytest.mark.parametrize("pieces", ["as recorded", "at random"])
@pytest.mark.parametrize("name", EXCHANGES)
async def test_a_recorded_exchange_is_the_same_through_the_proxy(
    stack: AsyncExitStack, start_sidecar: StartSidecar, name: str, pieces: str
) -> None:
    player = Player(None if pieces == "as recorded" else random.Random(name))
    server = await asyncio.start_server(player.serve, "127.0.0.1", 0)
    stack.callback(server.close)
    port = int(server.sockets[0].getsockname()[1])
    sidecar = await start_sidecar(port)
    await eventually(lambda: sidecar.runtime.watch.up)

    request = EXCHANGES[name]["request"].encode("latin-1")
    player.answer = [piece.encode("latin-1") for piece in EXCHANGES[name]["response"]]
    whole = b"".join(player.answer)
    direct = await ask(port, request, len(whole))
    assert direct == whole
    # `Connection` belongs to one connection (RFC 9110, 7.6.1). All other lines are equal, in the same order.
    expected = whole.replace(b"Connection: keep-alive\r\n", b"", 1)
    assert await ask(sidecar.port, request, len(expected)) == expected
    sent, received = (lines_of(got) for got in player.got)
    assert received == sent

    await eventually(lambda: sidecar.runtime.metrics.total("requests") == 1)
    counted = (sidecar.runtime.metrics.total("prompt_tokens"), sidecar.runtime.metrics.total("generation_tokens"))
    assert counted == tokens_of(whole)
    assert sidecar.runtime.metrics.total("meter_failures") == 0


def tokens_of(answer: bytes) -> tuple[int, int]:
    """Return prompt and generated tokens of a recorded response, read without the product's code."""
    body = re.sub(r"\r\n[0-9a-f]+\r\n", "\n", "\r\n" + answer.partition(b"\r\n\r\n")[2].decode("latin-1"))
    found = [json.loads(text) for text in re.findall(r"^(?:data: )?(\{.*\})\s*$", body, re.MULTILINE)]
    prompt = generated = 0
    for item in found:
        answered = item.get("response")
        usage = item.get("usage") or (answered.get("usage") if isinstance(answered, dict) else None)
        if usage:
            prompt = usage.get("prompt_tokens", usage.get("input_tokens", 0))
            generated = usage.get("completion_tokens", usage.get("output_tokens", 0))
        elif "total_duration" in item:
            prompt, generated = item.get("prompt_eval_count", 0), item.get("eval_count", 0)
    return prompt, generated
