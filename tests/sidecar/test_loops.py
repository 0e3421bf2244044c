"""A request that comes back to the proxy ends, and is not sent again and again."""

from __future__ import annotations

import asyncio
import socket

import aiohttp
import pytest

from llmendpoint_sidecar.main import Sidecar
from llmendpoint_sidecar.settings import parse_settings
from support.servers import StartSidecar
from support.waiting import eventually
from support.wire.fault_server import relay

CHAT = {"model": "m", "messages": []}


def outcomes(sidecar: Sidecar) -> dict[str, int]:
    return dict(sidecar.runtime.metrics.totals_by("requests", "outcome"))


@pytest.mark.parametrize("between", [0, 1], ids=["itself", "another sidecar"])
async def test_a_request_that_comes_back_is_refused(
    start_sidecar: StartSidecar, http: aiohttp.ClientSession, between: int
) -> None:
    async with relay() as back:
        last = await start_sidecar(back.port)
        for _ in range(between):
            last = await start_sidecar(last.port)
        back.to_port = last.port
        async with asyncio.timeout(20), http.post(f"http://127.0.0.1:{last.port}/api/chat", json=CHAT) as response:
            assert response.status == 508
            assert "leads back to the proxy" in (await response.json())["error"]
        await eventually(lambda: outcomes(last).get("rejected", 0) >= 1)
    records = last.runtime.meter.last(0.0, 200)
    assert "loop" in {record.refusal_reason for record in records}


async def test_requests_of_other_proxies_are_forwarded_with_their_lines(
    start_sidecar: StartSidecar, http: aiohttp.ClientSession
) -> None:
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"/api/show" in head:
            heads.append(head)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    sidecar = await start_sidecar(server.sockets[0].getsockname()[1])
    via = {"Via": "1.1 gateway, 1.1 llmendpoint-0123456789abcdef"}
    url = f"http://127.0.0.1:{sidecar.port}/api/show"
    async with http.get(url, headers=via) as response:
        assert response.status == 200
    server.close()
    lines = [line for line in heads[0].split(b"\r\n") if line.lower().startswith(b"via:")]
    assert lines[0] == f"Via: {via['Via']}".encode()
    assert lines[1].startswith(b"Via: 1.1 llmendpoint-")


@pytest.mark.parametrize(
    ("listen", "upstream"),
    [
        (":8080", "http://127.0.0.1:8080"),
        ("localhost:80", "http://[::1]"),
        ("10.0.0.1:8080", "http://10.0.0.1:8080"),
        (":8080", f"http://{socket.gethostname()}:8080"),
        ("0.0.0.0:8080", f"http://{socket.gethostname()}:8080"),
        (f"{socket.gethostname()}:8080", f"http://{socket.gethostname()}:8080"),
    ],
)
def test_its_own_address_is_refused_as_the_upstream(
    capsys: pytest.CaptureFixture[str], listen: str, upstream: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_settings([f"--listen={listen}", f"--upstream={upstream}"])
    assert ended.value.code == 2
    assert "is the address of --listen, so the proxy would send its requests to itself" in capsys.readouterr().err
    assert parse_settings([f"--listen={listen}", "--upstream=http://192.0.2.1:8080"]).listen.port in (80, 8080)
    # An exporter does not listen there.
    assert parse_settings([f"--listen={listen}", f"--upstream={upstream}", "--exporter"]).exporter
