"""Histories from a real Prometheus, and how they are joined with what the dashboard has read itself."""

from __future__ import annotations

import asyncio
import math
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from llmendpoint_dashboard.contract import History, HistorySource, SeriesName
from llmendpoint_dashboard.main import Dashboard
from llmendpoint_dashboard.sources.exposition import Key, Kind
from llmendpoint_dashboard.sources.history import RANGES, Histories
from llmendpoint_dashboard.sources.increases import Increase
from llmendpoint_dashboard.sources.prometheus import Prometheus
from llmendpoint_dashboard.sources.ring import Ring, Selection
from support.api_server.control_plane import free_port
from support.dashboard.dashboards import MODEL, StartDashboard, Watch, Watched, url_of
from support.servers import StartSidecar, StartSimulator
from support.waiting import eventually

_TOKENS = 'sum(llmendpoint_generation_tokens_total{namespace="models"})'
_CONFIG = """global: {{scrape_interval: 1s}}
scrape_configs:
  - job_name: llmendpoint
    static_configs: [{{targets: ["127.0.0.1:{port}"], labels: {{namespace: "{namespace}"}}}}]
"""


@pytest.fixture
def start_prometheus(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Return a function that starts Prometheus with one target, and returns its URL."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not installed")
    started: list[subprocess.Popen[bytes]] = []

    def start(port: int, namespace: str = "models") -> str:
        listen = f"127.0.0.1:{free_port()}"
        config = tmp_path / "prometheus.yml"
        config.write_text(_CONFIG.format(port=port, namespace=namespace))
        command = [program, f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'data'}",
                   f"--web.listen-address={listen}", "--log.level=error"]  # fmt: skip
        started.append(subprocess.Popen(command))
        return f"http://{listen}"

    yield start
    for process in started:
        process.terminate()
        process.wait(20)


@asynccontextmanager
async def histories_of(
    it: Watched, url: str, now: float, ring: Ring
) -> AsyncIterator[Callable[..., Awaitable[History]]]:
    """Yield a function that reads histories, as if it were `now`."""
    histories = Histories(ring, Prometheus(url), it.dashboard.about, lambda: now)

    async def read(name: str, **selection: str) -> History:
        return await histories.read(it.browser, name, Selection(**selection))

    yield read


async def instant(browser: aiohttp.ClientSession, url: str, query: str, at: float) -> float:
    """Return the value of an expression with one series, or NaN if there is none or Prometheus does not answer yet."""
    try:
        async with browser.get(f"{url}/api/v1/query", params={"query": query, "time": str(at)}) as response:
            result = (await response.json())["data"]["result"]
    except (aiohttp.ClientError, KeyError):
        return math.nan
    return float(result[0]["value"][1]) if result else math.nan


async def until_scraped(it: Watched, url: str) -> None:
    """Wait until Prometheus has the tokens that the simulator has generated."""
    await until_counted(it, url, _TOKENS, it.counted("generation_tokens"))


async def until_counted(it: Watched, url: str, query: str, expected: float) -> None:
    """Wait until an expression has a value."""
    deadline = time.monotonic() + 60
    while (seen := await instant(it.browser, url, query, time.time())) != expected:
        assert time.monotonic() < deadline, seen
        await asyncio.sleep(0.2)


async def next_point(it: Watched, url: str) -> int:
    """Wait until the time of a point has passed, which is a multiple of 5 s, and return it. Its values are final."""
    while True:
        now = math.ceil(time.time() / 5) * 5
        # A scrape takes up to a second. If it takes longer on a busy machine, it fails, and gauges have no value.
        await asyncio.sleep(now + 2 - time.time())
        if not math.isnan(await instant(it.browser, url, "sum(llmendpoint_num_requests_running)", now)):
            return now


def last(history: History, name: SeriesName, outcome: str = "") -> float | None:
    found = [series for series in history.series if series.name is name and series.outcome == outcome]
    return found[0].values[-1] if found else None


def tokens(history: History) -> list[tuple[float, float | None]]:
    """Return the times with the generated tokens per second."""
    found = next(series for series in history.series if series.name is SeriesName.GENERATION_TOKENS)
    return list(zip(history.times, found.values, strict=True))


async def test_a_history_from_prometheus_has_the_values_that_prometheus_has(
    watch: Watch, start_prometheus: Callable[..., str]
) -> None:
    it = await watch(ttft=0.02, inter_token=0.005, tokens=6)
    await it.ask()
    await it.ask(model="absent")
    url = start_prometheus(it.sidecars[0].admin_port)
    await until_scraped(it, url)
    for _ in range(4):
        await it.ask()
    await it.ask(model="absent")
    await until_scraped(it, url)

    now = await next_point(it, url)
    async with histories_of(it, url, now + 2, Ring()) as read:
        history = await read("15m")
        assert (history.source, history.step, history.message) == (HistorySource.PROMETHEUS, 5, "")
        assert len(history.times) == 180
        assert history.times[-1] == now
        for name, query in {
            SeriesName.GENERATION_TOKENS: "sum(rate(llmendpoint_generation_tokens_total[60s]))",
            SeriesName.PROMPT_TOKENS: "sum(rate(llmendpoint_prompt_tokens_total[60s]))",
            SeriesName.TTFT_P95: "histogram_quantile(0.95, sum by (le) "
            "(rate(llmendpoint_time_to_first_token_seconds_bucket[60s])))",
            SeriesName.RUNNING: "sum(llmendpoint_num_requests_running)",
        }.items():
            expected = await instant(it.browser, url, query, now)
            assert not math.isnan(expected)
            assert last(history, name) == pytest.approx(expected, rel=1e-4), name
        assert (last(history, SeriesName.ERRORS, "upstream_4xx") or 0) > 0
        # What was before Prometheus is unknown.
        assert history.series[0].values[0] is None

        other = await read("15m", model="absent:latest")
        assert last(other, SeriesName.GENERATION_TOKENS) is None
        one = await read("15m", model=MODEL, tenant="")
        assert last(one, SeriesName.GENERATION_TOKENS) == last(history, SeriesName.GENERATION_TOKENS)
        assert SeriesName.TTFT_P50 not in {series.name for series in one.series}
        assert len((await read("7d")).times) == 336

    hostile = Selection('a"} or vector(1) #', "\\")
    series = await Prometheus(url, ["models"]).series(it.browser, [now - 15, now], 15, hostile)
    assert all(value is None for one in series for value in one.values)
    assert await Prometheus(url, ["models"]).series(it.browser, [now], 15, Selection())
    empty = await Prometheus(url, ["other"]).series(it.browser, [now], 15, Selection())
    assert all(value is None for one in empty for value in one.values)


@pytest.mark.parametrize("name", ["15m", "1h", "6h", "7d"])
async def test_the_first_requests_after_a_start_are_shown_although_prometheus_has_missed_them(
    watch: Watch, start_prometheus: Callable[..., str], name: str
) -> None:
    it = await watch(tokens=6)
    await eventually(lambda: it.dashboard.ring.begin is not None)
    await it.ask()
    url = start_prometheus(it.sidecars[0].admin_port)
    await until_scraped(it, url)
    await eventually(lambda: bool(it.dashboard.hub.rows("requests")))
    # For rate(), there was no increase.
    at = time.time() + 10
    assert not await instant(it.browser, url, "sum(rate(llmendpoint_generation_tokens_total[60s]))", at) > 0
    now = math.ceil(time.time() / RANGES[name][1]) * RANGES[name][1]
    async with histories_of(it, url, now + 2, it.dashboard.ring) as read:
        history = await read(name)
    assert (tokens(history)[-1][1] or 0) > 0


@pytest.mark.parametrize("name", ["15m", "6h", "7d"])
async def test_the_first_errors_are_counted_by_prometheus_alone(
    watch: Watch, start_prometheus: Callable[..., str], name: str
) -> None:
    it = await watch(tokens=6)
    await it.ask()
    # What was counted before Prometheus reads the sidecar may be old, and is left out.
    chat = {"model": "absent", "messages": [{"role": "user", "content": "a few words"}]}
    async with it.browser.post(f"http://127.0.0.1:{it.sidecars[0].port}/api/chat", json=chat) as response:
        assert response.status == 404
    url = start_prometheus(it.sidecars[0].admin_port)
    await until_scraped(it, url)
    for _ in range(3):
        await it.ask(model="absent")
    await until_counted(it, url, 'sum(llmendpoint_requests_total{outcome="upstream_4xx"})', 4)

    step = max(60, RANGES[name][1])
    now = math.ceil(time.time() / step) * step
    async with histories_of(it, url, now + 2, Ring()) as read:
        history = await read(name)
    assert (last(history, SeriesName.ERRORS, "upstream_4xx") or 0) * step == pytest.approx(3, rel=1e-3)


@pytest.mark.parametrize("name", ["24h", "7d"])
async def test_a_long_range_contains_the_last_minutes(
    watch: Watch, start_prometheus: Callable[..., str], name: str
) -> None:
    it = await watch(tokens=6)
    url = start_prometheus(it.sidecars[0].admin_port)
    for _ in range(2):
        await it.ask()
        await until_scraped(it, url)
    asked = time.time()
    async with histories_of(it, url, asked + 62, Ring()) as read:
        history = await read(name)
    assert (tokens(history)[-1][1] or 0) > 0
    assert last(history, SeriesName.RUNNING) == 0
    assert 0 <= asked + 62 - history.times[-1] < 65


async def test_what_was_before_the_start_of_the_dashboard_comes_from_prometheus(
    watch: Watch, start_prometheus: Callable[..., str]
) -> None:
    it = await watch(tokens=6)
    url = start_prometheus(it.sidecars[0].admin_port)
    for _ in range(2):
        await it.ask()
        await until_scraped(it, url)
    # The dashboard has read the sidecars for 10 s, which begin at the next multiple of 5 s.
    begin, ring = math.ceil(time.time() / 5) * 5.0, Ring()
    ring.add(Increase(0, 10, {Key(Kind.GENERATION_TOKENS, MODEL): 70}), begin + 10)
    async with histories_of(it, url, begin + 12, ring) as read:
        history = await read("15m")
    expected = await instant(it.browser, url, "sum(rate(llmendpoint_generation_tokens_total[60s]))", begin)
    assert expected > 0
    assert history.source is HistorySource.PROMETHEUS
    assert tokens(history)[-3:] == [(begin, pytest.approx(expected, rel=1e-4)), (begin + 5, 7), (begin + 10, 7)]


async def test_without_prometheus_the_last_hour_is_shown_and_the_history_says_so(
    start_simulator: StartSimulator,
    start_sidecar: StartSidecar,
    start_dashboard: StartDashboard,
    browser: aiohttp.ClientSession,
) -> None:
    simulator = await start_simulator()
    sidecar = await start_sidecar(simulator.port)
    silent = await start_dashboard(sidecar, prometheus="http://127.0.0.1:1")
    alone = await start_dashboard(sidecar)

    async def read(dashboard: Dashboard, name: str) -> History:
        async with browser.get(url_of(dashboard, f"/api/v1/history?range={name}")) as answer:
            assert answer.status == 200
            return msgspec.json.decode(await answer.read(), type=History)

    history = await read(silent, "24h")
    assert history.source is HistorySource.SIDECARS
    assert history.message == (
        "Prometheus at http://127.0.0.1:1 cannot be used: no connection could be opened. "
        "The last hour of the sidecars is shown instead."
    )
    assert (len(history.times), history.step) == (240, 15)
    about: Any = silent.hub.section("about")
    assert about.prometheus_message == "Prometheus at http://127.0.0.1:1 cannot be used: no connection could be opened."

    assert (await read(alone, "15m")).message == ""
    assert (await read(alone, "7d")).message == "Without Prometheus, only the last hour is known."
