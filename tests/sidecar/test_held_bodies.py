"""Held bodies: what they take in memory, who may hold how much, and for how long. Time is virtual."""

from __future__ import annotations

import itertools
import json
import tracemalloc
from dataclasses import replace

import pytest
import zstandard

from llmendpoint_common.contracts.sidecar import IncludeUsage, SidecarConfig, TenantLimits
from llmendpoint_sidecar.budget import DEFAULT_BUDGET, SMALL_BODY_BYTES
from llmendpoint_sidecar.inputs.keys import KeyTable, digest
from llmendpoint_sidecar.proxy.connection import ClientConnection
from llmendpoint_sidecar.proxy.timeouts import Timeouts
from llmendpoint_sidecar.proxy.upstream import UpstreamConnection
from support.waiting import eventually
from support.wire.data_path import Clock, DataPath, Wire

KIB, MIB = 1024, 1024 * 1024
HOLDING = SidecarConfig(max_waiting=100)
KEYS = KeyTable(b"pepper", {digest(b"pepper", f"key-of-{tenant}".encode()): tenant for tenant in "abcdefgh"})
#: A piece as uvloop receives it.
READ = 256_000


def head(length: int | None, tenant: str = "a", path: str = "/api/chat", *headers: str) -> bytes:
    framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    lines = [f"POST {path} HTTP/1.1", "Host: h", f"x-api-key: key-of-{tenant}", framing, *headers, "", ""]
    return "\r\n".join(lines).encode()


def body_of(size: int, **fields: object) -> bytes:
    """Return a body of this size."""
    start, end = json.dumps({"model": "m", **fields}).encode()[:-1] + b',"prompt":"', b'"}'
    return start + b"x" * (size - len(start) - len(end)) + end


class Held(DataPath):
    """A data path that holds bodies, on a clock that the test sets."""

    def __init__(self, config: SidecarConfig = HOLDING, keys: KeyTable | None = KEYS, **bounds: int) -> None:
        self.clock = Clock()
        super().__init__(config, self.clock, replace(DEFAULT_BUDGET, **bounds), keys)

    @property
    def used(self) -> int:
        return self.admission.held_memory.used

    def reads(self) -> bool:
        """Return whether the first client is read."""
        return self.wire.reading

    def send(self, data: bytes, client: ClientConnection | None = None) -> None:
        """Send bytes in pieces as a socket delivers them."""
        for at in range(0, len(data), READ):
            (client or self.client).data_received(data[at : at + READ])

    def begin(self, tenant: str, length: int, sent: int) -> Wire:
        """Send a part of a body on another connection. Return what is written to its client."""
        client, wire = self.connect()
        self.send(head(length, tenant) + body_of(length)[:sent], client)
        return wire

    def chat(self, tenant: str, size: int = 2000) -> bytes:
        """Send a whole request on another connection. Return the status, or b"forwarded"."""
        wire = self.begin(tenant, size, size)
        return wire.written.split(b" ")[1] if wire.written else b"forwarded"

    def sleep(self, seconds: float) -> None:
        self.clock.now += seconds
        for connection in list(self.proxy.connections):
            connection.check_timeouts(self.clock.now, Timeouts())


# ---- memory


@pytest.mark.parametrize("size", [2, 100, 1000, 10_000])
def test_tiny_pieces_take_as_much_memory_as_large_ones(size: int) -> None:
    path = Held(keys=None)
    body = body_of(200 * KIB)
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    path.client.data_received(head(None))
    tracemalloc.start()
    try:
        for at in range(0, len(parts), 1000):
            path.client.data_received(b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts[at : at + 1000]))
        now, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(body) < now < 1.2 * len(body)
    assert now - 8 * KIB < path.used < 1.2 * len(body)


def test_most_bodies_are_not_even_counted() -> None:
    path = Held()
    path.send(head(4000) + body_of(4000)[:3000])
    assert path.used == 0
    path.send(body_of(4000)[3000:3500])
    assert path.used >= 3500
    path.send(body_of(4000)[3500:])
    assert (path.used, len(path.upstreams)) == (0, 1)


@pytest.mark.parametrize("size", [10_000, SMALL_BODY_BYTES + 10, 5 * MIB])
@pytest.mark.parametrize("model", ["allowed", "other"])
def test_memory_is_given_back_whatever_becomes_of_the_request(size: int, model: str) -> None:
    limits = TenantLimits(allowed_models=("allowed",))
    path = Held(SidecarConfig(default_tenant=limits, max_waiting=1))
    body = body_of(size, model=model)
    path.send(head(size) + body[:-1])
    assert path.used >= size - 4 * KIB
    path.send(body[-1:])
    assert path.used == 0
    assert len(path.upstreams) == (model == "allowed")
    path.begin("a", size, size - 1)
    assert path.used
    for connection in list(path.proxy.connections):
        connection.connection_lost(None)
    assert path.used == 0


def test_a_body_that_is_forwarded_arrives_as_it_was_sent() -> None:
    for size in (100, 5000, 70_000, 300_000, 3 * MIB):
        body = body_of(size)
        path = Held()
        path.send(head(size) + body)
        assert path.upstreams[0][1].written.partition(b"\r\n\r\n")[2] == body

        path = Held()
        cuts = [cut for cut in (0, 1, 2, 3, 10, 4200, 4300, 70_000) if cut < size] + [size]
        parts = [body[start:end] for start, end in itertools.pairwise(cuts)]
        path.send(head(None) + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n")
        written = path.upstreams[0][1].written.partition(b"\r\n\r\n")[2]
        assert written == b"%x\r\n%b\r\n0\r\n\r\n" % (size, body)


@pytest.mark.parametrize("size", [1000, 100_000, 2 * MIB])
def test_usage_is_requested_by_inserting_a_field(size: int) -> None:
    path = Held(SidecarConfig(include_usage=IncludeUsage.INJECT))
    body = body_of(size, stream=True)
    path.send(head(size, "a", "/v1/chat/completions") + body)
    ((_, wire),) = path.upstreams
    start, _, written = wire.written.partition(b"\r\n\r\n")
    assert written == body[:-1] + b',"stream_options":{"include_usage":true}}'
    assert b"Content-Length: %d" % len(written) in start


class SlowWire(Wire):
    """A transport that accepts bytes only when it is told to."""

    def __init__(self, connection: UpstreamConnection) -> None:
        super().__init__()
        self._connection = connection

    def write(self, data: bytes) -> None:
        super().write(data)
        self._connection.pause_writing()


def test_a_body_counts_until_the_upstream_has_accepted_it() -> None:
    path = Held()
    connection = UpstreamConnection(lambda _: None)
    wire = SlowWire(connection)
    connection.connection_made(wire)  # type: ignore[arg-type]
    path.proxy.pool.acquire = lambda: connection  # type: ignore[method-assign]
    body = body_of(MIB)
    path.send(head(MIB) + body)
    writes = 1
    while not wire.written.endswith(body):
        assert path.used >= MIB
        assert not path.reads()
        connection.resume_writing()
        writes += 1
        assert writes < 10
    assert path.used >= MIB
    connection.resume_writing()
    assert path.used == 0
    assert path.reads()


# ---- shares


def test_a_tenant_that_sends_large_bodies_slowly_leaves_room_for_all_others() -> None:
    path = Held(held_large_bytes=14 * MIB, held_small_bytes=2 * MIB, body_bytes=4 * MIB)
    slow = [path.begin("a", 4 * MIB, 3 * MIB) for _ in range(8)]
    assert [wire.written.split(b" ")[1] for wire in slow if wire.written] == [b"503"] * 6
    assert path.chat("b") == b"forwarded"
    assert path.chat("b", SMALL_BODY_BYTES - KIB) == b"forwarded"
    assert path.chat("b", 2 * MIB) == b"forwarded"
    assert path.chat("a") == b"forwarded"
    assert path.chat("a", 3 * MIB) == b"503"
    assert path.metrics.totals_by("requests", "outcome") == {"rejected_queue": 7}


def test_tenants_that_send_small_bodies_slowly_leave_room_for_all_others() -> None:
    path = Held(held_small_bytes=MIB)
    for tenant in "abcdefg":
        for _ in range(20):
            path.begin(tenant, 60 * KIB, 50 * KIB)
    assert path.chat("h") == b"forwarded"
    assert path.chat("h", 30 * KIB) == b"forwarded"


def test_without_keys_large_bodies_leave_room_for_small_ones() -> None:
    path = Held(keys=None, held_large_bytes=8 * MIB, held_small_bytes=MIB, body_bytes=4 * MIB)
    slow = [path.begin("", 4 * MIB, 3 * MIB) for _ in range(4)]
    assert [bool(wire.written) for wire in slow] == [False, False, True, True]
    assert path.chat("") == b"forwarded"
    assert path.chat("", 100 * KIB) == b"forwarded"


def test_of_a_pipelined_request_only_a_small_part_is_held_before_its_turn() -> None:
    path = Held()
    path.send(head(100) + body_of(100))
    body = body_of(8 * MIB)
    path.send(head(8 * MIB) + body[: 400 * KIB])
    assert not path.reads()
    assert path.used < MIB
    path.upstreams[0][0].data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
    assert path.reads()
    path.send(body[400 * KIB :])
    assert path.upstreams[1][1].written.endswith(body)
    assert path.used == 0


# ---- size and time


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_above_the_bound_is_413_and_not_kept(chunked: bool) -> None:
    path = Held(body_bytes=MIB)
    if chunked:
        path.send(head(None) + b"200000\r\n" + b"x" * (MIB + 1))
    else:
        path.send(head(2 * MIB, "a", "/api/chat", "Expect: 100-continue"))
    assert path.wire.written.startswith(b"HTTP/1.1 413 ")
    assert b"larger than 1 MiB" in path.wire.written
    assert path.used == 0


def test_a_body_has_a_minute_and_a_second_for_every_128_kib_to_arrive() -> None:
    path = Held()
    wires = [path.begin("a", MIB, 1000), path.begin("b", 4 * MIB, 2 * MIB)]
    times: list[list[int]] = [[], []]
    for second in range(1, 100):
        path.sleep(1)
        for wire, seconds in zip(wires, times, strict=True):
            if wire.written.startswith(b"HTTP/1.1 408 ") and b"too slowly" in wire.written:
                seconds.append(second)
    assert [seconds[0] for seconds in times] == [61, 77]
    assert path.used == 0


def test_a_client_that_trickles_cannot_hold_its_memory() -> None:
    path = Held()
    client, wire = path.connect()
    body = body_of(MIB)
    path.send(head(MIB) + body[: 512 * KIB], client)
    for second in range(80):
        path.send(body[512 * KIB + second : 513 * KIB + second], client)
        path.sleep(1)
    assert wire.written.startswith(b"HTTP/1.1 408 ")
    assert path.used == 0


def test_the_time_of_a_body_begins_when_its_turn_comes() -> None:
    path = Held()
    path.send(head(100) + body_of(100) + head(4000) + body_of(4000)[:10])
    path.sleep(100)
    path.upstreams[0][0].data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
    path.sleep(50)
    path.send(body_of(4000)[10:])
    assert len(path.upstreams) == 2


# ---- compressed bodies


async def test_a_large_compressed_body_is_read_later_and_forwarded_as_it_was_sent() -> None:
    path = Held(SidecarConfig(default_tenant=TenantLimits(tokens_per_minute=100), max_waiting=9))
    data = zstandard.compress(body_of(20 * MIB))
    path.send(head(len(data), "a", "/v1/responses", "Content-Encoding: zstd") + data)
    assert not path.upstreams
    await eventually(lambda: bool(path.upstreams))
    assert path.upstreams[0][1].written.endswith(data)
    # The estimate counts the decoded size: 20 MiB are more tokens than an unknown model reads.
    _, wire = path.connect()
    path.send(head(100) + body_of(100))
    assert path.chat("a") == b"429"
    assert b"Retry-After: 196" in path.begin("a", 100, 100).written
    assert not wire.written


async def test_a_client_that_leaves_while_its_body_is_read_leaves_nothing() -> None:
    path = Held()
    data = zstandard.compress(body_of(30 * MIB))
    for _ in range(5):
        client, _ = path.connect()
        path.send(head(len(data), "a", "/api/chat", "Content-Encoding: zstd") + data, client)
        client.connection_lost(None)
    data = zstandard.compress(body_of(MIB))
    path.send(head(len(data), "a", "/api/chat", "Content-Encoding: zstd") + data)
    await eventually(lambda: len(path.upstreams) == 1)
    assert path.used == 0
    assert path.metrics.totals_by("requests", "outcome") == {"client_cancelled": 5}


async def test_compressed_bodies_of_one_tenant_do_not_delay_those_of_another() -> None:
    path = Held()
    bomb = zstandard.compress(body_of(60 * MIB))
    for _ in range(50):
        client, _ = path.connect()
        path.send(head(len(bomb), "a", "/api/chat", "Content-Encoding: zstd") + bomb, client)
    data = zstandard.compress(body_of(MIB))
    client, _ = path.connect()
    path.send(head(len(data), "b", "/api/chat", "Content-Encoding: zstd") + data, client)
    await eventually(lambda: any(wire.written.endswith(data) for _, wire in path.upstreams))
    assert len(path.upstreams) <= 4
