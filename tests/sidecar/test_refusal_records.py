"""Refused requests: tenant, model and reason in the counter, in the record, and in the access log."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from llmendpoint_common.contracts.sidecar import RequestRecord, SidecarConfig
from llmendpoint_sidecar.main import Sidecar
from llmendpoint_sidecar.records.access_log import AccessLog
from support.servers import StartSidecar, StartSimulator
from support.waiting import eventually

CHAT = {"model": "simulated", "messages": [{"role": "user", "content": "one two three"}], "stream": False}


class Asker:
    """Sends requests of team-b to one sidecar, and keeps its access log."""

    def __init__(self, http: aiohttp.ClientSession, sidecar: Sidecar) -> None:
        self.http = http
        self.sidecar = sidecar
        self.requests = 0
        self.written = io.BytesIO()
        self.access_log = AccessLog(self.written)
        sidecar.runtime.meter.journal.listeners.append(self.access_log.add)

    async def __call__(self, path: str = "/api/chat", body: Any = CHAT, **headers: str) -> int:
        data = io.BytesIO(body if isinstance(body, bytes) else json.dumps(body).encode())
        self.requests += 1
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        given = {"x-api-key": "key-of-b", "X-Request-ID": f"mine-{self.requests}", **named}
        url = f"http://127.0.0.1:{self.sidecar.port}{path}"
        async with self.http.post(url, data=data, headers=given) as response:
            await response.read()
            return response.status

    def refused(self, outcome: str) -> RequestRecord:
        """Return the record of the only refused request. It is the same in all places."""
        metrics = self.sidecar.runtime.metrics
        (labels,) = [labels for labels, _ in metrics.snapshot().counters["requests"] if labels[3] == outcome]
        self.access_log.flush()
        lines = [msgspec.json.decode(line, type=RequestRecord) for line in self.written.getvalue().splitlines()]
        (record,) = [line for line in lines if line.outcome == outcome]
        model, operation, code, _, tenant = labels
        assert (record.model_name, record.operation, str(record.code), record.tenant) == (
            model,
            operation,
            code,
            tenant,
        )
        assert record in self.sidecar.runtime.meter.find(record.request_id)
        return record


@pytest.fixture
def keys(tmp_path: Path) -> list[Path]:
    (tmp_path / "team-b").write_text("key-of-b")
    return [tmp_path]


def config(**fields: Any) -> SidecarConfig:
    return msgspec.convert(fields, SidecarConfig)


LARGE = {**CHAT, "messages": [{"role": "user", "content": "x" * 100_000}]}
AT_HEAD = {
    "rejected_management": (config(modelManagement="Forbidden"), "management", "/api/pull"),
    "rejected": (config(allowedHosts=["example.com"]), "host", "/api/chat"),
}
AT_BODY = {
    "rejected_model": (config(tenants=[{"name": "team-b", "allowedModels": ["m"]}]), "model"),
    "rejected_queue": (config(maxWaiting=1), "max_waiting"),
}


@pytest.mark.parametrize("outcome", AT_HEAD)
async def test_a_request_that_is_refused_by_its_head_has_the_model_of_a_short_body(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession, keys: list[Path],
    outcome: str,
) -> None:  # fmt: skip
    limits, reason, path = AT_HEAD[outcome]
    simulator = await start_simulator()
    ask = Asker(http, await start_sidecar(simulator.port, limits, keys=keys))
    await eventually(lambda: bool(ask.sidecar.runtime.watch.listed))
    assert await ask(path) == 403
    record = ask.refused(outcome)
    assert (record.tenant, record.model_name, record.refusal_reason) == ("team-b", "simulated:latest", reason)


@pytest.mark.parametrize(
    ("limits", "reason"),
    [({"requestsPerMinute": 1}, "requests_per_minute"), ({"tokensPerMinute": 1}, "tokens_per_minute")],
)
@pytest.mark.parametrize(
    ("body", "model"),
    [
        (CHAT, "simulated:latest"),
        ({"model": "SIMULATED"}, "simulated:latest"),
        ({"model": "unlisted"}, "other"),
        (b"{", "other"),
        (LARGE, "other"),
    ],
)
async def test_a_request_over_quota_names_tenant_model_and_limit(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession, keys: list[Path],
    limits: dict[str, int], reason: str, body: Any, model: str,
) -> None:  # fmt: skip
    simulator = await start_simulator()
    tenants = [{"name": "team-b", **limits}]
    ask = Asker(http, await start_sidecar(simulator.port, config(tenants=tenants), keys=keys))
    await eventually(lambda: bool(ask.sidecar.runtime.watch.listed))
    assert await ask() == 200
    assert await ask("/api/generate", body) == 429
    record = ask.refused("rejected_quota")
    assert (record.tenant, record.model_name, record.refusal_reason) == ("team-b", model, reason)
    assert record.operation == "generate"


async def test_too_many_requests_at_once_name_tenant_model_and_limit(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession, keys: list[Path]
) -> None:
    simulator = await start_simulator(ttft=30.0)
    tenants = [{"name": "team-b", "maxConcurrent": 1}]
    ask = Asker(http, await start_sidecar(simulator.port, config(tenants=tenants), keys=keys))
    await eventually(lambda: bool(ask.sidecar.runtime.watch.listed))
    running = asyncio.create_task(ask())
    await eventually(lambda: len(simulator.simulator.ledger.entries) == 1)
    assert await ask() == 429
    running.cancel()
    record = ask.refused("rejected_quota")
    assert (record.tenant, record.model_name, record.refusal_reason) == ("team-b", "simulated:latest", "max_concurrent")


@pytest.mark.parametrize("body", [CHAT, LARGE])
@pytest.mark.parametrize("outcome", AT_BODY)
async def test_a_request_that_is_refused_by_its_body_has_the_model_in_it(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession, keys: list[Path],
    outcome: str, body: Any,
) -> None:  # fmt: skip
    limits, reason = AT_BODY[outcome]
    simulator = await start_simulator(ttft=30.0)
    ask = Asker(http, await start_sidecar(simulator.port, limits, keys=keys))
    await eventually(lambda: bool(ask.sidecar.runtime.watch.listed))
    running = [asyncio.create_task(ask()) for _ in range(2 if outcome == "rejected_queue" else 0)]
    await eventually(lambda: len(simulator.simulator.ledger.entries) == len(running))
    assert await ask(body=body) in (403, 503)
    for task in running:
        task.cancel()
    record = ask.refused(outcome)
    assert (record.tenant, record.model_name, record.refusal_reason) == ("team-b", "simulated:latest", reason)


async def test_an_unknown_key_has_neither_a_tenant_nor_a_model(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession, keys: list[Path]
) -> None:
    simulator = await start_simulator()
    ask = Asker(http, await start_sidecar(simulator.port, keys=keys))
    await eventually(lambda: bool(ask.sidecar.runtime.watch.listed))
    assert await ask(x_api_key="unknown") == 401
    record = ask.refused("rejected_auth")
    assert (record.tenant, record.model_name, record.refusal_reason) == ("", "other", "key")


@pytest.mark.parametrize(
    ("body", "headers", "reason"),
    [
        (b'{"model":"simulated"}', {"content_encoding": "br"}, "invalid_body"),
        (b'{"model":"m","Model":"n"}', {}, "invalid_body"),
        (b" " * 65 * 1024 * 1024, {}, "body_too_large"),
    ],
)
async def test_a_body_that_is_not_accepted_names_tenant_and_reason(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession, keys: list[Path],
    body: bytes, headers: dict[str, str], reason: str,
) -> None:  # fmt: skip
    simulator = await start_simulator()
    ask = Asker(http, await start_sidecar(simulator.port, config(maxWaiting=9), keys=keys))
    assert await ask(body=body, **headers) in (400, 413)
    record = ask.refused("rejected")
    assert (record.tenant, record.model_name, record.refusal_reason) == ("team-b", "other", reason)


async def test_bytes_that_are_not_http_have_a_reason(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession
) -> None:
    simulator = await start_simulator()
    ask = Asker(http, await start_sidecar(simulator.port))
    reader, writer = await asyncio.open_connection("127.0.0.1", ask.sidecar.port)
    writer.write(b"NONSENSE\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 400")
    writer.close()
    await eventually(lambda: ask.sidecar.runtime.metrics.total("requests") == 1)
    ask.access_log.flush()
    (line,) = ask.written.getvalue().splitlines()
    assert json.loads(line)["refusalReason"] == "invalid_http"


async def test_a_refusal_tells_the_request_id_by_which_its_record_is_found(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession
) -> None:
    simulator = await start_simulator()
    sidecar = await start_sidecar(
        simulator.port, msgspec.convert({"defaultTenant": {"allowedModels": []}}, SidecarConfig)
    )
    async with http.post(f"http://127.0.0.1:{sidecar.port}/api/chat", json=CHAT) as response:
        assert response.status == 403
        request_id = response.headers["X-Request-ID"]
    (record,) = sidecar.runtime.meter.find(request_id)
    assert record.outcome == "rejected_model"
