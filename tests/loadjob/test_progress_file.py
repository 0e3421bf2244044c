"""`progress.json`: what a program that watches the folder of a run sees, while it runs and when it has ended."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from typing import Any

import msgspec
import pytest

from llmendpoint_common.contracts.loadrun import PROGRESS_FILE, Objective, ObjectiveProgress, RunProgress, RunState
from llmendpoint_common.contracts.loadrun.notation import parse_objective
from llmendpoint_common.process.errors import OutputError
from llmendpoint_common.process.folder_lock import is_locked
from llmendpoint_loadjob.report.files import OutputFolder
from llmendpoint_loadjob.result.live import live_objectives
from support.load.reports import smallest, summary
from support.load.runs import answered, document_of, failed, measure
from support.servers import StartSimulator
from support.waiting import eventually


async def start(url: str, out: Path, *flags: str) -> Process:
    arguments = [f"--url={url}", "--model=simulated", f"--out={out}", *flags]
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "llmendpoint_loadjob", *arguments, stdout=PIPE, stderr=PIPE
    )


def progress_of(out: Path) -> dict[str, Any]:
    try:
        fields: dict[str, Any] = json.loads((out / PROGRESS_FILE).read_bytes())
    except FileNotFoundError:
        return {"state": "", "requests": 0}
    return fields


async def test_the_progress_of_a_run_is_in_its_folder_until_it_has_ended(
    start_simulator: StartSimulator, tmp_path: Path
) -> None:
    simulator = await start_simulator(ttft=0.01, tokens=1)
    process = await start(simulator.url, tmp_path, "--concurrency=2", "--duration=1h", "--slo=ttft:p50=1s")
    await eventually(lambda: progress_of(tmp_path)["requests"] >= 5)
    running = progress_of(tmp_path)
    assert (running["state"], running["pid"]) == ("running", process.pid)
    assert running["percent"] == 0
    assert running["requestsPerSecond"] > 0
    assert running["objectives"][0]["text"] == "TTFT p50 ≤ 1 s"
    assert running["objectives"][0]["met"] is True
    assert running["startedAt"] <= running["updatedAt"]
    process.send_signal(signal.SIGINT)
    await asyncio.wait_for(process.communicate(), 30)
    ended = progress_of(tmp_path)
    assert (ended["state"], ended["percent"], ended["failure"]) == ("ended", 0, "")
    assert ended["endedAt"] >= running["updatedAt"]
    assert ended["requests"] == json.loads((tmp_path / "summary.json").read_bytes())["requests"]


async def test_a_run_that_is_complete_says_so(start_simulator: StartSimulator, tmp_path: Path) -> None:
    simulator = await start_simulator(ttft=0.01, tokens=1)
    process = await start(simulator.url, tmp_path, "--max-requests=3", "--concurrency=1")
    await asyncio.wait_for(process.communicate(), 30)
    ended = progress_of(tmp_path)
    assert (ended["state"], ended["percent"], ended["requests"]) == ("ended", 100, 3)
    assert msgspec.json.decode((tmp_path / PROGRESS_FILE).read_bytes(), type=RunProgress).state is RunState.ENDED


async def test_another_run_cannot_write_to_the_folder_of_one_that_continues(
    start_simulator: StartSimulator, tmp_path: Path
) -> None:
    simulator = await start_simulator(ttft=0.01, tokens=1)
    first = await start(simulator.url, tmp_path, "--concurrency=1", "--duration=1h")
    await eventually(lambda: progress_of(tmp_path)["state"] == "running")
    assert is_locked(tmp_path)
    second = await start(simulator.url, tmp_path, "--concurrency=1", "--max-requests=1")
    _, error = await asyncio.wait_for(second.communicate(), 30)
    assert second.returncode == 2
    assert f"{tmp_path}: another run is writing to this folder" in error.decode()
    first.kill()
    await first.wait()
    assert not is_locked(tmp_path)
    assert progress_of(tmp_path)["state"] == "running"


def progress(state: RunState, requests: int = 0) -> RunProgress:
    return RunProgress(
        percent=0, requests=requests, errors=0, in_flight=0, output_tokens=0, elapsed_seconds=0.0,
        state=state, started_at="2026-01-01T00:00:00Z", updated_at="2026-01-01T00:00:01Z", pid=1,
    )  # fmt: skip


def test_a_late_write_of_a_thread_does_not_replace_what_was_written_at_the_end(tmp_path: Path) -> None:
    folder = OutputFolder(tmp_path)
    folder.write(summary())
    folder.write_progress(progress(RunState.ENDED, 9))
    folder.write_partial(smallest(partial=True))
    folder.write_progress(progress(RunState.RUNNING, 8))
    assert json.loads((tmp_path / "summary.json").read_bytes())["partial"] is False
    assert (progress_of(tmp_path)["state"], progress_of(tmp_path)["requests"]) == ("ended", 9)


def test_the_progress_of_an_earlier_run_is_removed(tmp_path: Path) -> None:
    OutputFolder(tmp_path).write_progress(progress(RunState.ENDED))
    folder = OutputFolder(tmp_path)
    folder.prepare()
    assert not list(tmp_path.iterdir())
    with pytest.raises(OutputError, match="another run is writing to this folder"):
        OutputFolder(tmp_path).prepare()
    folder.release()
    OutputFolder(tmp_path).prepare()


def test_a_failed_write_leaves_no_half_of_a_file(tmp_path: Path) -> None:
    # A limit for the size of files acts like a full disk, also for root.
    program = (
        "import msgspec, pathlib, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100));"
        "from llmendpoint_common.contracts.loadrun import RunProgress;"
        "from llmendpoint_loadjob.report.files import OutputFolder;"
        "content = msgspec.json.decode(sys.argv[2], type=RunProgress);"
        "OutputFolder(pathlib.Path(sys.argv[1])).write_progress(content)"
    )
    content = msgspec.json.encode(progress(RunState.RUNNING)).decode()
    command = [sys.executable, "-c", program, str(tmp_path), content]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert "OSError: [Errno 27] File too large" in done.stderr
    assert not list(tmp_path.iterdir())


def judged(requests: int, failures: int, *objectives: str) -> tuple[ObjectiveProgress, ...]:
    document = document_of(*objectives)
    samples = [answered(ttft=0.2)] * requests + [failed()] * failures
    return live_objectives(measure(samples, document).whole, document.objectives)


def test_objectives_of_a_run_that_continues() -> None:
    (latency,) = judged(100, 0, "ttft:p95=250ms")
    assert (latency.text, latency.measured, latency.met) == ("TTFT p95 ≤ 250 ms", "200 ms", True)
    (latency,) = judged(100, 10, "ttft:p95=250ms")
    assert (latency.measured, latency.met) == ("never answered", False)
    (latency,) = judged(10, 0, "ttft:p95=250ms")
    assert (latency.measured, latency.met) == ("200 ms", None)
    errors, attained = judged(99, 1, "error_rate=1%", "attainment=99.5%")
    assert (errors.text, errors.measured, errors.met) == ("error rate ≤ 1 %", "1 %", True)
    assert (attained.text, attained.measured, attained.met) == ("attainment ≥ 99.5 %", "99 %", False)


@pytest.mark.parametrize("objective", ["ttft:p95=1s", "error_rate=1%", "attainment=99%"])
def test_nothing_is_measured_before_the_first_request_has_ended(objective: str) -> None:
    (shown,) = judged(0, 0, objective)
    assert (shown.measured, shown.met) == ("nothing measured", None)


def test_a_percentile_is_unknown_if_the_latency_was_not_measured() -> None:
    document = document_of("ttft:p50=1s")
    group = measure([answered(first=None)] * 10, document).whole
    assert live_objectives(group, document.objectives)[0].met is None
    assert isinstance(parse_objective("ttft:p50=1s"), Objective)
