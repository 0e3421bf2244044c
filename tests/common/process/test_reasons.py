"""Reasons of errors are words, without the numbers of errors."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
import urllib.error

import aiohttp
import pytest

from llmendpoint_common.process.reasons import reason_of
from llmendpoint_common.process.sockets import ListenError

REFUSED = ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (REFUSED, "Connection refused"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('::1', 1, 0, 0)"), "Connection refused"),
        (urllib.error.URLError(REFUSED), "Connection refused"),
        (urllib.error.URLError(TimeoutError("timed out")), "timed out"),
        (OSError(f"Multiple exceptions: {REFUSED}, {REFUSED}"), "Connection refused"),
        (OSError("a worker process did not start"), "a worker process did not start"),
        (FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "/x"), "/x: No such file or directory"),
        (ListenError(errno.EADDRINUSE, "cannot listen on :1: Address already in use"),
         "cannot listen on :1: Address already in use"),
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version"), "[SSL: WRONG_VERSION_NUMBER] wrong version"),
        (aiohttp.ClientOSError(errno.ECONNRESET, "Connection reset by peer"), "Connection reset by peer"),
        (aiohttp.ServerDisconnectedError(), "Server disconnected"),
        (RuntimeError(f"it failed: {REFUSED}\n  twice"), "it failed: Connection refused twice"),
        (TimeoutError(), "timed out"),
        (ValueError(), "ValueError"),
    ],
)  # fmt: skip
def test_a_reason_is_a_line_of_words(error: BaseException, reason: str) -> None:
    assert reason_of(error) == reason


async def test_the_reason_of_a_connection_that_fails_is_that_of_the_system() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectorError) as failed:
            await session.get(f"http://127.0.0.1:{port}")
    assert reason_of(failed.value) == "Connection refused"
    with pytest.raises(OSError) as refused:  # noqa: PT011 - its number depends on the event loop
        await asyncio.open_connection("127.0.0.1", port)
    assert reason_of(refused.value) == "Connection refused"
