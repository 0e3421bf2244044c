"""Numbers of the dashboard against the ledger of the simulator, through real sidecars."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import aiohttp
import pytest

from llmendpoint_common.process.units import Address
from support.dashboard.dashboards import MODEL, Page, StartDashboard, Watch, reading
from support.servers import StartSidecar, StartSimulator
from support.waiting import eventually
from support.wire.fault_server import answering, fault_server, plain


@pytest.mark.alone
async def test_rates_times_the_window_are_the_counts_of_the_ledger(watch: Watch, tmp_path: Path) -> None:
    (tmp_path / "red").write_text("the-key-of-red")
    (tmp_path / "blue").write_text("the-key-of-blue")
    it = await watch(2, of_sidecar={"keys": [tmp_path]}, ttft=0.05, inter_token=0.01, tokens=7, parallel=64)
    await eventually(lambda: all(sidecar.window.length > 0 for sidecar in it.dashboard.sidecars.all))
    async with it.reading():
        keys = ["the-key-of-red", "the-key-of-red", "the-key-of-blue"]
        await asyncio.gather(*(it.ask(sidecar, key) for sidecar in it.sidecars for key in keys for _ in range(3)))
        assert it.counted("requests") == 18
        await eventually(lambda: len(it.page.rows("requests")) == 18 and it.total("requestsPerSecond") > 17.9)

        assert it.total("requestsPerSecond") == pytest.approx(18, rel=0.02)
        generated, prompt = it.counted("generation_tokens"), it.counted("prompt_tokens")
        assert it.total("generationTokensPerSecond") == pytest.approx(generated, rel=0.02)
        assert it.total("promptTokensPerSecond") == pytest.approx(prompt, rel=0.02)
        overview = it.overview
        assert list(overview["total"]["outcomes"]) == ["ok"]
        assert [model["model"] for model in overview["models"]] == [MODEL]
        shares = {tenant["tenant"]: tenant["requestsPerSecond"] for tenant in overview["tenants"]}
        assert shares["red"] == pytest.approx(2 * shares["blue"], rel=0.01)
        # The simulator answers after 50 ms, and has 10 ms between chunks; buckets are coarse.
        assert 0.04 <= overview["total"]["ttft"]["p50"] <= 0.1
        assert 0.0075 <= overview["total"]["interChunk"]["p50"] <= 0.025

        rows = it.page.rows("requests")
        assert sum(row["generationTokens"] for row in rows) == generated
        assert sum(row["promptTokens"] for row in rows) == prompt
        assert {row["tenant"] for row in rows} == {"red", "blue"}
        assert {row["source"] for row in rows} == {"ollama", "ollama-1"}
        for row in rows:
            assert row["ttft"] <= row["duration"]
            assert row["queue"] + row["load"] + row["prefill"] + row["decode"] == pytest.approx(
                row["duration"], abs=0.05
            )


@pytest.mark.alone
async def test_what_happens_is_on_the_page_within_two_seconds(watch: Watch) -> None:
    it = await watch()
    async with it.reading():
        await eventually(lambda: it.overview["windowSeconds"] > 0)
        for number in range(1, 4):
            await it.ask()
            ended = time.monotonic()
            await eventually(lambda number=number: len(it.page.rows("requests")) == number)  # type: ignore[misc]
            assert time.monotonic() - ended < 2


async def test_requests_in_flight_are_shown_while_they_run(watch: Watch) -> None:
    it = await watch(of_sidecar={"parallel": 2}, ttft=60.0, parallel=2)
    async with it.reading():
        await eventually(lambda: bool(it.page.rows("models")))
        asking = [asyncio.create_task(it.ask()) for _ in range(3)]
        await eventually(lambda: it.overview["total"].get("waiting") == 1)
        assert it.overview["total"]["running"] == 2
        assert [(m["model"], m["running"], m["waiting"]) for m in it.overview["models"]] == [(MODEL, 2, 1)]
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        await eventually(lambda: it.overview["total"]["outcomes"].get("client_cancelled", 0) > 0)
        assert it.overview["total"]["running"] == 0


async def test_a_sidecar_that_restarts_is_stale_meanwhile_and_counts_from_zero_afterwards(
    watch: Watch, start_sidecar: StartSidecar
) -> None:
    it = await watch()
    async with it.reading():
        await eventually(lambda: it.overview["windowSeconds"] > 0)
        for _ in range(5):
            await it.ask()
        await eventually(lambda: it.total("requestsPerSecond") == pytest.approx(5, rel=0.02))
        await it.sidecars[0].stop()
        await eventually(lambda: it.source["state"] == "stale")
        assert it.source["message"].endswith("does not answer: nothing listens on its port.")
        assert it.source["lastSeen"] == pytest.approx(time.time(), abs=15)
        # What was known is still shown.
        assert it.page.rows("models")

        again = await start_sidecar(it.simulator.port, admin_listen=Address("127.0.0.1", it.sidecars[0].admin_port))
        await it.ask(again)
        await eventually(lambda: it.source["state"] == "ok")
        await eventually(lambda: len(it.page.rows("requests")) == 6)
        assert it.total("requestsPerSecond") == pytest.approx(6, rel=0.02)
        assert (it.source["lastSeen"], it.source["message"]) == (None, "")


async def test_models_are_shown_with_their_memory_and_what_happened_to_them(watch: Watch) -> None:
    it = await watch()
    async with it.reading():
        await eventually(lambda: it.model.get("state") == "available")
        assert (it.model["vramBytes"], it.model["gpuShare"]) == (None, None)
        await it.ask()
        await eventually(lambda: it.model["state"] == "loaded")
        async with it.browser.get(f"{it.simulator.url}/api/ps") as response:
            shown = (await response.json())["models"][0]
        assert (it.model["sizeBytes"], it.model["vramBytes"]) == (shown["size"], shown["size_vram"])
        assert it.model["gpuShare"] == pytest.approx(shown["size_vram"] / shown["size"], abs=1e-3)
        assert it.model["contextLength"] == shown["context_length"]
        assert it.model["expires"] > time.time()
        assert (it.model["loads"], it.model["evictions"]) == (1, 0)
        await it.ask(keep_alive=0, prompt="")
        await eventually(lambda: it.model["state"] == "available")
        assert (it.model["loads"], it.model["evictions"]) == (1, 1)


async def test_a_model_that_was_in_memory_before_the_dashboard_started_is_marked(
    watch: Watch, start_dashboard: StartDashboard
) -> None:
    it = await watch()
    await it.ask()
    async with it.reading():
        await eventually(lambda: it.model.get("state") == "loaded")
        # Depending on when the first poll was, this dashboard has seen the load.
        assert it.model["loads"] + it.model["loadedBefore"] == 1
    it.dashboard, it.page = await start_dashboard(*it.sidecars), Page()
    async with it.reading():
        await eventually(lambda: it.model.get("state") == "loaded")
        assert (it.model["loads"], it.model["loadedBefore"], it.model["evictions"]) == (0, True, 0)
        await it.ask(keep_alive=0, prompt="")
        await eventually(lambda: it.model["state"] == "available")
        await it.ask()
        await eventually(lambda: it.model["state"] == "loaded")
        assert (it.model["loads"], it.model["loadedBefore"], it.model["evictions"]) == (1, True, 1)


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


async def test_an_upstream_that_is_not_ollama_is_named_as_the_finding_does(
    start_sidecar: StartSidecar, start_dashboard: StartDashboard, browser: aiohttp.ClientSession
) -> None:
    async with fault_server(answering(plain("404 Not Found", b"{}"))) as server:
        sidecar = await start_sidecar(server.port)
        await eventually(lambda: bool(sidecar.status().upstream_problem))
        dashboard, page = await start_dashboard(sidecar, upstreams={"ollama": server.url}), Page()
        async with reading(browser, dashboard, page):
            await eventually(lambda: bool(page.rows("doctor")))
            await eventually(lambda: page.values["about"]["sources"][0]["state"] == "ok")
            message = page.values["about"]["sources"][0]["message"]
            assert "is not Ollama: GET /api/version was answered with HTTP 404" in message
            assert page.rows("doctor")[0]["sentence"].startswith(message)


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
