"""Facts from servers, also from those that answer something else than what is expected."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import aiohttp
import pytest

from llmendpoint_common.diagnosis.facts import LoadedModel, MachineFacts, OllamaFacts, SilenceKind
from llmendpoint_common.diagnosis.gather import OllamaPlace, Places, PrometheusPlace, SidecarPlace, gather
from llmendpoint_common.diagnosis.rules import machine_findings
from support.api_server.control_plane import free_port
from support.machine.doctor_machine import scripted_server
from support.servers import StartSidecar, StartSimulator
from support.waiting import eventually
from support.wire.fault_server import Exchange, answering, fault_server, plain


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as opened:
        yield opened


async def ollama_facts(session: aiohttp.ClientSession, url: str, **place: Any) -> OllamaFacts:
    facts = await gather(session, Places(ollamas=(OllamaPlace(url, **place),)))
    return facts.ollamas[0]


async def test_a_simulator_and_its_sidecar(
    session: aiohttp.ClientSession, start_simulator: StartSimulator, start_sidecar: StartSidecar
) -> None:
    simulator = await start_simulator()
    sidecar = await start_sidecar(simulator.port)
    await eventually(lambda: sidecar.status().ready)
    admin = f"http://127.0.0.1:{sidecar.admin_port}"
    places = Places((OllamaPlace(simulator.url),), (SidecarPlace("a", admin, upstream=simulator.url),))
    facts = await gather(session, places)
    assert machine_findings(facts) == ()
    (ollama,) = facts.ollamas
    assert (ollama.version, ollama.is_simulated, ollama.is_local) == ("0.17.4", True, True)
    assert ollama.skew is not None
    assert abs(ollama.skew) < 5
    assert facts.sidecars[0].status is not None


async def test_the_proxy_answers_in_place_of_its_ollama(
    session: aiohttp.ClientSession, start_simulator: StartSimulator, start_sidecar: StartSidecar
) -> None:
    simulator = await start_simulator()
    sidecar = await start_sidecar(simulator.port)
    facts = await ollama_facts(session, f"http://127.0.0.1:{sidecar.port}")
    assert (facts.version, facts.silence) == ("0.17.4", None)


@pytest.mark.parametrize("url", ["http://127.0.0.1:{}", "http://localhost:{}"])
async def test_a_port_on_which_nothing_listens(session: aiohttp.ClientSession, url: str) -> None:
    silence = (await ollama_facts(session, url.format(free_port()))).silence
    assert silence is not None
    assert silence.kind is SilenceKind.REFUSED


async def test_a_host_that_does_not_exist(session: aiohttp.ClientSession) -> None:
    silence = (await ollama_facts(session, "http://ollama.invalid:11434")).silence
    assert silence is not None
    assert silence.kind is SilenceKind.UNREACHABLE


@pytest.mark.parametrize("answer", [None, [], "text", {"version": 1}, {}])
async def test_a_server_that_is_not_ollama(session: aiohttp.ClientSession, answer: Any) -> None:
    script = {"/api/version": answer, "/status": answer, "/api/v1/targets": answer}
    with scripted_server(script) as server:
        places = Places((OllamaPlace(server.url),), (SidecarPlace("a", server.url),), PrometheusPlace(server.url))
        facts = await gather(session, places)
    assert {one.silence.kind for one in facts.servers if one.silence} == {SilenceKind.FOREIGN}
    assert len(facts.servers) == 3


@pytest.mark.parametrize("rows", [None, {}, [None], [{"name": 1, "size": "a"}], "a"])
async def test_lists_of_another_form_are_read_as_far_as_possible(session: aiohttp.ClientSession, rows: Any) -> None:
    script = {"/api/version": {"version": "0.17.4"}, "/api/tags": {"models": rows}, "/api/ps": {"models": rows}}
    with scripted_server(script) as server:
        facts = await ollama_facts(session, server.url)
    assert facts.silence is None
    assert {model.name for model in facts.models} | {model.name for model in facts.loaded} <= {""}


async def test_a_server_that_closes_the_connection_does_not_speak_http(session: aiohttp.ClientSession) -> None:
    async def close(exchange: Exchange) -> None:
        exchange.close()

    async with fault_server(close) as server:
        silence = (await ollama_facts(session, server.url)).silence
    assert silence is not None
    assert silence.kind is SilenceKind.FOREIGN


async def test_an_answer_that_has_no_end_is_cut_off(session: aiohttp.ClientSession) -> None:
    async with fault_server(answering(plain("200 OK", b" " * (9 * 1024 * 1024)))) as server:
        silence = (await ollama_facts(session, server.url)).silence
    assert silence is not None


@pytest.mark.parametrize(
    ("parameters", "wanted"),
    [("num_ctx   8192\ntop_p 1", 8192), ("num_ctx 1e+07", 10_000_000), ("num_ctx many", None), (7, None)],
)
async def test_the_context_that_a_model_wants(
    session: aiohttp.ClientSession, parameters: Any, wanted: int | None
) -> None:
    with scripted_server(script_with(parameters)) as server:
        (model,) = (await ollama_facts(session, server.url)).loaded
        asked = await ollama_facts(session, server.url, wanted_context=99, wanted_by="you ask")
    assert model == LoadedModel("a:latest", 2, 1, 4096, 32768, wanted, "its Modelfile asks" if wanted else "you ask")
    assert asked.loaded == (replace(model, wanted_context=99, wanted_by="you ask"),)


def script_with(parameters: Any) -> dict[str, Any]:
    loaded = {"name": "a:latest", "size": 2, "size_vram": 1, "context_length": 4096}
    info = {"general.architecture": "llama", "llama.context_length": 32768}
    return {
        "/api/version": {"version": "0.17.4"},
        "/api/ps": {"models": [loaded]},
        "/api/show": {"parameters": parameters, "model_info": info},
    }


async def test_targets_of_prometheus(session: aiohttp.ClientSession) -> None:
    rows = [
        {"scrapeUrl": "http://a:8001/metrics", "health": "down", "lastError": "no", "lastScrape": "0001-01-01T00:00:00Z"},
        {"scrapeUrl": "http://b:8001/metrics", "health": "up", "lastScrape": "2026-01-02T03:04:05.123456789Z"},
    ]  # fmt: skip
    with scripted_server({"/api/v1/targets": {"data": {"activeTargets": rows}}}) as server:
        facts = await gather(session, Places(prometheus=PrometheusPlace(server.url)))
    assert facts.prometheus is not None
    first, second = facts.prometheus.targets
    assert (first.url, first.health, first.error, first.last_scrape) == ("http://a:8001/metrics", "down", "no", None)
    assert second.last_scrape == pytest.approx(1767323045.123456)


async def test_a_prometheus_without_targets_says_when_it_started(session: aiohttp.ClientSession) -> None:
    script = {
        "/api/v1/targets": {"data": {"activeTargets": []}},
        "/api/v1/status/runtimeinfo": {"data": {"startTime": "2026-01-02T03:04:05.123456789Z"}},
    }
    with scripted_server(script) as server:
        facts = await gather(session, Places(prometheus=PrometheusPlace(server.url)))
    assert facts.prometheus is not None
    assert facts.prometheus.started == pytest.approx(1767323045.123456)


@pytest.mark.parametrize("ahead", [-7200.0, 90.0])
async def test_a_difference_of_clocks(session: aiohttp.ClientSession, ahead: float) -> None:
    with scripted_server({"/api/version": {"version": "0.17.4"}}) as server:
        server.ahead = ahead
        facts = await ollama_facts(session, server.url)
    assert facts.skew == pytest.approx(ahead, abs=3)


async def test_a_clock_that_is_set_during_the_check(session: aiohttp.ClientSession) -> None:
    times = itertools.chain([1_800_000_000.0], itertools.repeat(1_799_999_940.0))
    facts: MachineFacts = await gather(session, Places(), lambda: next(times))
    assert facts.clock_step == pytest.approx(-60, abs=1)
    assert [finding.cause for finding in machine_findings(facts)] == ["ClockJumped"]
