"""Several requests on one connection: each complete request is answered, whatever follows it."""

from __future__ import annotations

import asyncio
import json

import pytest

from llmendpoint_common.contracts.sidecar import SidecarConfig, TenantLimits
from llmendpoint_sidecar.proxy.dialer import Dialer
from support.servers import StartSidecar, StartSimulator
from support.waiting import eventually
from support.wire.data_path import Clock, DataPath

GET = b"GET /api/tags HTTP/1.1\r\nHost: h\r\n\r\n"
POST = b"POST /api/chat HTTP/1.1\r\nHost: h\r\nContent-Length: 13\r\n\r\n"
BODY = b'{"model":"m"}'
FINE = b'HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{"done":true}'


def statuses(data: bytes) -> list[int]:
    return [int(part[:3]) for part in data.split(b"HTTP/1.1 ")[1:]]


def answer_all(path: DataPath) -> None:
    """Answer every request that reaches an upstream, including those that begin meanwhile."""
    for connection, wire in path.upstreams:
        assert wire.written, "a request was begun and not sent"
        if not wire.closed:
            connection.data_received(FINE)


INVALID = {
    "a stray byte": b"\0",
    "another protocol": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
    "a head without a host": b"GET / HTTP/1.0\r\nbroken\r\n\r\n",
    "an ambiguous body": b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a body whose chunks are broken": b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "a head that is too large": b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000,
}


@pytest.mark.parametrize("invalid", INVALID)
@pytest.mark.parametrize("complete", [GET, POST + BODY, GET + POST + BODY])
def test_a_complete_request_is_sent_and_answered_before_what_follows_it_is_refused(
    complete: bytes, invalid: str
) -> None:
    path = DataPath()
    path.client.data_received(complete + INVALID[invalid])
    answer_all(path)
    count = complete.count(b"Host")
    assert len(path.upstreams) == count
    *before, last = statuses(path.wire.written)
    assert before == [200] * count
    assert last in (400, 431)
    assert path.wire.closed
    outcomes = dict(path.metrics.totals_by("requests", "outcome"))
    assert outcomes == {"ok": count, "rejected": 1}


async def test_a_stray_byte_behind_a_request_does_not_keep_it_from_ollama(
    start_simulator: StartSimulator, start_sidecar: StartSidecar
) -> None:
    """The request uses an idle connection to the upstream, on which it is sent only at the end of the received piece."""
    sidecar = await start_sidecar((await start_simulator()).port)
    reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.port)
    writer.write(GET.replace(b"Host", b"Connection: close\r\nHost"))
    assert statuses(await reader.read()) == [200]
    assert sidecar.proxy_service.proxy.pool.acquire() is not None
    writer.close()
    reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.port)
    writer.write(GET + b"\0")
    answer = await asyncio.wait_for(reader.read(), 30)
    assert statuses(answer) == [200, 400]
    writer.close()


def test_a_request_that_stops_inside_its_body_is_refused_after_the_requests_before_it() -> None:
    clock = Clock()
    path = DataPath(clock=clock)
    path.client.data_received(GET + POST + BODY[:5])
    clock.now += 121
    path.client.check_timeouts(clock.now, path.proxy.timeouts)
    assert path.wire.written == b""
    answer_all(path)
    assert statuses(path.wire.written) == [200, 408]
    assert path.wire.closed


def test_a_head_that_stops_is_refused_after_the_requests_before_it() -> None:
    clock = Clock()
    path = DataPath(clock=clock)
    path.client.data_received(GET + GET[:9])
    clock.now += 31
    path.client.check_timeouts(clock.now, path.proxy.timeouts)
    answer_all(path)
    assert statuses(path.wire.written) == [200, 408]


async def test_many_pipelined_requests_take_little_memory_and_all_are_answered() -> None:
    path = DataPath()
    path.client.data_received(GET * 1000)
    assert len(path.upstreams) == 1
    assert path.unanswered() <= 32
    assert not path.wire.reading
    for count in range(1, 1001):
        await eventually(lambda count=count: len(path.upstreams) >= count)  # type: ignore[misc]
        path.upstreams[count - 1][0].data_received(FINE)
        assert path.unanswered() <= 32
    assert statuses(path.wire.written) == [200] * 1000
    await eventually(lambda: path.wire.reading)


async def test_many_refused_requests_let_others_in_between() -> None:
    """Requests that are refused immediately never wait, so that only the event loop's turns limit them."""
    path = DataPath(SidecarConfig(allowed_hosts=("other",)))
    path.client.data_received(GET * 1000)
    assert len(statuses(path.wire.written)) == 16
    await eventually(lambda: len(statuses(path.wire.written)) == 1000)
    await eventually(lambda: path.wire.reading)


async def test_a_client_that_does_not_read_its_responses_cannot_have_more_of_them() -> None:
    """Each refused request costs the client 30 bytes, and would take ten times as much memory here."""
    path = DataPath(SidecarConfig(allowed_hosts=("other",)))
    path.client.data_received(GET)
    path.client.pause_writing()
    path.client.data_received(GET * 1000)
    assert not path.wire.reading
    await asyncio.sleep(0)
    assert len(statuses(path.wire.written)) == 17
    path.client.resume_writing()
    await eventually(lambda: len(statuses(path.wire.written)) == 1001)
    await eventually(lambda: path.wire.reading)


def test_a_client_that_reads_only_after_it_has_sent_its_body_is_still_read() -> None:
    path = DataPath()
    path.client.data_received(POST)
    path.upstreams[0][0].data_received(FINE[:-5])
    path.client.pause_writing()
    path.client.data_received(BODY[:-1])
    assert path.wire.reading
    assert path.upstreams[0][1].written.endswith(BODY[:-1])


async def test_the_body_of_the_last_of_many_requests_is_still_read() -> None:
    path = DataPath()
    path.client.data_received(GET * 20 + POST)
    for count in range(1, 21):
        await eventually(lambda count=count: len(path.upstreams) >= count)  # type: ignore[misc]
        path.upstreams[count - 1][0].data_received(FINE)
    await eventually(lambda: path.wire.reading)
    path.client.data_received(BODY)
    path.upstreams[20][0].data_received(FINE)
    assert statuses(path.wire.written) == [200] * 21


async def test_pipelined_requests_behind_the_last_response_of_a_connection_end_with_it() -> None:
    """They hold no slot of their tenant while the connection closes."""
    path = DataPath(SidecarConfig(default_tenant=TenantLimits(max_concurrent=2)))
    path.client.data_received(GET.replace(b"Host", b"Connection: close\r\nHost") + POST + BODY)
    answer_all(path)
    assert statuses(path.wire.written) == [200]
    assert dict(path.metrics.totals_by("requests", "outcome")) == {"ok": 1, "client_cancelled": 1}
    client, wire = path.connect()
    client.data_received((POST + BODY) * 2)
    assert not statuses(wire.written)


async def test_a_client_that_leaves_ends_the_opening_of_its_upstream_connection(
    start_sidecar: StartSidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise clients that come and go could hold any number of descriptors, each for the connect timeout."""
    sidecar = await start_sidecar(1)
    opening: list[asyncio.Task[object] | None] = []

    async def connect(*_: object) -> None:
        opening.append(asyncio.current_task())
        await asyncio.Event().wait()

    monkeypatch.setattr(Dialer, "connect", connect)
    _, writer = await asyncio.open_connection("127.0.0.1", sidecar.port)
    writer.write(POST + BODY)
    await eventually(lambda: len(opening) == 1)
    writer.close()
    (task,) = opening
    assert task is not None
    await eventually(task.cancelled)


async def test_a_fault_while_connecting_ends_the_exchange(
    start_sidecar: StartSidecar, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sidecar = await start_sidecar(1)

    async def connect(*_: object) -> None:
        raise RuntimeError("injected")

    monkeypatch.setattr(Dialer, "connect", connect)
    reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.port)
    writer.write(POST + BODY)
    assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)).startswith(b"HTTP/1.1 502 ")
    assert "injected" in caplog.text
    writer.close()


async def test_an_error_response_without_a_head_fits_its_method(start_sidecar: StartSidecar) -> None:
    sidecar = await start_sidecar(1)
    for method, has_body in (("HEAD", False), ("GET", True)):
        reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.port)
        writer.write(f"{method} /v1/chat/completions HTTP/1.1\r\nX: ".encode() + b"x" * 70_000)
        answer = await asyncio.wait_for(reader.read(), 30)
        assert statuses(answer) == [431]
        body = answer.partition(b"\r\n\r\n")[2]
        assert bool(body) == has_body
        assert not body or json.loads(body)["error"]["type"] == "invalid_request_error"
        writer.close()
