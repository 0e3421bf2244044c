"""CPU time of one turn of the event loop while hostile requests are read: streams of other clients wait no longer."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import socket
import time

import pytest
import zstandard

from llmendpoint_common.contracts.sidecar import SidecarConfig, TenantLimits
from support.servers import StartSidecar

MIB = 1024 * 1024
#: Every request is refused after its body was read, so that no upstream takes part.
REFUSING = SidecarConfig(default_tenant=TenantLimits(allowed_models=("allowed",), tokens_per_minute=10**9))
FORM = "multipart/form-data; boundary=x"
MODEL_PART = b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nnone\r\n'
FILE_PART = b'--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'


class Turns:
    """Measures the CPU time of this thread between two turns of the event loop.

    It counts neither other processes nor the garbage collection of the objects of earlier tests, which takes 0.3 s.
    """

    def __init__(self) -> None:
        gc.collect()
        gc.freeze()
        self.longest = 0.0
        self._loop = asyncio.get_running_loop()
        self._then = time.thread_time()
        self._handle = self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        now = time.thread_time()
        self.longest = max(self.longest, now - self._then)
        self._then = now
        self._handle = self._loop.call_soon(self._turn)

    def stop(self) -> float:
        self._handle.cancel()
        gc.unfreeze()
        return self.longest


def request(body: bytes, path: str = "/api/chat", *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def chunked(body: bytes, size: int) -> bytes:
    head = b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    pieces = (body[at : at + size] for at in range(0, len(body), size))
    return head + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def filled(filling: bytes, size: int) -> bytes:
    """Return a JSON object of about `size` bytes that names a model at its end."""
    return b'{"x":"1",' + filling * (size // len(filling)) + b'"model":"none"}'


HOSTILE = {
    "63 MiB of fields in a small zstd body": request(zstandard.compress(filled(b'"0":0,', 63 * MIB)), "/api/chat", "Content-Encoding: zstd"),
    "63 MiB of spaces in a small zstd body": request(zstandard.compress(filled(b" " * 1024, 63 * MIB)), "/api/chat", "Content-Encoding: zstd"),
    "repeated models in a small zstd body": request(zstandard.compress(filled(b'"model":"m",', 16 * MIB)), "/api/chat", "Content-Encoding: zstd"),
    "100,000 zstd frames": request(zstandard.compress(b" ") * 100_000 + zstandard.compress(b'{"model":"none"}'), "/api/chat", "Content-Encoding: zstd"),
    "deep arrays": request(filled(b'"x":' + b"[" * 9000 + b"]" * 9000 + b",", 16 * MIB)),
    "arrays that are never closed": request(b'{"model":"none","x":' + b"[" * (16 * MIB)),
    "fields": request(filled(b'"0":0,', 16 * MIB)),
    "repeated models": request(filled(b'"model":"m",', 8 * MIB)),
    "escapes": request(filled(b'"' + b"\\\\" * 1000 + b'":"\\"",', 16 * MIB)),
    "quotes": request(filled(b'"":"",', 16 * MIB)),
    "chunks of one byte": chunked(filled(b" ", 256 * 1024), 1),
    "chunks of one byte that name a model often": chunked(filled(b'"model":"m",', 256 * 1024), 1),
    "line ends in a part of a form": request(FILE_PART + b"\r\n" * (2 * MIB) + b"\r\n" + MODEL_PART + b"--x--\r\n", "/v1/audio/transcriptions", f"Content-Type: {FORM}"),
    "boundaries in a part of a form": request(FILE_PART + b"--x" * MIB + b"\r\n" + MODEL_PART + b"--x--\r\n", "/v1/audio/transcriptions", f"Content-Type: {FORM}"),
    "nested forms": request(b"".join(b"--x\r\nContent-Type: multipart/mixed; boundary=%d\r\n\r\n--%d\r\n" % (n, n) for n in range(2000)) + MODEL_PART + b"--x--\r\n", "/v1/audio/transcriptions", f"Content-Type: {FORM}"),
    "a long form without parts": request(b"a" * (16 * MIB), "/v1/audio/transcriptions", f"Content-Type: {FORM}"),
    "a huge name of a model": request(b'{"model":"' + b"n" * (16 * MIB) + b'"}'),
    "bytes without meaning": request(bytes(range(256)) * (32 * 1024)),
}  # fmt: skip


def converse(port: int, data: bytes) -> bytes:
    """Send a request in a thread, so that the event loop only does the work of the sidecar. Return its status."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as sock:
        # It may be refused before its end.
        with contextlib.suppress(ConnectionError):
            sock.sendall(data)
        return sock.recv(4096).split(b" ")[1]


@pytest.mark.parametrize("name", HOSTILE)
async def test_no_request_keeps_the_event_loop_busy(start_sidecar: StartSidecar, name: str) -> None:
    sidecar = await start_sidecar(1, REFUSING)
    turns = Turns()
    status = await asyncio.to_thread(converse, sidecar.port, HOSTILE[name])
    assert turns.stop() < 0.05
    # 502: Ollama would refuse it, so it would be forwarded.
    assert status in (b"400", b"403", b"413", b"502")


class Reading:
    """An upstream in a thread. It reads one request with a body of a known size, and answers it."""

    def __init__(self, size: int) -> None:
        self.received = 0
        self._size = size

    def serve(self, listening: socket.socket) -> None:
        while not self.received:
            sock, _ = listening.accept()
            with sock:
                head = sock.recv(65536)
                if head.startswith(b"POST"):
                    self._read(sock, len(head.partition(b"\r\n\r\n")[2]))

    def _read(self, sock: socket.socket, received: int) -> None:
        while received < self._size:
            received += len(sock.recv(MIB))
        self.received = received
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")


async def test_a_large_body_that_is_admitted_does_not_either(start_sidecar: StartSidecar) -> None:
    body = json.dumps({"model": "m", "prompt": "x" * (48 * MIB)}).encode()
    data, upstream = request(body), Reading(len(body))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        serving = asyncio.create_task(asyncio.to_thread(upstream.serve, listening))
        sidecar = await start_sidecar(listening.getsockname()[1], SidecarConfig(max_waiting=9))
        turns = Turns()
        status = await asyncio.to_thread(converse, sidecar.port, data)
        assert turns.stop() < 0.05
        await serving
    assert (status, upstream.received) == (b"200", len(body))
    assert sidecar.proxy_service.admission.held_memory.used == 0
