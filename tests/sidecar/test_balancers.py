"""The recipe for nginx in docs/balancers.md, run by a real nginx in front of the sidecar. Skipped if there is none."""

from __future__ import annotations

import asyncio
import io
import json
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from llmendpoint_common.wire.http1.request_reader import RequestHead
from llmendpoint_sidecar.main import Sidecar
from support.servers import RunningSimulator, StartSidecar, StartSimulator
from support.tls import issue
from support.waiting import eventually, wait_until

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/opt/homebrew/bin")
PAGE = Path(__file__).parents[2] / "docs" / "balancers.md"
CHAT = {"model": "simulated", "messages": [{"role": "user", "content": "one two three"}]}

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")


def recipe() -> str:
    (found,) = re.findall(r"```nginx\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return str(found)


def configuration(folder: Path, upstream_port: int, port: int) -> str:
    """Return the recipe with the addresses and files of a test, inside a complete configuration."""
    cert, key = issue(folder, "h")
    text = recipe()
    for before, after in (
        ("server assistant.default.svc:11434;", f"server 127.0.0.1:{upstream_port};"),
        ("listen 443 ", f"listen 127.0.0.1:{port} "),
        ("/etc/nginx/tls.crt", str(cert)),
        ("/etc/nginx/tls.key", str(key)),
    ):
        assert text.count(before) >= 1
        text = text.replace(before, after)
    folders = "".join(
        f"{name}_temp_path {folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"daemon off;\npid {folder}/pid;\nevents {{}}\nhttp {{\naccess_log off;\n{folders}{text}\n}}\n"


def accepts(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port)):
            return True
    except OSError:
        return False


class Balanced:
    """A simulator, a sidecar in front of it, and nginx in front of both."""

    def __init__(self, simulator: RunningSimulator, sidecar: Sidecar, folder: Path) -> None:
        self.simulator, self.sidecar = simulator, sidecar
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = int(free.getsockname()[1])
        self.url = f"https://localhost:{self.port}"
        path = folder / "nginx.conf"
        path.write_text(configuration(folder, sidecar.port, self.port))
        self.tls = ssl.create_default_context(cafile=str(folder / "tls.crt"))
        assert NGINX is not None
        self.process = subprocess.Popen([NGINX, "-p", folder, "-c", path, "-e", folder / "error.log"])
        wait_until(lambda: accepts(self.port))

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=20)


@pytest.fixture
def running() -> Iterator[list[Balanced]]:
    started: list[Balanced] = []
    yield started
    for one in started:
        one.stop()


@pytest.fixture
async def balanced(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, tmp_path: Path, running: list[Balanced]
) -> Balanced:
    simulator = await start_simulator(tokens=20)
    running.append(Balanced(simulator, await start_sidecar(simulator.port), tmp_path))
    return running[0]


async def test_a_stream_arrives_piece_by_piece(balanced: Balanced, http: aiohttp.ClientSession) -> None:
    balanced.simulator.behave(tokens=2, inter_token=0.5)
    async with http.post(f"{balanced.url}/api/chat", json=CHAT, ssl=balanced.tls) as response:
        assert (await response.content.readline()).startswith(b'{"model"')
        (entry,) = balanced.simulator.simulator.ledger.entries
        assert entry.sent < 2
        assert len((await response.text()).splitlines()) == 2


async def test_connections_to_the_endpoint_are_used_again(balanced: Balanced, http: aiohttp.ClientSession) -> None:
    for _ in range(20):
        async with http.post(f"{balanced.url}/api/chat", json=CHAT, ssl=balanced.tls) as response:
            assert response.status == 200
            await response.read()
    # Each worker process of nginx has connections of its own, and there is one.
    assert len(balanced.sidecar.proxy_service.proxy.connections) == 1


async def test_a_client_that_leaves_stops_the_generation(balanced: Balanced) -> None:
    balanced.simulator.behave(ttft=60.0)
    body = json.dumps(CHAT).encode()
    head = b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
    _, writer = await asyncio.open_connection("localhost", balanced.port, ssl=balanced.tls)
    writer.write(head + body)
    ledger = balanced.simulator.simulator.ledger
    await eventually(lambda: len(ledger.entries) == 1)
    writer.transport.abort()
    await eventually(lambda: ledger.entries[0].outcome == "cancelled")


async def test_a_prompt_with_images_passes(balanced: Balanced, http: aiohttp.ClientSession) -> None:
    body = io.BytesIO(json.dumps({**CHAT, "stream": False, "images": ["x" * 5_000_000]}).encode())
    async with http.post(f"{balanced.url}/api/chat", data=body, ssl=balanced.tls) as response:
        assert response.status == 200


async def test_the_endpoint_gets_the_host_of_the_client_and_the_id_of_nginx(
    balanced: Balanced, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[RequestHead] = []
    monkeypatch.setattr("llmendpoint_sidecar.proxy.connection.fault_of", seen.append)
    async with http.get(f"{balanced.url}/api/version", ssl=balanced.tls) as response:
        assert response.status == 200
    assert seen[0].fields[b"host"] == f"localhost:{balanced.port}".encode()
    assert re.fullmatch(rb"[0-9a-f]{32}", seen[0].fields[b"x-request-id"])


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_a_client_may_use_http_2(balanced: Balanced, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[RequestHead] = []
    monkeypatch.setattr("llmendpoint_sidecar.proxy.connection.fault_of", seen.append)
    command = ["--http2", "--cacert", str(tmp_path / "tls.crt"), "-w", "%{http_version}", f"{balanced.url}/"]
    curl = await asyncio.create_subprocess_exec("curl", "-sS", *command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    answer, error = await curl.communicate()
    if b"does not support" in error:
        pytest.skip("curl has no HTTP/2")
    assert answer == b"Ollama is running2"
    assert seen[0].fields[b"host"] == f"localhost:{balanced.port}".encode()
