"""Server-sent events over real connections: reconnects, slow readers, and the end of the server."""

from __future__ import annotations

import asyncio
import contextlib
import time

import aiohttp
import pytest

from llmendpoint_common.process.units import Address
from llmendpoint_dashboard import state
from llmendpoint_dashboard.contract import DoctorRow, Severity
from llmendpoint_dashboard.main import Dashboard
from llmendpoint_dashboard.server import events
from support.dashboard.dashboards import Page, StartDashboard, reading, state_of, url_of
from support.waiting import eventually


def row(key: str, sentence: str = "") -> DoctorRow:
    return DoctorRow(key=key, severity=Severity.INFO, subject="s", cause="c", sentence=sentence)


@pytest.fixture
async def dashboard(start_dashboard: StartDashboard) -> Dashboard:
    return await start_dashboard()


async def test_changes_arrive_at_every_browser(browser: aiohttp.ClientSession, dashboard: Dashboard) -> None:
    pages = [Page() for _ in range(5)]
    async with (
        reading(browser, dashboard, pages[0]),
        reading(browser, dashboard, pages[1], **{"Accept-Encoding": "identity"}),
        reading(browser, dashboard, pages[2]),
        reading(browser, dashboard, pages[3]),
        reading(browser, dashboard, pages[4]),
    ):
        await eventually(lambda: all(page.seen for page in pages))
        assert dashboard.hub.reader_count == 5
        for number in range(20):
            dashboard.hub.upsert("doctor", [row(f"{number}")])
        await eventually(lambda: all(len(page.rows("doctor")) == 20 for page in pages))
    # A browser that leaves is noticed, although nothing is sent to it.
    await eventually(lambda: dashboard.hub.reader_count == 0)


async def test_a_browser_that_reconnects_gets_what_it_missed(
    browser: aiohttp.ClientSession, dashboard: Dashboard
) -> None:
    page = Page()
    dashboard.hub.upsert("doctor", [row("a"), row("b")])
    async with reading(browser, dashboard, page):
        await eventually(lambda: len(page.rows("doctor")) == 2)
    dashboard.hub.remove("doctor", ["a"])
    dashboard.hub.upsert("doctor", [row("c")])
    async with reading(browser, dashboard, page):
        await eventually(lambda: [one["key"] for one in page.rows("doctor")] == ["b", "c"])
    assert page.seen.count("state") == 1


async def test_a_browser_of_an_earlier_server_gets_the_whole_state(
    browser: aiohttp.ClientSession, start_dashboard: StartDashboard
) -> None:
    first = await start_dashboard()
    page = Page()
    first.hub.upsert("doctor", [row("old")])
    async with reading(browser, first, page) as task:
        await eventually(lambda: len(page.rows("doctor")) == 1)
        await first.stop()
        # The server ends the stream in good order, so that the browser reconnects.
        await asyncio.wait_for(task, 30)
    second = await start_dashboard(listen=Address("127.0.0.1", first.port))
    async with reading(browser, second, page):
        await eventually(lambda: page.seen.count("state") == 2)
    assert page.rows("doctor") == []


async def test_a_silent_stream_has_heartbeats(
    browser: aiohttp.ClientSession, start_dashboard: StartDashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmendpoint_dashboard.main.Events", lambda hub: events.Events(hub, heartbeat=0.05))
    dashboard = await start_dashboard()
    async with browser.get(url_of(dashboard, "/api/v1/events")) as response:
        assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert response.headers["Cache-Control"] == "no-store"
        text = ""
        while text.count(": heartbeat\n\n") < 3:
            text += (await response.content.readany()).decode()
    assert text.startswith("retry: 1000\n\nid: ")


async def test_a_browser_that_does_not_read_is_disconnected_and_delays_nobody(
    browser: aiohttp.ClientSession, dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "_MAX_READER_BYTES", 300_000)
    reader, writer = await asyncio.open_connection("127.0.0.1", dashboard.port, limit=1024)
    writer.write(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await writer.drain()
    page = Page()
    async with reading(browser, dashboard, page):
        await eventually(lambda: dashboard.hub.reader_count == 2)
        started, round_number = time.monotonic(), 0
        while dashboard.hub.reader_count == 2:
            assert time.monotonic() - started < 30
            # Text that cannot be compressed well, so that the buffers of the kernel fill.
            dashboard.hub.upsert("doctor", [row("x", f"{round_number}" * 40_000)])
            dashboard.hub.flush()
            round_number += 1
            await asyncio.sleep(0.002)
        # The other browser has seen everything.
        await eventually(lambda: page.rows("doctor")[0]["sentence"].startswith(f"{round_number - 1}"))
        assert dashboard.hub.reader_count == 1
    # What the kernel has buffered can still be read, and then the connection is over.
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(30):
            while await reader.read(65536):
                pass
    writer.close()


async def test_a_browser_that_takes_nothing_for_a_while_is_disconnected_although_little_waits_for_it(
    dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "WRITE_SECONDS", 0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", dashboard.port, limit=1024)
    writer.write(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await eventually(lambda: dashboard.hub.reader_count == 1)
    # More than the kernel buffers, in one event. Nothing follows it.
    dashboard.hub.upsert("doctor", [row("x", "x" * 40_000_000)])
    await eventually(lambda: dashboard.hub.reader_count == 0)
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(30):
            while await reader.read(65536):
                pass
    writer.close()


async def test_a_stream_ends_after_a_while_so_that_the_login_is_checked_again(
    browser: aiohttp.ClientSession, start_dashboard: StartDashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "STREAM_SECONDS", 0.1)
    monkeypatch.setattr("llmendpoint_dashboard.main.Events", lambda hub: events.Events(hub, heartbeat=0.02))
    dashboard, page = await start_dashboard(), Page()
    async with reading(browser, dashboard, page) as task:
        await asyncio.wait_for(task, 30)
    assert page.seen[0] == "state"


async def test_the_number_of_browsers_is_bounded(
    browser: aiohttp.ClientSession, dashboard: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "MAX_READERS", 2)
    async with reading(browser, dashboard, Page()), reading(browser, dashboard, Page()):
        await eventually(lambda: dashboard.hub.reader_count == 2)
        async with browser.get(url_of(dashboard, "/api/v1/events")) as response:
            assert (response.status, response.headers["Retry-After"]) == (503, "30")
        # Polling still works.
        assert "doctor" in await state_of(browser, dashboard)


@pytest.mark.alone
async def test_a_server_with_browsers_stops_quickly(
    browser: aiohttp.ClientSession, start_dashboard: StartDashboard
) -> None:
    dashboard = await start_dashboard()
    async with reading(browser, dashboard, Page()), reading(browser, dashboard, Page()):
        await eventually(lambda: dashboard.hub.reader_count == 2)
        started = time.monotonic()
        await dashboard.stop()
        assert time.monotonic() - started < 1.5
