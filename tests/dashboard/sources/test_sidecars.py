"""Sidecars that stop answering, in virtual time; the table of requests; and the number of polls."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from llmendpoint_common.contracts.sidecar import (
    ModelPhase,
    ModelStatus,
    Operation,
    Outcome,
    RequestRecord,
    SidecarStatus,
    Totals,
)
from llmendpoint_dashboard.contract import About, Mode, ModelState, Overview, RequestRow, SourceState
from llmendpoint_dashboard.settings import SidecarAddress
from llmendpoint_dashboard.sources.about import AboutWriter
from llmendpoint_dashboard.sources.exposition import Gauge, Page, PageReader
from llmendpoint_dashboard.sources.models import model_rows
from llmendpoint_dashboard.sources.requests import RequestTable
from llmendpoint_dashboard.sources.ring import Ring
from llmendpoint_dashboard.sources.sidecar import Sidecar
from llmendpoint_dashboard.sources.sidecars import Sidecars
from llmendpoint_dashboard.state import Hub
from support.clock import Clock
from support.servers import StartSidecar, StartSimulator

ADDRESS = SidecarAddress("ollama", "http://127.0.0.1:1")


def all_of(hub: Hub, clock: Clock, *addresses: SidecarAddress) -> Sidecars:
    about = About(version="1", mode=Mode.MACHINE, prometheus=False, can_start_load_tests=False)
    sidecars = Sidecars(hub, AboutWriter(hub, about), Ring(), clock, clock)
    sidecars.configure(addresses)
    return sidecars


async def test_a_sidecar_that_stops_answering_is_stale_and_after_30_s_down(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, browser: aiohttp.ClientSession
) -> None:
    simulator, clock, hub = await start_simulator(), Clock(), Hub()
    real = await start_sidecar(simulator.port)
    sidecars = all_of(hub, clock, SidecarAddress("ollama", f"http://127.0.0.1:{real.admin_port}"))
    sidecar = next(iter(sidecars.all))
    assert sidecar.source().state == "down"

    for _ in range(4):
        clock.now += 1
        reading = await sidecar.poll(browser)
        assert reading is not None
        sidecars.accept(sidecar, reading)
    sidecars.publish()
    assert (sidecar.state, sidecar.source().last_seen) == (SourceState.OK, None)
    answered = clock.now

    await real.stop()
    clock.now += 1
    assert await sidecar.poll(browser) is None
    sidecars.publish()
    overview: Any = hub.section("overview")
    assert isinstance(overview, Overview)
    assert (sidecar.state, overview.window_seconds) == (SourceState.STALE, 3.0)
    assert sidecar.source().last_seen == answered
    clock.now = answered + 29.9
    assert sidecar.source().state == "stale"
    clock.now = answered + 30
    sidecars.publish()
    overview = hub.section("overview")
    assert (sidecar.state, overview.window_seconds) == (SourceState.DOWN, 0.0)
    # Its models stay, as what was last known.
    assert hub.rows("models")

    # One that is no longer configured leaves nothing behind.
    sidecars.configure([])
    sidecars.publish()
    assert hub.rows("models") == []
    about: Any = hub.section("about")
    assert about.sources == ()


@pytest.mark.parametrize(("count", "interval"), [(0, 1), (1, 1), (100, 1), (500, 5), (2000, 20)])
def test_there_are_at_most_a_hundred_polls_per_second(count: int, interval: float) -> None:
    addresses = [SidecarAddress(f"{number}", f"http://127.0.0.1:{number + 1}") for number in range(count)]
    assert all_of(Hub(), Clock(), *addresses).interval == interval


def record(number: int, **fields: Any) -> RequestRecord:
    values: dict[str, Any] = {
        "time": float(number), "request_id": f"id-{number}", "tenant": "", "model_name": "m",
        "operation": Operation.CHAT, "code": 200, "outcome": Outcome.OK, "duration": 1.23456789,
    }  # fmt: skip
    return RequestRecord(**{**values, **fields})


def shown(hub: Hub) -> list[RequestRow]:
    return sorted((row for row in hub.rows("requests") if isinstance(row, RequestRow)), key=lambda row: row.time)


def test_the_last_200_requests_of_all_sources_are_shown() -> None:
    hub = Hub()
    table = RequestTable(hub)
    for number in range(0, 600, 100):
        table.add("a", [record(one) for one in range(number, number + 100)])
        table.add("b", [record(one) for one in range(number, number + 100, 10)])
    rows = shown(hub)
    assert len(rows) == 200
    assert rows[0].time == 418
    assert {row.source for row in rows} == {"a", "b"}


def test_a_request_that_is_listed_again_is_not_shown_twice() -> None:
    hub = Hub()
    table = RequestTable(hub)
    table.add("a", [record(1), record(2)])
    hub.flush()
    version = hub.version
    table.add("a", [record(1), record(2)])
    hub.flush()
    assert hub.version == version
    # An ID that a client uses again is another request.
    table.add("a", [record(3, request_id="id-1")])
    assert len(shown(hub)) == 3


def test_requests_about_models_are_shown_only_if_they_failed() -> None:
    hub = Hub()
    RequestTable(hub).add(
        "a",
        [
            record(1, operation=Operation.LIST),
            record(2, operation=Operation.INFO, code=401, outcome=Outcome.REJECTED_AUTH),
            record(3, operation=Operation.PULL),
        ],
    )
    assert [(row.operation, row.outcome) for row in shown(hub)] == [("info", "rejected_auth"), ("pull", "ok")]


def test_a_model_that_is_listed_later_and_is_in_memory_has_been_loaded() -> None:
    sidecar = Sidecar(ADDRESS, PageReader(), Clock(), Clock())
    line = b'llmendpoint_model_loaded{model_name="%b"} %d\n'
    sidecar._read_page(line % (b"old:1", 1))
    sidecar._read_page(line % (b"old:1", 1) + line % (b"new:1", 1))
    seen = {name: (one.loads, one.loaded_before) for name, one in sidecar.presences.items()}
    assert seen == {"old:1": (0, True), "new:1": (1, False)}


def status(*models: ModelStatus) -> SidecarStatus:
    return SidecarStatus("1", True, False, True, "0.17.4", models, Totals())


def test_models_are_shown_in_the_phase_that_matters() -> None:
    sidecar = Sidecar(ADDRESS, PageReader(), Clock(), Clock())
    sidecar.status = status(
        ModelStatus("pulled", ModelPhase.PULLING, message="pulled 1 GB of 4 GB", bytes_per_second=10, remaining_seconds=300,
                    pulled_bytes=1000, pull_bytes=4000),
        ModelStatus("wrong", ModelPhase.FAILED, reason="PullFailed", message="the registry refused it"),
        ModelStatus("here", ModelPhase.READY, present=True, size_bytes=500, digest="sha256:1"),
        ModelStatus("shared", ModelPhase.READY, present=True, loaded=True, loaded_bytes=100, vram_bytes=50),
    )  # fmt: skip
    sidecar.page = Page(
        {},
        {
            Gauge.LOADED: {"here:latest": 0, "other:7b": 1, "far:cloud": 0, "shared:latest": 0},
            Gauge.SIZE: {"other:7b": 200},
            Gauge.VRAM: {"other:7b": 200},
            Gauge.REMOTE: {"far:cloud": 1},
            Gauge.EXPIRES: {"other:7b": 10_000_000_000.0},
        },
    )
    rows = {row.name: row for row in model_rows(sidecar, 1_800_000_000.0)}
    assert {name: row.state for name, row in rows.items()} == {
        "pulled:latest": ModelState.PULLING, "wrong:latest": ModelState.FAILED, "here:latest": ModelState.AVAILABLE,
        "shared:latest": ModelState.LOADED, "other:7b": ModelState.LOADED, "far:cloud": ModelState.REMOTE,
    }  # fmt: skip
    pull = rows["pulled:latest"].pull
    assert pull is not None
    assert (pull.completed_bytes, pull.total_bytes, pull.bytes_per_second, pull.seconds_left) == (1000, 4000, 10, 300)
    assert rows["wrong:latest"].message == "PullFailed: the registry refused it"
    assert (rows["here:latest"].size_bytes, rows["here:latest"].vram_bytes) == (500, None)
    assert (rows["shared:latest"].size_bytes, rows["shared:latest"].gpu_share) == (100, 0.5)
    # Ollama reports a time in the far future for a model that it never unloads.
    assert (rows["other:7b"].gpu_share, rows["other:7b"].expires) == (1.0, None)
    assert rows["other:7b"].key == "ollama/other:7b"
