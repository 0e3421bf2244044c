"""Keys, limits, the bounded queue, management and hosts: admitted requests, and refusals in the format of each API."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
import zstandard

from llmendpoint_common.contracts.sidecar import ModelManagement, SidecarConfig, TenantConfig, TenantLimits
from llmendpoint_common.wire.usage_filter import UsageFilter
from llmendpoint_sidecar.main import Sidecar
from support.servers import StartSidecar, StartSimulator
from support.waiting import eventually

CHAT = {"model": "simulated", "messages": [{"role": "user", "content": "one two three"}], "stream": False}
KEY = {"Authorization": "Bearer key-of-a"}


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """Keys of two tenants, as kubelet mounts a Secret: files are links into a folder that is replaced."""
    for version, suffix in (("..1", ""), ("..2", "-new")):
        (tmp_path / version).mkdir()
        for tenant in ("a", "b"):
            (tmp_path / version / tenant).write_text(f"key-of-{tenant}{suffix}\n")
    (tmp_path / "..data").symlink_to("..1")
    for tenant in ("a", "b"):
        (tmp_path / tenant).symlink_to(f"..data/{tenant}")
    return tmp_path


class Asker:
    """Sends requests to one sidecar."""

    def __init__(self, http: aiohttp.ClientSession, sidecar: Sidecar) -> None:
        self.http = http
        self.sidecar = sidecar

    async def __call__(
        self, path: str = "/api/chat", body: Any = CHAT, headers: Any = None, method: str = "POST"
    ) -> tuple[int, Any, Any]:
        url = f"http://127.0.0.1:{self.sidecar.port}{path}"
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with self.http.request(method, url, data=data, headers=headers or {}) as response:
            text = await response.read()
            return response.status, json.loads(text) if text else None, response.headers

    def outcomes(self) -> dict[str, int]:
        return dict(self.sidecar.runtime.metrics.totals_by("requests", "outcome"))


def config(**fields: Any) -> SidecarConfig:
    return msgspec.convert(fields, SidecarConfig)


async def test_without_a_key_every_api_refuses_in_its_own_shape(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession, keys: Path
) -> None:
    simulator = await start_simulator()
    ask = Asker(http, await start_sidecar(simulator.port, keys=[keys]))
    status, body, headers = await ask()
    assert (status, headers["WWW-Authenticate"]) == (401, "Bearer")
    assert "API key" in body["error"]
    _, body, _ = await ask("/v1/chat/completions")
    assert body["error"]["code"] == "invalid_api_key"
    _, body, _ = await ask("/v1/messages", headers={"x-api-key": "key-of-c"})
    assert (body["type"], body["error"]["type"]) == ("error", "authentication_error")
    for path in ("/api/tags", "/", "/api/%63hat", "/whatever"):
        assert (await ask(path))[0] == 401
    assert ask.outcomes() == {"rejected_auth": 7}
    assert not simulator.simulator.ledger.entries


async def test_a_key_names_the_tenant_on_counters_and_goes_no_further(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession, keys: Path
) -> None:
    simulator = await start_simulator(tokens=4)
    ask = Asker(http, await start_sidecar(simulator.port, keys=[keys]))
    assert (await ask(headers=KEY))[0] == 200
    assert (await ask("/v1/messages", {**CHAT, "max_tokens": 9}, {"x-api-key": "key-of-b"}))[0] == 200
    await eventually(
        lambda: dict(ask.sidecar.runtime.metrics.totals_by("generation_tokens", "tenant")) == {"a": 4, "b": 4}
    )
    async with http.options(f"http://127.0.0.1:{ask.sidecar.port}/api/chat") as response:
        assert response.status != 401  # a browser's preflight has no key


async def test_credentials_do_not_reach_the_upstream(start_sidecar: StartSidecar, keys: Path) -> None:
    heads: list[bytes] = []

    async def upstream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(upstream, "127.0.0.1", 0)
    sidecar = await start_sidecar(server.sockets[0].getsockname()[1], keys=[keys])
    reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.port)
    writer.write(
        b"GET /x HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer key-of-a\r\nX-Api-Key: other\r\nX-Mine: 1\r\n\r\n"
    )
    assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
    writer.close()
    server.close()
    await server.wait_closed()
    mine = next(head for head in heads if b"GET /x" in head)
    assert b"X-Mine: 1" in mine
    assert b"key-of-a" not in mine
    assert b"other" not in mine


async def test_a_swapped_secret_is_taken_without_restart_and_two_secrets_allow_rotation(
    start_simulator: StartSimulator,
    start_sidecar: StartSidecar,
    http: aiohttp.ClientSession,
    keys: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    second = tmp_path_factory.mktemp("second")
    simulator = await start_simulator()
    ask = Asker(http, await start_sidecar(simulator.port, keys=[keys, second]))
    new = {"Authorization": "Bearer key-of-a-new"}
    assert (await ask(headers=new))[0] == 401
    (second / "a").write_text("key-of-a-new")
    await ask.sidecar.inputs.poll()
    assert (await ask(headers=new))[0] == 200
    assert (await ask(headers=KEY))[0] == 200
    (keys / "..data").unlink()
    (keys / "..data").symlink_to("..2")
    await ask.sidecar.inputs.poll()
    assert (await ask(headers=KEY))[0] == 401
    # Without keys, all requests are refused, so that a deleted Secret does not open the endpoint.
    for folder in (keys, second):
        for name in ("a", "b"):
            (folder / name).unlink(missing_ok=True)
    await ask.sidecar.inputs.poll()
    assert (await ask(headers=new))[0] == 401


@pytest.mark.parametrize(
    ("path", "find"),
    [
        ("/api/chat", lambda body: body["error"]),
        ("/v1/chat/completions", lambda body: body["error"]["code"]),
        ("/v1/messages", lambda body: body["error"]["type"]),
    ],
)
async def test_requests_a_minute_end_in_429_with_a_time_to_come_again(
    start_simulator: StartSimulator,
    start_sidecar: StartSidecar,
    http: aiohttp.ClientSession,
    keys: Path,
    path: str,
    find: Any,
) -> None:
    simulator = await start_simulator()
    limits = config(tenants=[{"name": "a", "requestsPerMinute": 2}])
    ask = Asker(http, await start_sidecar(simulator.port, limits, keys=[keys]))
    body = {**CHAT, "max_tokens": 9}
    assert [(await ask(path, body, KEY))[0] for _ in range(2)] == [200, 200]
    status, answer, headers = await ask(path, body, KEY)
    assert status == 429
    assert 25 <= int(headers["Retry-After"]) <= 31
    assert any(word in find(answer) for word in ("2 requests per minute", "rate_limit_exceeded", "rate_limit_error"))
    assert (await ask(path, body, {"Authorization": "Bearer key-of-b"}))[0] == 200  # b has no limit
    async with http.get(f"http://127.0.0.1:{ask.sidecar.port}/api/tags", headers=KEY) as response:
        assert response.status == 200  # looking costs nothing
    assert ask.outcomes()["rejected_quota"] == 1


async def test_tokens_are_charged_when_they_are_known(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession
) -> None:
    simulator = await start_simulator(tokens=50)
    ask = Asker(http, await start_sidecar(simulator.port, config(defaultTenant={"tokensPerMinute": 60})))
    assert (await ask())[0] == 200  # 53 tokens
    assert (await ask())[0] == 200  # begun with 7 left, and 46 in debt at its end
    status, body, headers = await ask()
    assert status == 429
    assert "60 tokens per minute" in body["error"]
    assert 40 <= int(headers["Retry-After"]) <= 50


async def test_requests_at_once_are_bounded_and_given_back_even_by_clients_that_leave(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession
) -> None:
    simulator = await start_simulator(ttft=30)
    ask = Asker(http, await start_sidecar(simulator.port, config(defaultTenant={"maxConcurrent": 1})))
    first = asyncio.create_task(ask())
    await eventually(lambda: bool(ask.sidecar.runtime.meter.in_flight.counts()))
    assert (await ask())[0] == 429
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await eventually(lambda: not ask.sidecar.runtime.meter.in_flight.counts())
    simulator.behave(ttft=0)
    assert (await ask())[0] == 200


ASKING: list[Any] = [
    ("/api/chat", json.dumps({**CHAT, "model": "other"}).encode(), {}),
    ("/api/generate", b'{"prompt": "x", "MODEL": "other"}', {}),
    ("/v1/completions", b'{"model": "simulated", "model": "other"}', {}),
    ("/v1/chat/completions", zstandard.compress(json.dumps({**CHAT, "model": "other"}).encode()), {"Content-Encoding": "zstd"}),
    ("/api/%63hat", json.dumps({**CHAT, "model": "other"}).encode(), {}),
    ("/api/chat", b'{"model": "other"}\r\n--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nsimulated\r\n--x--\r\n', {"Content-Type": "multipart/form-data; boundary=x"}),
    ("/v1/audio/transcriptions", b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nother\r\n--x--\r\n', {"Content-Type": "multipart/form-data; boundary=x"}),
]  # fmt: skip
UNCLEAR: list[Any] = [
    ("/v1/responses", b'{"model": "simulated"}', [("Content-Encoding", "zstd"), ("Content-Encoding", "identity")]),
    ("/api/chat", b'{"model": "simulated", "Model": "other"}', {}),
    ("/api/chat", b"not json", {}),
    ("/v1/responses", b"not zstd", {"Content-Encoding": "zstd"}),
    ("/v1/responses", b"{}", {"Content-Encoding": "br"}),
    ("/v1/audio/transcriptions", b"--x--\r\n", {"Content-Type": "multipart/form-data; boundary=x"}),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body", "headers"), ASKING, ids=range(len(ASKING)))
async def test_a_model_that_is_not_allowed_is_403_however_it_is_asked_for(
    start_simulator: StartSimulator,
    start_sidecar: StartSidecar,
    http: aiohttp.ClientSession,
    path: str,
    body: bytes,
    headers: dict[str, str],
) -> None:
    simulator = await start_simulator(models=["simulated:latest", "other:latest"])
    ask = Asker(
        http, await start_sidecar(simulator.port, config(defaultTenant={"allowedModels": ["simulated:latest"]}))
    )
    assert (await ask())[0] == 200
    assert (await ask(path, body, headers))[0] == 403
    await eventually(lambda: ask.outcomes() == {"ok": 1, "rejected_model": 1})
    assert len(simulator.simulator.ledger.entries) == 1


async def test_bytes_after_the_object_name_no_model(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession
) -> None:
    """Ollama ignores them."""
    simulator = await start_simulator(models=["simulated:latest", "other:latest"])
    sidecar = await start_sidecar(simulator.port, config(defaultTenant={"allowedModels": ["simulated:latest"]}))
    ask = Asker(http, sidecar)
    assert (await ask("/api/chat", b'{"model": "simulated"} {"model": "other"}'))[0] == 200
    assert [entry.model for entry in simulator.simulator.ledger.entries] == ["simulated:latest"]


@pytest.mark.parametrize(("path", "body", "headers"), UNCLEAR, ids=range(len(UNCLEAR)))
async def test_a_body_whose_model_is_ambiguous_is_400(
    start_simulator: StartSimulator,
    start_sidecar: StartSidecar,
    http: aiohttp.ClientSession,
    path: str,
    body: bytes,
    headers: dict[str, str],
) -> None:
    simulator = await start_simulator()
    ask = Asker(
        http, await start_sidecar(simulator.port, config(defaultTenant={"allowedModels": ["simulated:latest"]}))
    )
    assert (await ask(path, body, headers))[0] == 400
    assert not simulator.simulator.ledger.entries


async def test_the_queue_of_a_model_is_bounded(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession
) -> None:
    simulator = await start_simulator(ttft=30, parallel=1)
    ask = Asker(http, await start_sidecar(simulator.port, config(maxWaiting=2)))
    await eventually(lambda: bool(ask.sidecar.runtime.watch.listed))
    waiting = [asyncio.create_task(ask()) for _ in range(3)]
    await eventually(lambda: ask.sidecar.runtime.meter.in_flight.waiting() == {"simulated:latest": 2})
    status, body, headers = await ask()
    assert status == 503
    assert body["error"].startswith("server busy, please try again")
    assert int(headers["Retry-After"]) >= 1
    assert ask.outcomes() == {"rejected_queue": 1}
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/api/pull"), ("POST", "/api/push"), ("POST", "/api/create"), ("POST", "/api/copy"), ("DELETE", "/api/delete"),
     ("POST", "/api/blobs/sha256:0"), ("HEAD", "/api/blobs/sha256:0"), ("POST", "/api/%70ull"), ("POST", "/api/pull?x=1")],
)  # fmt: skip
async def test_forbidden_management_is_403_with_a_sentence(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession, method: str, path: str
) -> None:
    simulator = await start_simulator()
    ask = Asker(http, await start_sidecar(simulator.port, config(modelManagement="Forbidden")))
    status, body, _ = await ask(path, {"model": "x"}, method=method)
    assert status == 403
    assert method == "HEAD" or "spec.models" in body["error"]
    assert ask.outcomes() == {"rejected_management": 1}
    assert (await ask())[0] == 200


async def test_only_allowed_hosts_are_served(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession
) -> None:
    simulator = await start_simulator()
    ask = Asker(http, await start_sidecar(simulator.port, config(allowedHosts=["localhost", "127.0.0.1", "[::1]"])))
    assert (await ask())[0] == 200
    for host, expected in (("localhost:11434", 200), ("LOCALHOST", 200), ("[::1]:1", 200), ("evil.example:11434", 403)):
        assert (await ask(headers={"Host": host}))[0] == expected, host


async def test_a_wildcard_allows_the_hosts_below_a_domain(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession
) -> None:
    simulator = await start_simulator()
    ask = Asker(http, await start_sidecar(simulator.port, config(allowedHosts=["*.Example.com"])))
    for host, expected in (
        ("a.example.com", 200),
        ("A.B.EXAMPLE.COM:11434", 200),
        ("example.com", 403),
        (".example.com", 403),
        ("badexample.com", 403),
        ("a.example.com.evil.org", 403),
        ("*", 403),
    ):
        assert (await ask(headers={"Host": host}))[0] == expected, host


async def test_a_refused_upload_reads_its_answer_and_a_short_one_keeps_its_connection(
    start_simulator: StartSimulator, start_sidecar: StartSidecar
) -> None:
    simulator = await start_simulator()
    sidecar = await start_sidecar(simulator.port, config(modelManagement="Forbidden"))
    reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.port)
    short = b"POST /api/pull HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}"
    writer.write(short + b"GET /api/version HTTP/1.1\r\nHost: h\r\n\r\n")
    assert (await reader.readuntil(b"\r\n")).split()[1] == b"403"
    await reader.readuntil(b"}")
    assert (await reader.readuntil(b"\r\n")).split()[1] == b"200"
    await reader.readuntil(b"}")
    # 8 MiB that nobody wants: without a lingering close their arrival would reset the connection before the answer is read.
    writer.write(
        b"POST /api/blobs/sha256:1 HTTP/1.1\r\nHost: h\r\nContent-Length: 8388608\r\n\r\n" + bytes(4 * 1024 * 1024)
    )
    await writer.drain()
    writer.write(bytes(2 * 1024 * 1024))
    await writer.drain()
    answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 403")
    assert b"Connection: close" in answer
    writer.close()


async def test_a_held_request_is_told_to_go_on(start_simulator: StartSimulator, start_sidecar: StartSidecar) -> None:
    simulator = await start_simulator()
    sidecar = await start_sidecar(simulator.port, config(maxWaiting=5))
    reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.port)
    body = json.dumps(CHAT).encode()
    writer.write(
        b"POST /api/chat HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body)
    )
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(body)
    assert (await reader.readuntil(b"\r\n")).split()[1] == b"200"
    writer.close()


async def test_each_replica_counts_its_limits_alone(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession
) -> None:
    simulator = await start_simulator()
    limits = config(defaultTenant={"requestsPerMinute": 2})
    replicas = [Asker(http, await start_sidecar(simulator.port, limits)) for _ in range(3)]
    statuses = [(await replica())[0] for _ in range(4) for replica in replicas]
    assert statuses == [200] * 6 + [429] * 6


async def test_limits_change_without_a_restart_and_unchanged_ones_keep_their_account(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession
) -> None:
    simulator = await start_simulator()
    ask = Asker(http, await start_sidecar(simulator.port, config(defaultTenant={"requestsPerMinute": 1})))
    assert (await ask())[0] == 200
    ask.sidecar.proxy_service.admission.configure(config(defaultTenant={"requestsPerMinute": 1}, maxWaiting=9))
    assert (await ask())[0] == 429
    ask.sidecar.proxy_service.admission.configure(config(defaultTenant={"requestsPerMinute": 5}))
    assert (await ask())[0] == 200


def test_a_wrong_limit_is_named() -> None:
    with pytest.raises(msgspec.ValidationError, match=r"\$\.tenants\[0\]\.requestsPerMinute"):
        msgspec.json.decode(b'{"tenants": [{"name": "a", "requestsPerMinute": 0}]}', type=SidecarConfig)
    assert SidecarConfig().model_management is ModelManagement.ALLOWED
    assert TenantConfig(name="a", max_concurrent=3).allowed_models is None
    assert SidecarConfig().default_tenant == TenantLimits()


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_usage_is_asked_for_and_taken_out_again(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession, path: str
) -> None:
    simulator = await start_simulator(tokens=5)
    plain = await start_sidecar(simulator.port)
    injecting = await start_sidecar(simulator.port, config(includeUsage="Inject"))
    body = {**CHAT, "prompt": "one two three", "stream": True}
    asking = {**body, "stream_options": {"include_usage": True}}

    async def events(sidecar: Sidecar, sent: dict[str, Any]) -> list[dict[str, Any]]:
        async with http.post(f"http://127.0.0.1:{sidecar.port}{path}", json=sent) as response:
            lines = (await response.read()).split(b"\n\n")
        assert lines[-2:] == [b"data: [DONE]", b""]
        return [{k: v for k, v in json.loads(line[6:]).items() if k not in ("id", "created")} for line in lines[:-2]]

    expected = await events(plain, body)
    assert await events(injecting, body) == expected
    assert len(await events(injecting, asking)) == len(await events(plain, asking))
    assert injecting.runtime.metrics.total("generation_tokens") == 10
    assert not injecting.runtime.metrics.totals_by("unmetered_requests", "reason")
    assert dict(plain.runtime.metrics.totals_by("unmetered_requests", "reason")) == {"no_usage": 1}


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_stream_split_anywhere_loses_its_usage_and_nothing_else(cut: int) -> None:
    stream = (
        b'data: {"choices":[{"text":"\\n\\n \\u00e9"}],"usage":{"a":1},"x":"y"}\n\n'
        b'data: {"choices":[],"usage":{"a":2}}\n\n: comment\n\ndata: {"usage"\n\ndata: [DONE]\n\nrest'
    )
    seen = UsageFilter()
    out = b"".join(seen.feed(stream[at : at + cut]) for at in range(0, len(stream), cut)) + seen.flush()
    assert out == (
        b'data: {"choices":[{"text":"\\n\\n \\u00e9"}],"x":"y"}\n\n: comment\n\ndata: {"usage"\n\ndata: [DONE]\n\nrest'
    )
