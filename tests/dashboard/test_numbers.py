"""Numbers of the dashboard against the ledger of the simulator, through real sidecars and a real Prometheus."""

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

from llmendpoint_common.process.units import Address
from llmendpoint_dashboard.contract import History, HistorySource, SeriesName
from llmendpoint_dashboard.main import Dashboard
from llmendpoint_dashboard.sources.history import Histories
from llmendpoint_dashboard.sources.prometheus import Prometheus
from llmendpoint_dashboard.sources.ring import Selection
from llmendpoint_sidecar.main import Sidecar
from support.dashboards import Page, StartDashboard, reading, url_of
from support.servers import RunningSimulator, StartSidecar, StartSimulator
from support.waiting import eventually

MODEL = "simulated:latest"


async def ask(browser: aiohttp.ClientSession, sidecar: Sidecar, key: str = "", **fields: Any) -> None:
    """Send one request, and read the answer to its end."""
    body = {"model": MODEL, "prompt": "a few words", **fields}
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with browser.post(f"http://127.0.0.1:{sidecar.port}/api/generate", json=body, headers=headers) as response:
        await response.read()


def counted(simulator: RunningSimulator, field: str) -> int:
    """Return a total of the ledger over all models and operations that run a model."""
    return sum(getattr(account, field) for account in simulator.simulator.ledger.accounts.values())


def total(page: Page, field: str) -> float:
    """Return a rate of the overview times its window: how many there were in the window."""
    overview = page.values["overview"]
    return float(overview["total"][field] * overview["windowSeconds"])


async def test_rates_times_the_window_are_the_counts_of_the_ledger(
    start_simulator: StartSimulator,
    start_sidecar: StartSidecar,
    start_dashboard: StartDashboard,
    browser: aiohttp.ClientSession,
    tmp_path: Path,
) -> None:
    (tmp_path / "red").write_text("the-key-of-red")
    (tmp_path / "blue").write_text("the-key-of-blue")
    simulator = await start_simulator(ttft=0.05, inter_token=0.01, tokens=7, parallel=64)
    sidecars = [await start_sidecar(simulator.port, keys=[tmp_path]) for _ in range(2)]
    dashboard, page = await start_dashboard(*sidecars), Page()
    await eventually(lambda: all(sidecar.window.length > 0 for sidecar in dashboard.sidecars.all))
    async with reading(browser, dashboard, page):
        keys = ["the-key-of-red", "the-key-of-red", "the-key-of-blue"]
        await asyncio.gather(*(ask(browser, sidecar, key) for sidecar in sidecars for key in keys for _ in range(3)))
        assert counted(simulator, "requests") == 18
        await eventually(lambda: len(page.rows("requests")) == 18 and total(page, "requestsPerSecond") > 17.9)

        assert total(page, "requestsPerSecond") == pytest.approx(18, rel=0.02)
        generated, prompt = counted(simulator, "generation_tokens"), counted(simulator, "prompt_tokens")
        assert total(page, "generationTokensPerSecond") == pytest.approx(generated, rel=0.02)
        assert total(page, "promptTokensPerSecond") == pytest.approx(prompt, rel=0.02)
        overview = page.values["overview"]
        assert list(overview["total"]["outcomes"]) == ["ok"]
        assert [model["model"] for model in overview["models"]] == [MODEL]
        shares = {tenant["tenant"]: tenant["requestsPerSecond"] for tenant in overview["tenants"]}
        assert shares["red"] == pytest.approx(2 * shares["blue"], rel=0.01)
        # The simulator answers after 50 ms, and has 10 ms between chunks; buckets are coarse.
        assert 0.04 <= overview["total"]["ttft"]["p50"] <= 0.1
        assert 0.0075 <= overview["total"]["interChunk"]["p50"] <= 0.025

        rows = page.rows("requests")
        assert sum(row["generationTokens"] for row in rows) == generated
        assert sum(row["promptTokens"] for row in rows) == prompt
        assert {row["tenant"] for row in rows} == {"red", "blue"}
        assert {row["source"] for row in rows} == {"ollama", "ollama-1"}
        for row in rows:
            assert row["ttft"] <= row["duration"]
            assert row["queue"] + row["load"] + row["prefill"] + row["decode"] == pytest.approx(
                row["duration"], abs=0.05
            )


async def test_what_happens_is_on_the_page_within_two_seconds(
    start_simulator: StartSimulator,
    start_sidecar: StartSidecar,
    start_dashboard: StartDashboard,
    browser: aiohttp.ClientSession,
) -> None:
    simulator = await start_simulator()
    sidecar = await start_sidecar(simulator.port)
    dashboard, page = await start_dashboard(sidecar), Page()
    async with reading(browser, dashboard, page):
        await eventually(lambda: page.values.get("overview", {}).get("windowSeconds", 0) > 0)
        for number in range(1, 4):
            await ask(browser, sidecar)
            ended = time.monotonic()
            await eventually(lambda number=number: len(page.rows("requests")) == number)  # type: ignore[misc]
            assert time.monotonic() - ended < 2


async def test_requests_in_flight_are_shown_while_they_run(
    start_simulator: StartSimulator,
    start_sidecar: StartSidecar,
    start_dashboard: StartDashboard,
    browser: aiohttp.ClientSession,
) -> None:
    simulator = await start_simulator(ttft=60.0, parallel=2)
    sidecar = await start_sidecar(simulator.port, parallel=2)
    dashboard, page = await start_dashboard(sidecar), Page()
    async with reading(browser, dashboard, page):
        await eventually(lambda: bool(page.rows("models")))
        asking = [asyncio.create_task(ask(browser, sidecar)) for _ in range(3)]
        await eventually(lambda: page.values.get("overview", {}).get("total", {}).get("waiting") == 1)
        assert page.values["overview"]["total"]["running"] == 2
        assert [(m["model"], m["running"], m["waiting"]) for m in page.values["overview"]["models"]] == [(MODEL, 2, 1)]
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        await eventually(lambda: page.values["overview"]["total"]["outcomes"].get("client_cancelled", 0) > 0)
        assert page.values["overview"]["total"]["running"] == 0


async def test_a_sidecar_that_restarts_is_stale_meanwhile_and_counts_from_zero_afterwards(
    start_simulator: StartSimulator,
    start_sidecar: StartSidecar,
    start_dashboard: StartDashboard,
    browser: aiohttp.ClientSession,
) -> None:
    simulator = await start_simulator()
    sidecar = await start_sidecar(simulator.port)
    dashboard, page = await start_dashboard(sidecar), Page()

    def source() -> dict[str, Any]:
        return dict(page.values["about"]["sources"][0])

    async with reading(browser, dashboard, page):
        await eventually(lambda: page.values.get("overview", {}).get("windowSeconds", 0) > 0)
        for _ in range(5):
            await ask(browser, sidecar)
        await eventually(lambda: total(page, "requestsPerSecond") == pytest.approx(5, rel=0.02))
        await sidecar.stop()
        await eventually(lambda: source()["state"] == "stale")
        assert source()["message"].endswith("does not answer: nothing listens on its port.")
        assert source()["lastSeen"] == pytest.approx(time.time(), abs=15)
        # What was known is still shown.
        assert page.rows("models")

        again = await start_sidecar(simulator.port, admin_listen=Address("127.0.0.1", sidecar.admin_port))
        await ask(browser, again)
        await eventually(lambda: source()["state"] == "ok")
        await eventually(lambda: len(page.rows("requests")) == 6)
        assert total(page, "requestsPerSecond") == pytest.approx(6, rel=0.02)
        assert (source()["lastSeen"], source()["message"]) == (None, "")


async def test_models_are_shown_with_their_memory_and_what_happened_to_them(
    start_simulator: StartSimulator,
    start_sidecar: StartSidecar,
    start_dashboard: StartDashboard,
    browser: aiohttp.ClientSession,
) -> None:
    simulator = await start_simulator()
    sidecar = await start_sidecar(simulator.port)
    dashboard, page = await start_dashboard(sidecar), Page()

    def model() -> dict[str, Any]:
        return next((row for row in page.rows("models") if row["name"] == MODEL), {})

    async with reading(browser, dashboard, page):
        await eventually(lambda: model().get("state") == "available")
        assert (model()["vramBytes"], model()["gpuShare"]) == (None, None)
        await ask(browser, sidecar)
        await eventually(lambda: model()["state"] == "loaded")
        async with browser.get(f"{simulator.url}/api/ps") as response:
            shown = (await response.json())["models"][0]
        assert (model()["sizeBytes"], model()["vramBytes"]) == (shown["size"], shown["size_vram"])
        assert model()["gpuShare"] == pytest.approx(shown["size_vram"] / shown["size"], abs=1e-3)
        assert model()["contextLength"] == shown["context_length"]
        assert model()["expires"] > time.time()
        assert (model()["loads"], model()["evictions"]) == (1, 0)
        await ask(browser, sidecar, keep_alive=0, prompt="")
        await eventually(lambda: model()["state"] == "available")
        assert (model()["loads"], model()["evictions"]) == (1, 1)


async def test_an_ollama_that_does_not_answer_is_named(
    start_sidecar: StartSidecar, start_dashboard: StartDashboard, browser: aiohttp.ClientSession
) -> None:
    sidecar = await start_sidecar(1)
    dashboard, page = await start_dashboard(sidecar, upstreams={"ollama": "http://127.0.0.1:1"}), Page()
    async with reading(browser, dashboard, page):
        await eventually(lambda: bool(page.rows("doctor")))
        await eventually(lambda: page.values["about"]["sources"][0]["state"] == "ok")
        assert page.values["about"]["sources"][0]["message"] == "The Ollama behind ollama does not answer."
        row = page.rows("doctor")[0]
        assert (row["severity"], row["cause"]) == ("error", "OllamaNotRunning")
        assert row["sentence"]
        assert row["command"]


async def test_an_address_where_something_else_answers_is_down_with_the_reason(
    start_simulator: StartSimulator, start_dashboard: StartDashboard, browser: aiohttp.ClientSession
) -> None:
    simulator = await start_simulator()

    class Impostor:
        admin_port = simulator.port

    dashboard, page = await start_dashboard(Impostor()), Page()
    async with reading(browser, dashboard, page):
        await eventually(lambda: bool(page.values.get("about", {}).get("sources")))
        source = page.values["about"]["sources"][0]
        assert source["state"] == "down"
        assert (
            source["message"]
            == f"http://127.0.0.1:{simulator.port} does not answer: /status was answered with status 404."
        )
        assert page.values["overview"]["windowSeconds"] == 0


# --- Prometheus -------------------------------------------------------------------------------------------------------

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
        import socket  # noqa: PLC0415

        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            listen = f"127.0.0.1:{probe.getsockname()[1]}"
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
async def histories_of(dashboard: Dashboard, url: str, now: float) -> AsyncIterator[Callable[..., Awaitable[History]]]:
    """Yield a function that reads histories, as if it were `now`."""
    histories = Histories(dashboard.ring, Prometheus(url), dashboard.about, lambda: now)
    async with aiohttp.ClientSession() as session:

        async def read(name: str, **selection: str) -> History:
            return await histories.read(session, name, Selection(**selection))

        yield read


async def instant(browser: aiohttp.ClientSession, url: str, query: str, at: float) -> float:
    """Return the value of an expression with one series."""
    async with browser.get(f"{url}/api/v1/query", params={"query": query, "time": str(at)}) as response:
        result = (await response.json())["data"]["result"]
    return float(result[0]["value"][1]) if result else math.nan


def last(history: History, name: SeriesName, outcome: str = "") -> float | None:
    found = [series for series in history.series if series.name is name and series.outcome == outcome]
    return found[0].values[-1] if found else None


async def test_a_history_from_prometheus_has_the_values_that_prometheus_has(
    start_simulator: StartSimulator,
    start_sidecar: StartSidecar,
    start_dashboard: StartDashboard,
    start_prometheus: Callable[..., str],
    browser: aiohttp.ClientSession,
) -> None:
    simulator = await start_simulator(ttft=0.02, inter_token=0.005, tokens=6)
    sidecar = await start_sidecar(simulator.port)
    await ask(browser, sidecar)
    await ask(browser, sidecar, model="absent")
    url = start_prometheus(sidecar.admin_port)
    dashboard = await start_dashboard(sidecar, prometheus=url)
    tokens = 'sum(llmendpoint_generation_tokens_total{namespace="models"})'

    async def until(expected: int) -> None:
        deadline = time.monotonic() + 30
        while True:
            try:
                seen = await instant(browser, url, tokens, time.time())
            except (aiohttp.ClientError, KeyError):
                seen = math.nan
            if seen == expected:
                return
            assert time.monotonic() < deadline, seen
            await asyncio.sleep(0.2)

    await until(counted(simulator, "generation_tokens"))
    for _ in range(4):
        await ask(browser, sidecar)
    await ask(browser, sidecar, model="absent")
    await until(counted(simulator, "generation_tokens"))

    # A point lies on a multiple of 15 s. That of the next one contains everything until now.
    now = math.ceil(time.time() / 15) * 15
    async with histories_of(dashboard, url, now) as read:
        history = await read("15m")
        assert (history.source, history.step, history.message) == (HistorySource.PROMETHEUS, 15, "")
        assert len(history.times) == 60
        assert history.times[-1] == now
        for name, query in {
            SeriesName.GENERATION_TOKENS: "sum(rate(llmendpoint_generation_tokens_total[60s]))",
            SeriesName.PROMPT_TOKENS: "sum(rate(llmendpoint_prompt_tokens_total[60s]))",
            SeriesName.TTFT_P95: "histogram_quantile(0.95, sum by (le) "
            "(rate(llmendpoint_time_to_first_token_seconds_bucket[60s])))",
            SeriesName.RUNNING: "sum(llmendpoint_num_requests_running)",
        }.items():
            expected = await instant(browser, url, query, now)
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
    async with aiohttp.ClientSession() as session:
        series = await Prometheus(url, ["models"]).series(session, [now - 15, now], 15, hostile)
        assert all(value is None for one in series for value in one.values)
        assert await Prometheus(url, ["models"]).series(session, [now], 15, Selection())
        empty = await Prometheus(url, ["other"]).series(session, [now], 15, Selection())
        assert all(value is None for one in empty for value in one.values)


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
