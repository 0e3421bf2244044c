"""Sockets of the sidecar: TLS with a renewed certificate, and an exporter without a proxy."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from llmendpoint_sidecar.proxy.tls import Certificate
from support.private import accepted_sockets
from support.servers import StartSidecar, StartSimulator
from support.tls import issue
from support.waiting import eventually

CHAT = {"model": "simulated", "messages": [{"role": "user", "content": "one two three"}]}


async def subject(port: int, cert: Path) -> str:
    """Return the common name that a client sees, with the certificate verified."""
    context = ssl.create_default_context(cafile=str(cert))
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
    seen = writer.get_extra_info("peercert")["subject"][0][0][1]
    writer.close()
    await writer.wait_closed()
    return str(seen)


async def test_clients_speak_tls_and_a_renewed_certificate_needs_no_restart(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    cert, key = issue(tmp_path, "first")
    simulator = await start_simulator(tokens=4)
    sidecar = await start_sidecar(simulator.port, tls_cert=cert, tls_key=key)
    context = ssl.create_default_context(cafile=str(cert))
    async with http.post(f"https://localhost:{sidecar.port}/api/chat", json=CHAT, ssl=context) as response:
        assert (await response.text()).count("\n") == 5
    assert sidecar.runtime.metrics.total("generation_tokens") == 4
    assert await subject(sidecar.port, cert) == "first"
    certificate = Certificate(cert, key)
    assert not certificate.reload()
    key.write_text("broken")
    assert not certificate.reload()  # an incomplete renewal keeps the old certificate
    issue(tmp_path, "second")
    assert certificate.reload()


async def test_a_certificate_that_cannot_be_used_is_named(start_sidecar: StartSidecar, tmp_path: Path) -> None:
    cert, key = issue(tmp_path, "first")
    key.write_text("no key")
    with pytest.raises(OSError, match=r"tls\.crt and .*tls\.key are not a certificate and its key"):
        await start_sidecar(1, tls_cert=cert, tls_key=key)


def test_a_certificate_without_its_key_is_a_usage_error(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "llmendpoint_sidecar", "--tls-cert", "x.pem"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "set both --tls-cert and --tls-key, or neither" in done.stderr


async def test_a_client_that_vanishes_is_noticed_by_probes(
    start_simulator: StartSimulator, start_sidecar: StartSidecar
) -> None:
    sidecar = await start_sidecar((await start_simulator()).port)
    _, writer = await asyncio.open_connection("127.0.0.1", sidecar.port)
    await eventually(lambda: bool(sidecar.proxy_service.proxy.connections))
    (sock,) = accepted_sockets(sidecar.proxy_service.proxy.connections)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    probes = [sock.getsockopt(socket.IPPROTO_TCP, option) for option in (socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)]
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) + probes[0] * probes[1] == 120
    writer.close()
    await writer.wait_closed()


async def test_an_exporter_serves_metrics_and_no_clients(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession
) -> None:
    simulator = await start_simulator()
    sidecar = await start_sidecar(simulator.port, exporter=True)
    assert sidecar.port == 0
    await eventually(lambda: sidecar.status().ready)
    async with http.post(f"{simulator.url}/api/chat", json=CHAT) as response:
        await response.read()
    await sidecar.runtime.watch.poll()
    async with http.get(f"http://127.0.0.1:{sidecar.admin_port}/metrics") as response:
        text = await response.text()
    assert 'llmendpoint_model_loaded{model_name="simulated:latest"} 1.0' in text
    assert "llmendpoint_upstream_up 1.0" in text


async def test_openmetrics_is_whole_and_its_exemplars_name_only_our_own_ids(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession
) -> None:
    simulator = await start_simulator()
    sidecar = await start_sidecar(simulator.port)
    url = f"http://127.0.0.1:{sidecar.port}/api/chat"
    for headers in ({}, {"X-Request-ID": "theirs"}):
        async with http.post(url, json=CHAT, headers=headers) as response:
            await response.read()
    await eventually(lambda: sidecar.runtime.metrics.total("requests") == 2)
    accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
    async with http.get(f"http://127.0.0.1:{sidecar.admin_port}/metrics", headers=accept) as response:
        text = await response.text()
    families = {family.name: family for family in text_string_to_metric_families(text)}  # type: ignore[no-untyped-call]
    samples = families["llmendpoint_e2e_request_latency_seconds"].samples
    exemplars = [sample.exemplar.labels["request_id"] for sample in samples if sample.exemplar]
    assert len(exemplars) == 1
    assert sidecar.runtime.meter.find(exemplars[0])
    assert "theirs" not in text
