"""Load tests that are started from the page, with the real load generator against the simulator."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from llmendpoint_dashboard.main import Dashboard
from llmendpoint_dashboard.settings import LoadLimits
from support.dashboard.dashboards import MODEL, Page, StartDashboard, Watch, reading, url_of
from support.waiting import eventually


class User:
    """A browser of a dashboard that can start load tests."""

    def __init__(self, browser: aiohttp.ClientSession, dashboard: Dashboard) -> None:
        self.browser = browser
        self.dashboard = dashboard
        self.page = Page()

    async def post(self, path: str, resource: str = "loadtests", /, **form: Any) -> tuple[int, dict[str, Any]]:
        async with self.browser.get(url_of(self.dashboard, "/api/v1/session")) as response:
            headers = {"X-CSRF-Token": (await response.json())["csrf"]}
        url = url_of(self.dashboard, f"/api/v1/{resource}{path}")
        async with self.browser.post(url, json=form, headers=headers) as response:
            return response.status, await response.json()

    async def start(self, **form: Any) -> str:
        status, answer = await self.post("", **{"source": "ollama", "model": MODEL, **form})
        assert status == 202, answer
        return str(answer["key"])

    async def get(self, path: str) -> tuple[int, str, Any]:
        async with self.browser.get(url_of(self.dashboard, f"/api/v1/loadtests{path}")) as response:
            return response.status, await response.text(), response.headers

    def row(self, key: str) -> dict[str, Any]:
        return dict(self.page.tables.get("loadtests", {}).get(key, {}))


StartUser = Callable[..., Awaitable[User]]


@pytest.fixture
def start_user(
    watch: Watch, start_dashboard: StartDashboard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> StartUser:
    """Return a function that starts an endpoint, with options of its sidecar, and a dashboard that can load it."""
    import sys  # noqa: PLC0415

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    # A setting of the user's shell must not reach the load generator.
    monkeypatch.setenv("LLMENDPOINT_LOAD_MODEL", "other")

    async def start(key_file: Path | None = None, **of_sidecar: Any) -> User:
        it = await watch(of_sidecar=of_sidecar, ttft=0.01, inter_token=0.001, parallel=16)
        url = f"http://127.0.0.1:{it.sidecars[0].port}"
        dashboard = await start_dashboard(
            *it.sidecars,
            runs=tmp_path / "runs",
            load_urls={"ollama": url},
            load_limits=LoadLimits(120.0, 8),
            load_api_key_file=key_file,
        )
        return User(it.browser, dashboard)

    return start


@pytest.fixture
async def user(start_user: StartUser) -> User:
    return await start_user()


async def test_a_run_is_started_followed_and_has_its_result_and_report(user: User, tmp_path: Path) -> None:
    async with reading(user.browser, user.dashboard, user.page):
        await eventually(lambda: "about" in user.page.values)
        assert user.page.values["about"]["canStartLoadTests"] is True
        key = await user.start(concurrency=4, duration="3s", objectives=["ttft:p95=1s"], name="first")
        await eventually(lambda: user.row(key).get("state") == "running")
        assert user.row(key)["canStop"] is True
        assert user.row(key)["load"] == "4 users for 3 s"
        await eventually(lambda: user.row(key)["requests"] > 0)
        await eventually(lambda: user.row(key)["state"] == "ended")
        row = user.row(key)
    assert (row["verdict"], row["reason"], row["canStop"], row["hasReport"]) == ("Passed", "ObjectivesMet", False, True)
    status, text, headers = await user.get(f"/{key}/report.html")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "sandbox" in headers["Content-Security-Policy"]
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert text.startswith("<!doctype html>")
    status, text, _ = await user.get(f"/{key}")
    assert (status, '"verdict":"Passed"' in text) == (200, True)
    for answer in (text, str(row)):
        assert str(tmp_path) not in answer
    assert not (tmp_path / "runs" / key / "load.log").read_text()


async def test_one_run_goes_at_a_time_and_can_be_stopped(user: User) -> None:
    async with reading(user.browser, user.dashboard, user.page):
        key = await user.start(concurrency=1, duration="100s")
        status, answer = await user.post("", source="ollama", model=MODEL, duration="5s")
        assert (status, key in answer["error"]) == (409, True)
        await eventually(lambda: user.row(key).get("requests", 0) > 0)
        assert (await user.post(f"/{key}/stop"))[0] == 202
        await eventually(lambda: user.row(key)["state"] == "ended")
        row = user.row(key)
        assert (row["verdict"], row["reason"]) == ("None", "Canceled")
        assert (await user.post(f"/{key}/stop"))[0] == 409
        assert (await user.post("/absent/stop"))[0] == 404
        # Then the next one can start.
        await user.start(concurrency=1, duration="1s")


@pytest.mark.parametrize(
    ("form", "field", "words"),
    [
        ({"concurrency": 1.5}, "concurrency", "a whole number"),
        ({"rate": "fast"}, "rate", "a number"),
        ({"duration": 30}, "duration", "a text"),
        ({"scenario": "Smoke", "objectives": "ttft:p95=2s"}, "objectives", "a list"),
    ],
)
async def test_a_value_of_a_wrong_type_is_refused_with_a_sentence(
    user: User, form: dict[str, Any], field: str, words: str
) -> None:
    answer = await user.post("", "manifest", **{"source": "ollama", "model": MODEL, "duration": "30s", **form})
    assert answer == (422, {"error": f"This must be {words}.", "field": field})


async def test_limits_and_wrong_fields_are_refused_with_the_field(user: User, tmp_path: Path) -> None:
    for form, field in (
        ({"duration": "3m"}, "duration"),
        ({"duration": "5s", "concurrency": 9}, "concurrency"),
        ({"duration": "5s", "source": "other"}, "source"),
        ({"duration": "5s", "name": "../../x"}, "name"),
    ):
        status, answer = await user.post("", **{"source": "ollama", "model": MODEL, **form})
        assert (status, answer["field"]) == (422, field)
    assert not (tmp_path / "runs").exists()


async def test_texts_with_a_special_meaning_for_shells_and_flags_are_only_texts(user: User, tmp_path: Path) -> None:
    async with reading(user.browser, user.dashboard, user.page):
        key = await user.start(model="--help; $(touch /tmp/x) `id`", duration="1s")
        await eventually(lambda: user.row(key).get("state") == "ended")
    assert user.row(key)["model"] == "--help; $(touch /tmp/x) `id`"


@pytest.mark.alone
async def test_the_dashboard_interrupts_its_run_when_it_stops(user: User, tmp_path: Path) -> None:
    async with reading(user.browser, user.dashboard, user.page):
        key = await user.start(concurrency=1, duration="100s")
        await eventually(lambda: user.row(key).get("requests", 0) > 0)
    started = time.monotonic()
    await user.dashboard.stop()
    assert time.monotonic() - started < 10
    assert '"Canceled"' in (tmp_path / "runs" / key / "summary.json").read_text()


async def test_a_run_that_was_stopped_is_continued_so_that_it_ends_with_the_dashboard(
    user: User, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with reading(user.browser, user.dashboard, user.page):
        key = await user.start(concurrency=1, duration="100s")
        await eventually(lambda: user.row(key).get("requests", 0) > 0)
    os.kill(json.loads((tmp_path / "runs" / key / "progress.json").read_text())["pid"], signal.SIGSTOP)
    await user.dashboard.stop()
    assert '"Canceled"' in (tmp_path / "runs" / key / "summary.json").read_text()
    assert "it is killed" not in caplog.text


async def test_a_run_that_cannot_start_says_why(user: User, tmp_path: Path) -> None:
    async with reading(user.browser, user.dashboard, user.page):
        starter: Any = user.dashboard.starter
        prepare = starter._prepare

        def damage(*arguments: Any) -> tuple[str, Path]:
            key, log = prepare(*arguments)
            (tmp_path / "runs" / key / "run.json").write_text("{}")
            return key, log

        starter._prepare = damage
        key = await user.start(concurrency=1, duration="5s")
        await eventually(lambda: user.row(key).get("state") == "ended")
        message = user.row(key)["message"]
    assert message.startswith("The load generator ended with exit code 2: ")
    assert "missing required field `target`" in message
    assert str(tmp_path) not in message


async def test_an_endpoint_that_requires_a_key_is_loaded_with_that_of_the_form(
    start_user: StartUser, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "red").write_text("the-key-of-red")
    user = await start_user(keys=[tmp_path / "keys"])
    form = {"source": "ollama", "model": MODEL, "duration": "2s", "objectives": ["error_rate=0%"]}
    for key, sentence in (
        ("", "The endpoint requires an API key. Enter the key of one of its tenants."),
        ("another", "The endpoint does not accept this API key. Enter the key of one of its tenants."),
        ("two\nlines", "The API key is too long, or contains a control character such as a line end."),
    ):
        assert await user.post("", **form, apiKey=key) == (422, {"error": sentence, "field": "apiKey"})
    assert not (tmp_path / "runs").exists()
    async with reading(user.browser, user.dashboard, user.page):
        run = await user.start(**form, apiKey=" the-key-of-red ")
        await eventually(lambda: user.row(run).get("state") == "ended")
    assert (user.row(run)["verdict"], user.row(run)["errors"]) == ("Passed", 0)
    assert user.row(run)["requests"] > 0
    # The key is in no file, answer or line of the log.
    _, detail, _ = await user.get(f"/{run}")
    files = [file.read_text() for file in (tmp_path / "runs").rglob("*") if file.is_file()]
    assert len(files) >= 4
    for text in (*files, detail, str(user.page.tables), str(user.page.values), caplog.text):
        assert "the-key-of-red" not in text


async def test_a_form_without_a_key_uses_that_of_the_stack_which_does_not_reach_the_browser(
    start_user: StartUser, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "red").write_text("the-key-of-red\n")
    key_file = tmp_path / "stack-key"
    user = await start_user(key_file, keys=[tmp_path / "keys"])
    form = {"source": "ollama", "model": MODEL, "duration": "2s", "objectives": ["error_rate=0%"]}
    absent = "The API key of the stack cannot be used: No such file or directory. Enter the key of a tenant."
    assert await user.post("", **form) == (422, {"error": absent, "field": "apiKey"})
    key_file.write_text("an-old-key")
    wrong = "The endpoint does not accept the API key of the stack. Enter the key of one of its tenants."
    assert await user.post("", **form) == (422, {"error": wrong, "field": "apiKey"})
    key_file.write_text("the-key-of-red\n")
    # A key of the form takes precedence.
    assert (await user.post("", **form, apiKey="another"))[0] == 422
    async with reading(user.browser, user.dashboard, user.page):
        run = await user.start(**form)
        await eventually(lambda: user.row(run).get("state") == "ended")
    assert (user.row(run)["verdict"], user.row(run)["errors"]) == ("Passed", 0)
    assert user.page.values["about"]["hasLoadKey"] is True
    _, detail, _ = await user.get(f"/{run}")
    manifest = await user.post("", "manifest", **form)
    files = [file.read_text() for file in (tmp_path / "runs").rglob("*") if file.is_file()]
    assert len(files) >= 4
    for text in (*files, detail, str(manifest), str(user.page.tables), str(user.page.values), caplog.text):
        assert "the-key-of-red" not in text
        assert "stack-key" not in text


async def test_a_key_of_the_form_is_not_part_of_the_manifest(user: User) -> None:
    form = {"source": "ollama", "model": MODEL, "duration": "2s", "apiKey": "the-key-of-red"}
    status, answer = await user.post("", "manifest", **form)
    assert status == 200
    assert "the-key-of-red" not in str(answer)


async def test_an_endpoint_that_does_not_answer_is_left_to_the_run(user: User) -> None:
    starter: Any = user.dashboard.starter
    starter._urls = {"ollama": "http://127.0.0.1:1"}
    async with reading(user.browser, user.dashboard, user.page):
        run = await user.start(duration="1s")
        await eventually(lambda: user.row(run).get("state") == "ended")


async def test_two_runs_are_compared_with_the_better_value_marked(user: User) -> None:
    async with reading(user.browser, user.dashboard, user.page):
        keys = []
        for users in (1, 4):
            keys.append(await user.start(concurrency=users, duration="2s"))
            await eventually(lambda: user.row(keys[-1]).get("state") == "ended")
    async with user.browser.get(
        url_of(user.dashboard, "/api/v1/loadtests/compare"), params={"a": keys[0], "b": keys[1]}
    ) as response:
        assert response.status == 200
        comparison = await response.json()
    by_name = {item["name"]: item for item in comparison["metrics"]}
    assert by_name["completed"]["unit"] == "requests/s"
    assert by_name["completed"]["better"] == "b"
    assert by_name["completed"]["b"] == pytest.approx(user.row(keys[1])["requestsPerSecond"], rel=1e-5)
    assert by_name["TTFT p95"]["unit"] == "s"
    assert by_name["requests"]["better"] is None
    assert "Concurrency 1 → 4" in comparison["differences"]
    async with user.browser.get(
        url_of(user.dashboard, "/api/v1/loadtests/compare"), params={"a": keys[0], "b": "absent"}
    ) as response:
        assert response.status == 404


async def test_a_dashboard_without_a_folder_starts_nothing(
    start_dashboard: StartDashboard, browser: aiohttp.ClientSession
) -> None:
    user = User(browser, await start_dashboard())
    status, answer = await user.post("", source="ollama", model=MODEL, duration="5s")
    assert (status, answer["error"].startswith("This dashboard does not start load tests.")) == (403, True)


async def test_the_launcher_ends_if_its_parent_has_ended_already() -> None:
    import sys  # noqa: PLC0415

    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "llmendpoint_dashboard.loadtests.launcher", "1", "--help",
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert (process.returncode, output) == (0, b"")
