"""The folder of load test runs: what is shown of runs that go, ended, were killed, or are not runs at all."""

from __future__ import annotations

import fcntl
import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from llmendpoint_common.contracts.loadrun import ObjectiveProgress, RunProgress
from llmendpoint_common.contracts.loadrun.progress_file import RunState as FileState
from llmendpoint_dashboard.contract import LoadTestRow, RunState
from llmendpoint_dashboard.sources.runs import Child, RunsFolder
from llmendpoint_dashboard.state import Hub
from llmendpoint_loadjob.report.files import OutputFolder
from support.load.runs import answered, run

NOW = 1_800_000_000.0


def at(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).isoformat()


class Folder:
    """A folder of runs that is looked at on demand."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now = NOW
        self.hub = Hub()
        self.children: dict[str, Child] = {}
        self.runs = RunsFolder(self.hub, path, self.children.get, lambda: self.now)

    async def rows(self) -> dict[str, LoadTestRow]:
        await self.runs.scan()
        return {row.key: row for row in self.hub.rows("loadtests") if isinstance(row, LoadTestRow)}

    def write(self, key: str, name: str, content: bytes | str) -> Path:
        (self.path / key).mkdir(parents=True, exist_ok=True)
        file = self.path / key / name
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return file

    def progress(self, key: str, state: FileState = FileState.RUNNING, **fields: Any) -> None:
        values: dict[str, Any] = {
            "percent": 40, "requests": 12, "errors": 1, "in_flight": 3, "output_tokens": 100, "elapsed_seconds": 4.0,
            "state": state, "started_at": at(NOW - 10), "updated_at": at(NOW), "pid": 1,
            "requests_per_second": 2.5, "objectives": (ObjectiveProgress("TTFT p95 ≤ 1 s", "200 ms", True),),
        }  # fmt: skip
        self.write(key, "progress.json", msgspec.json.encode(RunProgress(**{**values, **fields})))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "runs")


async def test_a_folder_that_does_not_exist_has_no_runs(folder: Folder) -> None:
    assert await folder.rows() == {}


async def test_a_run_that_ended_has_its_result(folder: Folder) -> None:
    summary = run([answered(at=second / 2) for second in range(100)], "ttft:p95=1s", "error_rate=1%")
    OutputFolder(folder.path / "20260101-night").prepare()
    OutputFolder(folder.path / "20260101-night").write(summary)
    row = (await folder.rows())["20260101-night"]
    assert (row.state, row.verdict, row.reason) == (RunState.ENDED, "Passed", "ObjectivesMet")
    assert (row.requests, row.errors, row.percent, row.has_report) == (100, 0, 100, True)
    assert [(item.text, item.measured, item.met) for item in row.objectives] == [
        ("TTFT p95 ≤ 1 s", "100 ms", True),
        ("error rate ≤ 1 %", "0 %", True),
    ]
    assert row.ttft is not None
    assert row.ttft.p95 == pytest.approx(0.1, rel=0.01)
    detail = await folder.runs.summary("20260101-night")
    assert detail["requests"] == 100
    assert "measurements" not in detail
    assert b"<html" in (await folder.runs.report("20260101-night") or b"")


async def test_a_run_that_goes_shows_its_progress_and_no_verdict(folder: Folder) -> None:
    summary = run([answered(at=1.0)], "ttft:p95=1s")
    folder.write("a", "summary.json", msgspec.json.encode(summary))
    folder.progress("a", awaiting="opening connections", error="3 times 503: busy")
    row = (await folder.rows())["a"]
    assert (row.state, row.percent, row.requests, row.errors, row.in_flight) == (RunState.RUNNING, 40, 12, 1, 3)
    assert (row.awaiting, row.message, row.verdict, row.requests_per_second) == (
        "opening connections", "3 times 503: busy", "", 2.5,
    )  # fmt: skip
    assert [(item.text, item.measured, item.met) for item in row.objectives] == [("TTFT p95 ≤ 1 s", "200 ms", True)]


async def test_an_objective_of_which_nothing_was_measured_has_no_measured_value(folder: Folder) -> None:
    folder.progress("a", objectives=(ObjectiveProgress("TTFT p95 ≤ 1 s", "nothing measured", None),))
    ended = run([answered(at=second / 2, tokens=1) for second in range(100)], "tpot:p95=1s")
    folder.write("b", "summary.json", msgspec.json.encode(ended))
    rows = await folder.rows()
    assert [(item.measured, item.met) for key in "ab" for item in rows[key].objectives] == [("", None)] * 2


async def test_progress_is_followed(folder: Folder) -> None:
    folder.progress("a", FileState.WAITING, percent=0)
    assert (await folder.rows())["a"].state is RunState.WAITING
    folder.progress("a", percent=41, requests=1200)
    row = (await folder.rows())["a"]
    assert (row.state, row.percent) == (RunState.RUNNING, 41)


async def test_a_run_that_was_killed_has_ended(folder: Folder) -> None:
    folder.progress("a")
    folder.progress("b")
    locked = os.open(folder.path / "b", os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(locked, fcntl.LOCK_EX)
    assert (await folder.rows())["a"].state is RunState.RUNNING
    folder.now = NOW + 6
    rows = await folder.rows()
    assert rows["a"].state is RunState.ENDED
    assert rows["a"].message == "The load generator was killed before the end of the run."
    # A run that holds its lock is only slow.
    assert rows["b"].state is RunState.RUNNING
    os.close(locked)
    assert (await folder.rows())["b"].state is RunState.ENDED


async def test_a_run_of_this_dashboard_that_did_not_start_says_why(folder: Folder) -> None:
    folder.write("a", "run.json", json.dumps({"target": {"url": "http://x"}, "model": "m", "load": {"concurrency": 2}}))
    folder.children["a"] = Child(is_running=True)
    row = (await folder.rows())["a"]
    assert (row.state, row.can_stop, row.load, row.target) == (RunState.WAITING, True, "2 users for 30 s", "http://x")
    folder.children["a"] = Child(is_running=False, failure=f"exit code 2: {folder.path}/a: No space left")
    row = (await folder.rows())["a"]
    assert (row.state, row.can_stop, row.message) == (RunState.ENDED, False, "exit code 2: RUNS/a: No space left")


async def test_a_run_that_is_removed_disappears(folder: Folder) -> None:
    folder.progress("a")
    assert list(await folder.rows()) == ["a"]
    (folder.path / "a" / "progress.json").unlink()
    (folder.path / "a").rmdir()
    assert await folder.rows() == {}


async def test_what_is_not_a_run_does_no_harm(folder: Folder, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "summary.json").write_text("secret")
    (outside / "report.html").write_text("secret")
    folder.write("files", "summary.json", "not JSON")
    folder.write("files", "progress.json", b"\xff\xfe")
    folder.write("large", "summary.json", b" " * (16 * 1024 * 1024 + 1))
    (folder.path / "file").write_text("a file")
    (folder.path / "link").symlink_to(outside)
    (folder.path / ".hidden").mkdir()
    (folder.path / "a name with spaces").mkdir()
    folder.progress("inside", FileState.ENDED)
    (folder.path / "inside" / "report.html").symlink_to(outside / "report.html")
    os.mkfifo(folder.path / "inside" / "summary.json")
    rows = await folder.rows()
    assert set(rows) == {"files", "large", "inside"}
    assert not rows["inside"].has_report
    for key in ("inside", "link", "../outside", "outside", "/etc", "..", ""):
        assert await folder.runs.report(key) is None, key
        assert await folder.runs.summary(key) is None, key
        assert await folder.runs.result(key) is None, key


async def test_only_changed_files_are_read(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        folder.progress(f"run-{number}", FileState.ENDED)
    await folder.rows()
    read: list[str] = []
    before = RunsFolder._read_run

    def counting(self: RunsFolder, name: str, signature: Any) -> Any:
        read.append(name)
        return before(self, name, signature)

    monkeypatch.setattr(RunsFolder, "_read_run", counting)
    await folder.rows()
    assert read == []
    folder.progress("run-3", FileState.ENDED, percent=99)
    await folder.rows()
    assert read == ["run-3"]


async def test_the_newest_runs_are_shown(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmendpoint_dashboard.sources.runs._MAX_RUNS", 3)
    for number in range(6):
        folder.progress(f"run-{number}", FileState.ENDED)
        os.utime(folder.path / f"run-{number}", (time.time() + number, time.time() + number))
    assert set(await folder.rows()) == {"run-3", "run-4", "run-5"}
