"""Sockets of the sidecar: who can reach them and by which host names, TLS with a renewed certificate, an exporter."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from llmendpoint_common.api.endpoint.spec import parse_spec
from llmendpoint_common.api.translate.sidecar_arguments import sidecar_arguments
from llmendpoint_common.contracts.sidecar import SidecarConfig
from llmendpoint_common.process.units import Address
from llmendpoint_sidecar.main import Sidecar
from llmendpoint_sidecar.settings import parse_settings
from support.private import accepted_sockets
from support.servers import StartSidecar, StartSimulator
from support.tls import issue, subject
from support.waiting import eventually

CHAT = {"model": "simulated", "messages": [{"role": "user", "content": "one two three"}]}


async def test_clients_speak_tls_and_a_renewed_certificate_needs_no_restart(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    cert, key = issue(tmp_path, "first")
    simulator = await start_simulator(tokens=4)
    sidecar = await start_sidecar(simulator.port, tls_cert=cert, tls_key=key)
    context = ssl.create_default_context(cafile=str(cert))
    async with http.post(f"https://localhost:{sidecar.port}/api/chat", json=CHAT, ssl=context) as response:
        assert (await response.text()).count("\n") == 5
    # Over TLS, the client may have the whole response before the sidecar has counted it.
    await eventually(lambda: sidecar.runtime.metrics.total("generation_tokens") == 4)
    assert await subject(sidecar.port, cert) == "first"
    before = sidecar.inputs.current
    key.write_text("broken")
    await sidecar.inputs.poll()
    assert sidecar.inputs.current is before  # an incomplete renewal keeps the old certificate
    issue(tmp_path, "second")
    await sidecar.inputs.poll()
    assert await subject(sidecar.port, cert) == "second"


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


class Program:
    """A sidecar as a process of its own, and the addresses that it listens on."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []

    async def line(self, part: str) -> str:
        """Return the next line of the log that contains `part`."""
        assert self.process.stderr is not None
        while True:
            line = (await self.process.stderr.readline()).decode()
            assert line, f"{part!r} is not in {self.lines}"
            self.lines.append(line)
            if part in line:
                return str(json.loads(line)["message"])

    def listening(self) -> set[str]:
        """Return the addresses of the sockets on which the process listens."""
        inodes = set()
        for link in Path(f"/proc/{self.process.pid}/fd").iterdir():
            # The process may close a file meanwhile.
            with contextlib.suppress(FileNotFoundError):
                inodes.add(str(link.readlink()))
        found = set()
        for name, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
            for row in Path(f"/proc/{self.process.pid}/net/{name}").read_text().splitlines()[1:]:
                fields = row.split()
                if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                    words = bytes.fromhex(fields[1].partition(":")[0])
                    packed = b"".join(words[at : at + 4][::-1] for at in range(0, len(words), 4))
                    found.add(socket.inet_ntop(family, packed))
        return found


@asynccontextmanager
async def program(*flags: str, **variables: str) -> AsyncIterator[Program]:
    """Run `python -m llmendpoint_sidecar` with free ports, which its variables set, and without an upstream."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "llmendpoint_sidecar", "--upstream", "http://127.0.0.1:1", "--drain-delay", "0", *flags,
        stderr=asyncio.subprocess.PIPE, env={**os.environ, **variables},
    )  # fmt: skip
    try:
        yield Program(process)
    finally:
        process.terminate()
        await asyncio.wait_for(process.communicate(), 20)


async def status_of(port: int, host: str, path: str = "/", method: str = "GET") -> int:
    """Send a request with a Host to 127.0.0.1, and return the status of the response."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    status = int((await reader.readline()).split()[1])
    writer.close()
    return status


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_without_flags_only_programs_on_this_machine_reach_it(workers: str) -> None:
    settings = parse_settings([])
    assert (str(settings.listen), str(settings.admin_listen)) == ("localhost:11435", "localhost:8001")
    async with program("--listen=localhost:0", "--admin-listen=localhost:0", f"--workers={workers}") as sidecar:
        line = await sidecar.line("proxy on")
        assert re.match(r"proxy on 127\.0\.0\.1:(\d+)( and \[::1\]:\1)?, upstream 127", line)
        assert sidecar.listening() <= {"127.0.0.1", "::1"}
        assert await status_of(int(line.split(",")[0].rpartition(":")[2]), "evil.example") == 403
        said = await sidecar.line("can use models")
        assert said.startswith("programs on this machine can use models, and pull, push, create, copy and delete them")
        assert "programs on this machine can read metrics" in await sidecar.line("can read metrics")


async def test_the_log_says_what_an_address_beyond_loopback_opens(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text("{}")
    async with program("--listen=:0", "--admin-listen=:0", f"--config={config}") as sidecar:
        said = await sidecar.line("can use models")
        assert re.match(
            r"everyone who can reach port \d+ of this machine can use models, and pull, .* without an API key; ", said
        )
        assert '"level": "warning"' in sidecar.lines[-1]
        assert "everyone who can reach" in await sidecar.line("can read metrics")
    config.write_text('{"modelManagement": "Forbidden"}')
    (tmp_path / "keys").mkdir()
    async with program("--listen=:0", "--admin-listen=:0", f"--config={config}", f"--keys={tmp_path}/keys") as sidecar:
        assert (await sidecar.line("can use models")).endswith("can use models, with an API key")
        assert '"level": "info"' in sidecar.lines[-1]


def test_help_says_what_an_address_beyond_loopback_opens() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "llmendpoint_sidecar", "--help"], check=True, capture_output=True, text=True
    )
    text = " ".join(done.stdout.split())
    assert "with --listen :11435 everyone who can reach this machine. Without --keys, they can use every model" in text
    assert "with --admin-listen :8001 everyone who can reach this machine can read metrics" in text


def test_a_pod_listens_on_every_interface() -> None:
    spec = parse_spec({"spec": {"models": [{"name": "tiny:latest"}]}})
    settings = parse_settings(sidecar_arguments(spec, config_file="/config.json", key_folders=[]))
    assert (settings.listen, settings.admin_listen) == (Address(None, 11435), Address(None, 8001))


async def start_on_loopback(upstream: int, stack: AsyncExitStack) -> Sidecar:
    """Start a sidecar without a configuration."""
    address = Address("127.0.0.1", 0)
    settings = replace(
        parse_settings([]),
        listen=address,
        admin_listen=address,
        upstream=Address("127.0.0.1", upstream),
        drain_delay=0.0,
    )
    sidecar = Sidecar(settings, SidecarConfig())
    stack.push_async_callback(sidecar.stop)
    await sidecar.start()
    return sidecar


FOREIGN = (
    "evil.example",
    "evil.example:11435",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "8.8.8.8",
    "224.0.0.1",
)
OWN = (
    "localhost", "LOCALHOST:11435", "127.0.0.1:11435", "127.9.9.9", "[::1]:11435", "box.localhost", "box.local:1",
    "ollama.internal", "10.0.0.7", "192.168.1.1:11435", "[fd00::1]:1", "0.0.0.0:11435", socket.gethostname(),
)  # fmt: skip


@pytest.mark.parametrize("host", [*OWN, *FOREIGN])
async def test_on_loopback_hosts_are_served_as_ollama_serves_them(
    host: str, start_simulator: StartSimulator, stack: AsyncExitStack
) -> None:
    simulator = await start_simulator()
    sidecar = await start_on_loopback(simulator.port, stack)
    expected = 403 if host in FOREIGN else 200
    assert await status_of(sidecar.port, host) == expected
    assert await status_of(sidecar.admin_port, host, "/metrics") == expected
    # The second request is judged by what was remembered of the first one.
    assert await status_of(sidecar.port, host) == expected
    assert sidecar.runtime.metrics.totals_by("requests", "outcome")["rejected"] == 2 * (expected == 403)


@pytest.mark.parametrize(
    ("allowed", "host", "status"),
    [
        (("llm.example",), "llm.example:11435", 200),
        (("llm.example",), "localhost", 403),
        (("*",), "evil.example", 200),
    ],
)
async def test_allowed_hosts_replace_the_names_of_this_machine(
    allowed: tuple[str, ...], host: str, status: int, start_simulator: StartSimulator, start_sidecar: StartSidecar
) -> None:
    simulator = await start_simulator()
    sidecar = await start_sidecar(simulator.port, SidecarConfig(allowed_hosts=allowed))
    assert await status_of(sidecar.port, host) == status
    # A local scrape works all the same.
    assert await status_of(sidecar.admin_port, "localhost:8001", "/metrics") == 200


async def test_models_are_managed_on_loopback_as_with_ollama(
    start_simulator: StartSimulator, stack: AsyncExitStack
) -> None:
    simulator = await start_simulator(models=["m:1b"])
    sidecar = await start_on_loopback(simulator.port, stack)
    async with aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{sidecar.port}/api/copy"
        async with session.post(url, json={"source": "m:1b", "destination": "mine:1b"}) as response:
            assert response.status == 200
