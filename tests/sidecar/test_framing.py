"""Random requests, pipelined and split anywhere: the upstream gets exactly these, and the responses are in order."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator

import pytest

from support.servers import StartSidecar


class Echo:
    """A strict upstream. It parses requests itself, and returns each request as the response, in random framing."""

    def __init__(self, seed: int) -> None:
        self.seen: list[tuple[str, str, str]] = []
        self._random = random.Random(seed)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await self._one(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        line, *fields = head.strip().split("\r\n")
        method, path, version = line.split(" ")
        assert version == "HTTP/1.1"
        headers = {name.lower(): value.strip() for name, value in (field.split(":", 1) for field in fields)}
        assert not {"content-length", "transfer-encoding"} <= headers.keys()
        body = await self._body(reader, headers)
        if path.startswith("/random/"):
            self.seen.append((method, path, hashlib.sha256(body).hexdigest()))
        answer = f"{method} {path} {hashlib.sha256(body).hexdigest()}".encode()
        for piece in self._framed(answer):
            writer.write(piece)
            await asyncio.sleep(0)

    @staticmethod
    async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
        if "content-length" in headers:
            return await reader.readexactly(int(headers["content-length"]))
        body = b""
        if headers.get("transfer-encoding") == "chunked":
            while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
                body += await reader.readexactly(size)
                assert await reader.readexactly(2) == b"\r\n"
            while await reader.readuntil(b"\r\n") != b"\r\n":
                pass
        return body

    def _framed(self, answer: bytes) -> list[bytes]:
        if self._random.random() < 0.5:
            whole = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(answer), answer)
        else:
            parts = split(answer, self._random)
            chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
            whole = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
        return split(whole, self._random)


def split(data: bytes, source: random.Random) -> list[bytes]:
    parts, at = [], 0
    while at < len(data):
        size = source.choice((1, 2, 5, 17, 100, 4000))
        parts.append(data[at : at + size])
        at += size
    return parts


def random_request(index: int, source: random.Random) -> tuple[bytes, tuple[str, str, str]]:
    """Return the bytes of a request, and the request that the upstream should get."""
    method = source.choice(("GET", "POST", "PUT", "DELETE"))
    path = f"/random/{index}"
    body = source.randbytes(source.choice((0, 1, 30, 3000))) if method != "GET" else b""
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\n"
    if not body and method == "GET":
        data = f"{head}\r\n".encode()
    elif source.random() < 0.5:
        data = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    else:
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in split(body, source))
        data = f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunks + b"0\r\n\r\n"
    return data, (method, path, hashlib.sha256(body).hexdigest())


@pytest.fixture
async def echo_port(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Echo, int]]:
    echo = Echo(request.param)
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
    yield echo, int(server.sockets[0].getsockname()[1])
    server.close()


@pytest.mark.parametrize("echo_port", range(25), indirect=True, ids=str)
async def test_pipelined_requests_are_neither_mixed_nor_moved(
    echo_port: tuple[Echo, int], start_sidecar: StartSidecar, request: pytest.FixtureRequest
) -> None:
    echo, port = echo_port
    source = random.Random(request.node.callspec.params["echo_port"])
    sidecar = await start_sidecar(port)
    requests = [random_request(index, source) for index in range(12)]
    reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.port)
    for part in split(b"".join(data for data, _ in requests), source):
        writer.write(part)
        if source.random() < 0.1:
            await asyncio.sleep(0)
    answers = [await asyncio.wait_for(read_answer(reader), 30) for _ in requests]
    writer.close()
    assert answers == [" ".join(expected) for _, expected in requests]
    assert echo.seen == [expected for _, expected in requests]


async def read_answer(reader: asyncio.StreamReader) -> str:
    head = await reader.readuntil(b"\r\n\r\n")
    if b"Content-Length: " in head:
        size = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
        return (await reader.readexactly(size)).decode()
    body = b""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readexactly(2)
    return body.decode()
