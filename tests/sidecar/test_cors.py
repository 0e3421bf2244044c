"""Browsers: pages under the host of the endpoint, and error responses that pages of other origins can read."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from llmendpoint_common.contracts.sidecar import ModelManagement, SidecarConfig, TenantLimits
from llmendpoint_common.process.errors import OllamaError, UpstreamError
from llmendpoint_common.wire.http1.heads import Headers
from llmendpoint_sidecar.main import Sidecar
from llmendpoint_sidecar.proxy import cors
from llmendpoint_sidecar.proxy.cors import CorsHeaders
from llmendpoint_sidecar.proxy.dialer import Dialer
from support.servers import StartSidecar
from support.waiting import eventually
from support.wire.data_path import Clock

ALLOWED, FOREIGN = "https://app.example.com", "https://evil.example"
CORS = {"access-control-allow-origin": ALLOWED, "vary": "Origin", "access-control-expose-headers": "Retry-After"}


class Origins:
    """An upstream that treats an Origin as Ollama does (gin-contrib/cors 1.7.2, applyCors)."""

    def __init__(self) -> None:
        self.port = 0
        self.seen: list[dict[str, str]] = []
        self.asked: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                line, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
                fields: dict[str, str] = {}
                for name, _, value in (text.partition(":") for text in lines):
                    # Go's Header.Get returns the first value.
                    fields.setdefault(name.lower(), value.strip())
                await reader.readexactly(int(fields.get("content-length", "0")))
                writer.write(self.answer(line, fields))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def answer(self, line: str, fields: dict[str, str]) -> bytes:
        origin, host = fields.get("origin", ""), fields["host"]
        if line.startswith("GET /api/version") and origin:
            self.asked.append(origin)
        elif not line.startswith("GET /api/"):
            self.seen.append(fields)
        headers = ""
        if origin and origin not in (f"http://{host}", f"https://{host}"):
            if origin != ALLOWED:
                return b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
            headers = f"Access-Control-Allow-Origin: {origin}\r\nVary: Origin\r\n"
        return f"HTTP/1.1 200 OK\r\n{headers}Content-Length: 2\r\n\r\n{{}}".encode()


@pytest.fixture
async def origins() -> AsyncIterator[Origins]:
    upstream = Origins()
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    upstream.port = server.sockets[0].getsockname()[1]
    yield upstream
    server.close()


async def ask(port: int, data: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send a request, and return status, headers and body of the response."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        start, *lines = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)).decode().strip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        return int(start.split(" ")[1]), headers, body
    finally:
        writer.close()


def post(*lines: str, path: str = "/api/chat", body: bytes = b'{"model":"m"}') -> bytes:
    head = "\r\n".join((f"POST {path} HTTP/1.1", *lines, f"Content-Length: {len(body)}", "\r\n"))
    return head.encode() + body


# ---- pages under the host of the endpoint


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("llm.example.com", "https://llm.example.com"),
        ("llm.example.com", "http://llm.example.com"),
        ("llm.example.com:8443", "https://llm.example.com:8443"),
        ("[fd00::1]:8080", "http://[fd00::1]:8080"),
        ("LLM.example.com", "https://LLM.example.com"),
        ("llm.example.com", "https://LLM.example.com"),
        ("llm.example.com:443", "https://llm.example.com"),
        ("llm.example.com", "https://llm.example.com:8443"),
        ("llm.example.com", "https://llm.example.com.evil.example"),
        ("llm.example.com", "ws://llm.example.com"),
        ("llm.example.com", "null"),
        ("llm.example.com", FOREIGN),
        ("llm.example.com", ALLOWED),
        ("null", "null"),
    ],
)
async def test_a_page_gets_the_answer_that_ollama_gives_directly(
    start_sidecar: StartSidecar, origins: Origins, host: str, origin: str
) -> None:
    request = post(f"Host: {host}", f"Origin: {origin}")
    direct, headers, _ = await ask(origins.port, request)
    sidecar = await start_sidecar(origins.port)
    status, through, _ = await ask(sidecar.port, request)
    assert status == direct
    assert through.get("access-control-allow-origin") == headers.get("access-control-allow-origin")


async def test_the_origin_of_an_own_page_names_the_host_that_ollama_gets(
    start_sidecar: StartSidecar, origins: Origins
) -> None:
    sidecar = await start_sidecar(origins.port)
    for scheme in ("http", "https"):
        assert (await ask(sidecar.port, post("Host: h", f"Origin: {scheme}://h")))[0] == 200
        assert origins.seen[-1]["origin"] == f"{scheme}://127.0.0.1:{origins.port}"
    for origin in (FOREIGN, ALLOWED, "null"):
        await ask(sidecar.port, post("Host: h", f"Origin: {origin}"))
        assert origins.seen[-1]["origin"] == origin
    assert all(fields["host"] == f"127.0.0.1:{origins.port}" for fields in origins.seen)


@pytest.mark.parametrize("pair", [(FOREIGN, "https://h"), ("https://h", FOREIGN)])
async def test_two_origins_are_left_as_they_are(
    start_sidecar: StartSidecar, origins: Origins, pair: tuple[str, str]
) -> None:
    sidecar = await start_sidecar(origins.port)
    await ask(sidecar.port, post("Host: h", *(f"Origin: {origin}" for origin in pair)))
    assert origins.seen[-1]["origin"] == pair[0]


async def test_a_connection_header_that_names_the_origin_removes_it(
    start_sidecar: StartSidecar, origins: Origins
) -> None:
    sidecar = await start_sidecar(origins.port)
    await ask(sidecar.port, post("Host: h", "Origin: https://h", "Connection: origin"))
    assert "origin" not in origins.seen[-1]


# ---- error responses

Start = Callable[..., Awaitable[Sidecar]]


@pytest.fixture
async def start_guarded(start_sidecar: StartSidecar, origins: Origins, tmp_path: Path) -> Start:
    """Start a sidecar with one key, `k`, whose tenant has sent the only request of this minute."""
    (tmp_path / "team-a").write_text("k")
    config = SidecarConfig(
        default_tenant=TenantLimits(requests_per_minute=1),
        model_management=ModelManagement.FORBIDDEN,
        max_waiting=5,
    )

    async def start() -> Sidecar:
        sidecar = await start_sidecar(origins.port, config, keys=[tmp_path])
        assert (await ask(sidecar.port, post("Host: h", "x-api-key: k")))[0] == 200
        return sidecar

    return start


KEY = "x-api-key: k"
REFUSED = {
    401: post("Host: h", f"Origin: {ALLOWED}"),
    403: post("Host: h", f"Origin: {ALLOWED}", KEY, path="/api/pull"),
    429: post("Host: h", f"Origin: {ALLOWED}", KEY),
    400: post("Host: h", "Host: h", f"Origin: {ALLOWED}", KEY),
    501: f"CONNECT h:1 HTTP/1.1\r\nHost: h\r\nOrigin: {ALLOWED}\r\n\r\n".encode(),
    431: f"GET / HTTP/1.1\r\nOrigin: {ALLOWED}\r\nX: {'x' * 70_000}".encode(),
}


@pytest.mark.parametrize("status", REFUSED)
async def test_a_refusal_has_the_cors_headers_of_ollama(start_guarded: Start, origins: Origins, status: int) -> None:
    sidecar = await start_guarded()
    for _ in range(3):
        got, headers, body = await ask(sidecar.port, REFUSED[status])
        assert got == status
        assert {name: headers.get(name) for name in CORS} == CORS
        assert ("retry-after" in headers) == (status == 429)
        assert json.loads(body)["error"]
    assert origins.asked == [ALLOWED]


async def test_a_head_that_is_not_http_gets_the_cors_headers_of_its_origin(
    start_guarded: Start, origins: Origins
) -> None:
    sidecar = await start_guarded()
    status, headers, _ = await ask(sidecar.port, f"GET / HTTP/1.1\r\nOrigin: {ALLOWED}\r\nbad\x00: 1\r\n\r\n".encode())
    assert (status, headers["access-control-allow-origin"]) == (400, ALLOWED)


async def test_a_page_that_ollama_does_not_allow_gets_no_cors_headers(start_guarded: Start, origins: Origins) -> None:
    sidecar = await start_guarded()
    for _ in range(2):
        status, headers, _ = await ask(sidecar.port, post("Host: h", f"Origin: {FOREIGN}"))
        assert status == 401
        assert not CORS.keys() & headers.keys()
    assert origins.asked == [FOREIGN]


async def test_an_own_page_and_a_client_that_is_no_browser_cost_no_question(
    start_guarded: Start, origins: Origins
) -> None:
    sidecar = await start_guarded()
    for lines in (("Host: h", "Origin: https://h"), ("Host: h",), ("Host: h", f"Origin: {'x' * 600}")):
        status, headers, _ = await ask(sidecar.port, post(*lines))
        assert status == 401
        assert not CORS.keys() & headers.keys()
    assert origins.asked == []


async def test_errors_of_the_proxy_itself_have_the_cors_headers(
    start_guarded: Start, origins: Origins, monkeypatch: pytest.MonkeyPatch
) -> None:
    sidecar = await start_guarded()
    await ask(sidecar.port, REFUSED[401])

    async def fail(*_: object) -> None:
        raise UpstreamError("not reachable")

    # Ollama was reachable before, so that its headers are known.
    sidecar.proxy_service.proxy.pool.close()
    monkeypatch.setattr(Dialer, "connect_now", lambda _: None)
    monkeypatch.setattr(Dialer, "connect", fail)
    request = f"GET /api/tags HTTP/1.1\r\nHost: h\r\nOrigin: {ALLOWED}\r\n{KEY}\r\n\r\n".encode()
    status, headers, _ = await ask(sidecar.port, request)
    assert (status, headers["access-control-allow-origin"]) == (502, ALLOWED)


async def test_a_refusal_whose_client_leaves_meanwhile_is_counted_as_one(
    start_guarded: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    sidecar = await start_guarded()
    asked = asyncio.Event()

    async def never(origin: str) -> Headers:
        asked.set()
        await asyncio.Event().wait()
        return []

    monkeypatch.setattr(sidecar.proxy_service.proxy.cors, "_ask", never)
    _, writer = await asyncio.open_connection("127.0.0.1", sidecar.port)
    writer.write(REFUSED[429])
    await asyncio.wait_for(asked.wait(), 30)
    writer.transport.abort()
    await eventually(lambda: sidecar.runtime.metrics.totals_by("requests", "outcome").get("rejected_quota") == 1)


# ---- what is remembered


class Ollama:
    """Answers questions about origins. `silent`: it does not answer; `failing`: it cannot be reached."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.silent = self.failing = False
        self.open = asyncio.Event()
        self.open.set()

    async def ask(self, origin: str) -> Headers:
        self.asked.append(origin)
        await self.open.wait()
        if self.failing:
            raise OllamaError("not reachable")
        return [(b"Access-Control-Allow-Origin", origin.encode())]


class Asker:
    def __init__(self) -> None:
        self.ollama, self.clock = Ollama(), Clock()
        self.cors = CorsHeaders(self.ollama.ask, self.clock)

    async def __call__(self, origin: str) -> Headers:
        loop = asyncio.get_running_loop()
        got: asyncio.Future[Headers] = loop.create_future()
        self.cors.when_known({b"host": b"h", b"origin": origin.encode()}, got.set_result)
        return await got


def allowing(origin: str) -> Headers:
    return [
        (b"Access-Control-Allow-Origin", origin.encode()),
        (b"Access-Control-Expose-Headers", b"Retry-After"),
    ]


async def test_ollama_is_asked_again_after_a_minute() -> None:
    asker = Asker()
    for seconds, count in ((0, 1), (59, 1), (2, 2)):
        asker.clock.now += seconds
        assert await asker("https://a") == allowing("https://a")
        assert len(asker.ollama.asked) == count


async def test_responses_that_wait_for_the_same_origin_ask_once() -> None:
    asker = Asker()
    asker.ollama.open.clear()
    waiting = [asyncio.create_task(asker("https://a")) for _ in range(20)]
    await eventually(lambda: bool(asker.ollama.asked))
    asker.ollama.open.set()
    assert await asyncio.gather(*waiting) == [allowing("https://a")] * 20
    assert asker.ollama.asked == ["https://a"]


async def test_beyond_the_limit_of_questions_nobody_waits() -> None:
    asker = Asker()
    asker.ollama.open.clear()
    waiting = [asyncio.create_task(asker(f"https://{index}")) for index in range(8)]
    await eventually(lambda: len(asker.ollama.asked) == 8)
    assert await asyncio.wait_for(asker("https://one-more"), 0.5) == []
    asker.ollama.open.set()
    await asyncio.gather(*waiting)
    assert await asker("https://one-more") == allowing("https://one-more")


async def test_the_number_of_remembered_origins_is_limited_and_used_ones_stay() -> None:
    asker = Asker()
    for index in range(400):
        await asker("https://used")
        await asker(f"https://{index}")
    asker.ollama.asked.clear()
    await asker("https://used")
    await asker("https://399")
    assert asker.ollama.asked == []
    await asker("https://0")
    assert asker.ollama.asked == ["https://0"]


async def test_without_an_answer_the_last_headers_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cors, "_ANSWER_SECONDS", 0.01)
    asker = Asker()
    await asker("https://a")
    asker.clock.now += 61
    for make in ("failing", "silent"):
        if make == "silent":
            asker.ollama.open.clear()
        asker.ollama.failing = True
        assert await asker("https://a") == allowing("https://a")
        assert await asker(f"https://{make}") == []
        asker.clock.now += 6


async def test_an_ollama_that_does_not_answer_is_not_asked_for_each_response(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cors, "_ANSWER_SECONDS", 0.01)
    asker = Asker()
    asker.ollama.open.clear()
    for _ in range(5):
        assert await asker("https://a") == []
    assert len(asker.ollama.asked) == 1
    asker.clock.now += 6
    asker.ollama.open.set()
    assert await asker("https://a") == allowing("https://a")


async def test_an_unexpected_failure_leaves_no_response_waiting(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(origin: str) -> Headers:
        raise RuntimeError(str(uuid.uuid4()))

    asker = Asker()
    asker.cors = CorsHeaders(broken, asker.clock)
    assert await asyncio.wait_for(asker("https://a"), 30) == []
    assert "RuntimeError" in caplog.text
