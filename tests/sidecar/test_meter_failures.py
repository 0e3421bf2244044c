"""Failures of the meter itself: the request is counted and has a record, and its tenant is charged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from llmendpoint_common.contracts.sidecar import RequestRecord, SidecarConfig, TenantConfig
from llmendpoint_common.wire.dialects.ollama import OllamaDialect
from llmendpoint_common.wire.request_body import BodyReader
from llmendpoint_sidecar.meter import bodies, exchange, recorder
from llmendpoint_sidecar.meter.histogram import Histogram
from llmendpoint_sidecar.meter.model_labels import ModelLabels
from support.servers import StartSidecar, StartSimulator
from support.waiting import eventually

CHAT = {"model": "simulated", "messages": [{"role": "user", "content": "one two three"}]}
SECRET = "text of a client"


def explode(*_: object) -> Any:
    raise RuntimeError(SECRET)


def explode_later(method: Callable[..., Any], calls: int) -> Callable[..., Any]:
    """Return a method that fails after some calls."""
    made = [0]

    def call(*arguments: Any) -> Any:
        made[0] += 1
        return method(*arguments) if made[0] <= calls else explode()

    return call


PLACES = {
    "the request is read": (exchange, "model_of_ordinary", explode),
    "an odd request is read": (exchange.ExchangeMeter, "_body_reader", explode),
    "a large request begins to be read": (bodies.BodyQueue, "feed", explode),
    "a large request is read": (BodyReader, "work", explode),
    "a large request has been read": (BodyReader, "finish", explode),
    "a dialect is made": (exchange, "dialect_of", explode),
    "the response is read": (OllamaDialect, "feed", explode),
    "a later batch is read": (OllamaDialect, "feed", explode_later(OllamaDialect.feed, 40)),
    "the response has ended": (OllamaDialect, "close", explode),
    "a model is labelled": (ModelLabels, "label", explode),
    "a value is observed": (Histogram, "observe", explode),
    "gaps are observed": (Histogram, "observe_all", explode),
    "a trace context is read": (recorder, "plain_trace_parent", explode),
}


#: With limits, admission reads the request, and the meter does not.
CASES = [(place, limited) for place in PLACES for limited in (False, True) if not (limited and "request" in place)]


@pytest.mark.parametrize(("place", "limited"), CASES)
async def test_a_failing_meter_costs_neither_the_stream_nor_the_count(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, place: str, limited: bool,
) -> None:  # fmt: skip
    (tmp_path / "team-b").write_text("key-of-b")
    simulator = await start_simulator(tokens=50)
    tenants = (TenantConfig(name="team-b", tokens_per_minute=1_000_000),) if limited else ()
    sidecar = await start_sidecar(simulator.port, SidecarConfig(tenants=tenants), keys=[tmp_path])
    body: dict[str, Any] = dict(CHAT)
    if "odd" in place:
        body["x"] = "model"
    if "large" in place:
        body["x"] = "x" * 100_000
    owner, name, replacement = PLACES[place]
    monkeypatch.setattr(owner, name, replacement)
    headers = {
        "x-api-key": "key-of-b",
        "X-Request-ID": "mine",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    }
    async with http.post(f"http://127.0.0.1:{sidecar.port}/api/chat", json=body, headers=headers) as response:
        assert response.status == 200
        assert len((await response.read()).splitlines()) == 51
    metrics = sidecar.runtime.metrics
    await eventually(lambda: metrics.totals_by("requests", "tenant") == {"team-b": 1})
    assert metrics.totals_by("requests", "operation") == {"chat": 1}
    assert metrics.totals_by("requests", "code") == {"200": 1}
    assert metrics.totals_by("requests", "outcome") == {"ok": 1}
    assert metrics.total("meter_failures") > 0
    records = sidecar.runtime.meter.find("mine")
    assert [(record.tenant, record.operation, record.outcome) for record in records] == [("team-b", "chat", "ok")]
    metered = sum(metrics.totals_by("generation_tokens", "tenant").values())
    unmetered = metrics.totals_by("unmetered_requests", "reason")
    assert (metered, unmetered) in ((50, {}), (0, {"unreadable": 1}))
    assert sidecar.status().totals.running == 0
    assert SECRET not in caplog.text


async def test_a_failing_listener_costs_no_count(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession
) -> None:
    simulator = await start_simulator(tokens=5)
    sidecar = await start_sidecar(simulator.port)
    written: list[RequestRecord] = []
    sidecar.runtime.meter.journal.listeners += [explode, written.append]
    async with http.post(f"http://127.0.0.1:{sidecar.port}/api/chat", json=CHAT) as response:
        await response.read()
    metrics = sidecar.runtime.metrics
    await eventually(lambda: metrics.total("requests") == 1)
    assert metrics.totals_by("generation_tokens", "model_name") == {"simulated:latest": 5}
    assert len(written) == 1
