"""Upstreams that answer before they have read the request, and close their connection while it is still being sent."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator

import pytest

from llmendpoint_common.contracts.sidecar import SidecarConfig
from support.servers import StartSidecar
from support.waiting import eventually

SIZE = 32 * 1024 * 1024
BODY = b'{"error":"too large"}'
ANSWER = b"HTTP/1.1 413 Request Entity Too Large\r\nContent-Length: 21\r\n\r\n" + BODY
HEAD = b"POST %b HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n"
BLOB = b"/api/blobs/sha256:0"

Ending = Callable[[socket.socket], None]


def close(sock: socket.socket) -> None:
    """Close while a part of the request is unread. The kernel resets the connection."""
    sock.close()


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def close_in_two_steps(sock: socket.socket) -> None:
    """Send FIN, and close when the other side has closed, as Go does."""
    sock.shutdown(socket.SHUT_WR)
    while sock.recv(65536):
        pass
    sock.close()


def stay_open(sock: socket.socket) -> None:
    """Neither read the rest nor close."""


class Impatient:
    """An upstream that answers POST after the head of the request, and then ends the connection.

    It runs in a thread, so that the sidecar can write to a connection before it has read what arrived on it.
    """

    def __init__(self) -> None:
        self.answer = ANSWER
        self.end: Ending = close
        self.reads_first = 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for sock in self._sockets:
            sock.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listening.accept()
                self._sockets.append(sock)
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            received = b""
            while b"\r\n\r\n" not in received:
                received += sock.recv(4096)
            if not received.startswith(b"POST"):
                sock.sendall(b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
                sock.close()
                return
            while len(received) < self.reads_first:
                received += sock.recv(4096)
            sock.sendall(self.answer)
            self.end(sock)


@pytest.fixture
def impatient() -> Iterator[Impatient]:
    upstream = Impatient()
    yield upstream
    upstream.close()


async def upload(port: int, path: bytes, body: bytes, until: bytes = BODY) -> bytes:
    """Send a large body, and return the response. It is read only when all is sent, as many clients do."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(HEAD % (path, len(body)))
        for at in range(0, len(body), 65536):
            writer.write(body[at : at + 65536])
            await writer.drain()
        return await asyncio.wait_for(reader.readuntil(until), 30)
    finally:
        writer.close()


@pytest.mark.parametrize("attempt", range(5))
@pytest.mark.parametrize("end", [close, reset, close_in_two_steps, stay_open])
async def test_an_early_error_response_reaches_a_client_that_is_still_sending(
    start_sidecar: StartSidecar, impatient: Impatient, end: Ending, attempt: int
) -> None:
    impatient.end, impatient.reads_first = end, attempt * 100_000
    sidecar = await start_sidecar(impatient.port)
    answer = await upload(sidecar.port, BLOB, bytes(SIZE))
    assert answer.startswith(b"HTTP/1.1 413 ")
    await eventually(lambda: dict(sidecar.runtime.metrics.totals_by("requests", "code")) == {"413": 1})
    assert dict(sidecar.runtime.metrics.totals_by("requests", "outcome")) == {"upstream_4xx": 1}


@pytest.mark.parametrize("end", [close, reset])
async def test_an_early_error_response_to_a_held_body_reaches_the_client(
    start_sidecar: StartSidecar, impatient: Impatient, end: Ending
) -> None:
    impatient.end = end
    sidecar = await start_sidecar(impatient.port, SidecarConfig(max_waiting=5))
    body = b'{"model":"m","prompt":"%b"}' % (b"x" * SIZE)
    assert (await upload(sidecar.port, b"/api/generate", body)).startswith(b"HTTP/1.1 413 ")


async def test_the_connection_of_the_client_can_be_used_again(
    start_sidecar: StartSidecar, impatient: Impatient
) -> None:
    sidecar = await start_sidecar(impatient.port)
    reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.port)
    for _ in range(3):
        writer.write(HEAD % (BLOB, SIZE) + bytes(SIZE))
        await writer.drain()
        answer = await asyncio.wait_for(reader.readuntil(BODY), 30)
        assert answer.startswith(b"HTTP/1.1 413 ")
    writer.close()


async def test_an_early_response_without_a_length_reaches_the_client(
    start_sidecar: StartSidecar, impatient: Impatient
) -> None:
    """Without a length, a reset cannot be told from a response that was cut off; what was received is forwarded."""
    impatient.answer = b"HTTP/1.1 413 Request Entity Too Large\r\n\r\n" + BODY
    sidecar = await start_sidecar(impatient.port)
    assert (await upload(sidecar.port, BLOB, bytes(SIZE))).startswith(b"HTTP/1.1 413 ")


async def test_a_connection_that_is_reset_without_a_response_is_a_502(
    start_sidecar: StartSidecar, impatient: Impatient
) -> None:
    impatient.answer, impatient.end = b"", reset
    sidecar = await start_sidecar(impatient.port)
    assert (await upload(sidecar.port, BLOB, bytes(1 << 20), b"\r\n")).startswith(b"HTTP/1.1 502 ")
