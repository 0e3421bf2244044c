"""The client reads responses by the same rules as the proxy: interim heads, old versions, ends of bodies."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from llmendpoint_common.contracts.loadrun import ErrorClass, RunDocument, RunLoad, RunRequest, RunTarget
from llmendpoint_loadjob.client.client import Client
from llmendpoint_loadjob.client.target import parse_target
from llmendpoint_loadjob.dataset.prompts import Prompt
from llmendpoint_loadjob.result.timings import Sample

PROMPT = Prompt("q", "Math", (("user", "hi"),))
TOKEN = b'{"message":{"content":"a"},"done":false}\n'
DONE = b'{"message":{"content":""},"done":true,"prompt_eval_count":3,"eval_count":2}\n'
NDJSON = b"Content-Type: application/x-ndjson\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


CHUNKED = b"HTTP/1.1 200 OK\r\n" + NDJSON + b"Transfer-Encoding: chunked\r\n\r\n"
WHOLE = CHUNKED + chunk(TOKEN) + chunk(DONE) + chunk(b"")
UNTIL_CLOSE = TOKEN + DONE
SIZED = b"HTTP/1.1 200 OK\r\n" + NDJSON + b"Content-Length: %d\r\n\r\n" % len(TOKEN + DONE)

Serve = Callable[..., Awaitable[Client]]


async def read_request(reader: asyncio.StreamReader) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    await reader.readexactly(int(length.partition(b":")[2]))


class Answering:
    """A server that answers each request with the next bytes of a list, and then closes, resets or keeps the connection."""

    def __init__(self, answers: list[bytes], end: str, piece: int) -> None:
        self.answers = answers
        self.end = end
        self.piece = piece
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while self.answers:
                await read_request(reader)
                answer = self.answers.pop(0)
                for start in range(0, len(answer), self.piece):
                    writer.write(answer[start : start + self.piece])
                    await writer.drain()
                    await asyncio.sleep(0)
                if self.end != "keep":
                    break
            if self.end == "reset":
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if self.end == "keep":
                await reader.read()
        writer.close()


@contextlib.asynccontextmanager
async def answering(*answers: bytes, end: str = "close", piece: int = 65536) -> AsyncIterator[tuple[Client, Answering]]:
    behaviour = Answering(list(answers), end, piece)
    server = await asyncio.start_server(behaviour.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    document = RunDocument(RunTarget(url), "m", RunLoad(concurrency=1), request=RunRequest(timeout_seconds=5.0))
    client = Client(parse_target(url), document, clock=time.perf_counter)
    try:
        yield client, behaviour
    finally:
        client.close()
        server.close()
        await server.wait_closed()


async def ask(client: Client) -> Sample:
    sample = Sample("id", "q", "Math", 0.0)
    await client.send(PROMPT, sample)
    return sample


@pytest.mark.parametrize("piece", [1, 65536])
@pytest.mark.parametrize(
    ("answer", "end"),
    [
        (WHOLE, "keep"),
        (SIZED + TOKEN + DONE, "keep"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + WHOLE, "keep"),
        (b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n" + WHOLE, "keep"),
        (b"HTTP/1.1 200 OK\r\n" + NDJSON + b"\r\n" + UNTIL_CLOSE, "close"),
        (b"HTTP/1.0 200 OK\r\n" + NDJSON + b"\r\n" + UNTIL_CLOSE, "close"),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n" + NDJSON + b"\r\n" + UNTIL_CLOSE, "close"),
    ],
    ids=["chunked", "sized", "100", "103", "until close", "HTTP/1.0", "Connection: close"],
)
async def test_an_answer_is_whole(answer: bytes, end: str, piece: int) -> None:
    async with answering(answer, end=end, piece=piece) as (client, _):
        sample = await ask(client)
    assert (sample.error, sample.status, sample.chunks) == (None, 200, 1)
    assert (sample.input_tokens, sample.output_tokens) == (3, 2)
    assert sample.first is not None
    assert sample.sent < sample.first <= sample.ended


@pytest.mark.parametrize(
    ("answer", "end", "error"),
    [
        (CHUNKED + chunk(TOKEN), "close", ErrorClass.TRUNCATED),
        (CHUNKED + chunk(TOKEN) + chunk(DONE), "close", ErrorClass.TRUNCATED),
        (CHUNKED + chunk(TOKEN)[:-9], "close", ErrorClass.TRUNCATED),
        (SIZED + TOKEN, "close", ErrorClass.TRUNCATED),
        (b"HTTP/1.0 200 OK\r\n" + NDJSON + b"\r\n" + TOKEN, "close", ErrorClass.TRUNCATED),
        (b"", "close", ErrorClass.RESET),
        (CHUNKED[:-9], "close", ErrorClass.RESET),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "close", ErrorClass.RESET),
        (CHUNKED + chunk(TOKEN), "reset", ErrorClass.RESET),
        (b"ICY 200 OK\r\n\r\n", "keep", ErrorClass.INVALID_BODY),
        (CHUNKED + b"zz\r\n", "keep", ErrorClass.INVALID_BODY),
        (WHOLE + WHOLE, "keep", ErrorClass.INVALID_BODY),
        (SIZED + TOKEN + DONE + b"surplus", "keep", ErrorClass.INVALID_BODY),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "keep", ErrorClass.INVALID_BODY),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "keep", ErrorClass.INVALID_BODY),
        (b"HTTP/1.1 429 Slow\r\nContent-Length: 4\r\n\r\nslow", "keep", ErrorClass.TOO_MANY_REQUESTS),
        (b"HTTP/1.0 500 Oops\r\n\r\nbroken", "close", ErrorClass.SERVER_ERROR),
    ],
)  # fmt: skip
async def test_an_answer_that_is_not_whole_or_not_http_is_an_error(answer: bytes, end: str, error: ErrorClass) -> None:
    async with answering(answer, end=end) as (client, _):
        assert (await ask(client)).error is error


async def test_a_connection_is_used_again_after_whole_answers_only() -> None:
    async with answering(WHOLE, WHOLE, WHOLE + b"HTTP/1.1 ", WHOLE, end="keep") as (client, server):
        errors = [(await ask(client)).error for _ in range(4)]
        assert errors == [None, None, ErrorClass.INVALID_BODY, None]
        assert server.connections == 2


async def test_an_http_1_0_connection_is_not_used_again() -> None:
    answer = b"HTTP/1.0 200 OK\r\n" + NDJSON + b"Content-Length: %d\r\n\r\n" % len(TOKEN + DONE) + TOKEN + DONE
    async with answering(answer, answer, end="close") as (client, server):
        assert [(await ask(client)).error for _ in range(2)] == [None, None]
        assert server.connections == 2
