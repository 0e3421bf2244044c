"""The process of the load generator: what it checks first, how it ends, and what it leaves behind."""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import shutil
import signal
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path

import pytest

from llmendpoint_cli.main import main as cli
from llmendpoint_common.process import exit_codes
from llmendpoint_common.process.units import parse_address
from support.servers import RunningSimulator, StartSimulator
from support.waiting import eventually


async def start(simulator: RunningSimulator, *arguments: str, stdout: int = PIPE, **environment: str) -> Process:
    flags = [f"--url={simulator.url}", "--model=simulated", *arguments]
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "llmendpoint_loadjob", *flags, stdout=stdout, stderr=PIPE, env=os.environ | environment
    )


async def ended(process: Process, seconds: float = 30) -> tuple[int, str, str]:
    output, error = await asyncio.wait_for(process.communicate(), seconds)
    assert process.returncode is not None
    return process.returncode, (output or b"").decode(), error.decode()


def answered(simulator: RunningSimulator) -> int:
    return len(simulator.simulator.ledger.entries)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_a_run_with_a_partial_report(
    start_simulator: StartSimulator, tmp_path: Path, number: signal.Signals
) -> None:
    simulator = await start_simulator(ttft=0.01, tokens=1)
    process = await start(simulator, "--concurrency=2", "--duration=1h", "--slo=error_rate=50%", f"--out={tmp_path}")
    await eventually(lambda: answered(simulator) >= 5)
    simulator.behave(ttft=3600)
    process.send_signal(number)
    code, output, _ = await ended(process, 5)
    assert code == exit_codes.INTERRUPTED
    assert output.splitlines()[-1].startswith("None (Canceled): The load generator was stopped before the end")
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["partial"], summary["verdict"]) == (True, "None")
    assert len((tmp_path / "requests.jsonl").read_text().splitlines()) >= 3
    assert "Interrupted: a partial result" in (tmp_path / "report.html").read_text()


async def test_a_second_signal_ends_the_process_and_leaves_files(
    start_simulator: StartSimulator, tmp_path: Path
) -> None:
    simulator = await start_simulator(ttft=0.01, tokens=1)
    process = await start(simulator, "--concurrency=2", "--duration=1h", f"--out={tmp_path}")
    await eventually(lambda: answered(simulator) >= 5)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    code, _, _ = await ended(process, 5)
    assert code == exit_codes.INTERRUPTED
    assert json.loads((tmp_path / "summary.json").read_text())["partial"] is True
    assert (tmp_path / "requests.jsonl").read_text().endswith("}\n")


async def test_a_run_that_is_killed_leaves_what_was_measured(start_simulator: StartSimulator, tmp_path: Path) -> None:
    simulator = await start_simulator(ttft=0.01, tokens=1)
    process = await start(simulator, "--concurrency=2", "--duration=1h", f"--out={tmp_path}")
    lines = tmp_path / "requests.jsonl"
    await eventually(lambda: lines.exists() and lines.read_text().count("\n") >= 5)
    process.kill()
    await ended(process)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["partial"], summary["verdict"]) == (True, "None")
    assert not (tmp_path / ".reserve").exists()
    assert json.loads(lines.read_text().splitlines()[0])["status"] == 200


async def test_results_have_settings_version_and_times(start_simulator: StartSimulator, tmp_path: Path) -> None:
    simulator = await start_simulator(ttft=0.01, tokens=1)
    process = await start(simulator, "--max-requests=3", "--seed=5", f"--out={tmp_path}")
    await ended(process)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["run"]["load"] | {"seed": 5, "maxRequests": 3, "concurrency": 1} == summary["run"]["load"]
    assert summary["environment"]["version"]
    assert summary["environment"]["cpus"] > 0
    assert summary["startedAt"] < summary["endedAt"]
    sent = [json.loads(line)["sent_at"] for line in (tmp_path / "requests.jsonl").read_text().splitlines()]
    assert summary["startedAt"] <= min(sent) <= max(sent) <= summary["endedAt"]


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--out={file}"], "a file with this name exists; --out names a folder"),
        (["--out={file}/below"], "cannot write results: Not a directory"),
        (["--out=/proc/self/task/x"], "cannot write results"),
        (["--questions=/nowhere"], "/nowhere"),
        (["--questions={bad}"], "bad.yaml:1: "),
        (["--category=Nonsense"], "Nonsense"),
        (["--baseline={file}"], "not a result of a load run"),
        (["--cacert={file}"], "the file has no valid PEM certificates"),
        (["--trace={file}"], "f"),
        (["--trace=/nowhere"], "/nowhere: "),
        (["--api=openai-chat", "--url=http://127.0.0.1:1/api/chat"], "the URL has the path of the API ollama-chat"),
    ],
)
async def test_what_a_run_needs_is_checked_before_the_first_request(
    start_simulator: StartSimulator, tmp_path: Path, flags: list[str], sentence: str
) -> None:
    (tmp_path / "f").touch()
    (tmp_path / "q").mkdir()
    (tmp_path / "q/bad.yaml").write_text("- 1\n")
    simulator = await start_simulator()
    names = {"file": str(tmp_path / "f"), "bad": str(tmp_path / "q")}
    out = tmp_path / "out"
    process = await start(simulator, f"--out={out}", *(flag.format(**names) for flag in flags))
    code, output, error = await ended(process)
    assert (code, output) == (exit_codes.USAGE, "")
    assert not out.exists()
    assert error.startswith("llmendpoint_loadjob: ")
    assert sentence in error
    assert "Traceback" not in error
    assert answered(simulator) == 0


async def test_the_result_of_a_part_of_a_run_says_so(start_simulator: StartSimulator, tmp_path: Path) -> None:
    simulator = await start_simulator(ttft=0.01, tokens=1)
    flags = ("--concurrency=2", "--max-requests=50", "--slo=error_rate=10%", f"--out={tmp_path}")
    code, output, _ = await ended(await start(simulator, "--slice=1/2", *flags))
    sentence = "This is part 1/2 of a run, with about 1/2 of its load, and the verdict is only about it."
    assert code == exit_codes.OK
    assert output.splitlines()[-1].startswith(f"Passed (ObjectivesMet): {sentence} The objective was met.")
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["message"].startswith(sentence)
    assert summary["environment"]["pods"] == 2
    assert sentence in (tmp_path / "report.html").read_text()
    _, output, _ = await ended(await start(simulator, *flags))
    assert "This is part" not in output


async def test_an_address_of_the_status_that_is_in_use_is_refused_before_the_run(
    start_simulator: StartSimulator, tmp_path: Path
) -> None:
    simulator = await start_simulator()
    (tmp_path / "summary.json").write_text("of an earlier run")
    used = parse_address(simulator.url.removeprefix("http://"))
    code, output, error = await ended(await start(simulator, f"--status-listen={used}", f"--out={tmp_path}"))
    assert (code, output) == (exit_codes.USAGE, "")
    assert error == f"llmendpoint_loadjob: --status-listen: cannot listen on {used}: Address already in use\n"
    assert (tmp_path / "summary.json").read_text() == "of an earlier run"
    assert answered(simulator) == 0


async def test_stdout_has_the_format_alone(start_simulator: StartSimulator) -> None:
    simulator = await start_simulator(ttft=0.01, tokens=1)
    code, output, _ = await ended(await start(simulator, "--max-requests=3", "--format=json"))
    assert code in (exit_codes.OK, exit_codes.INVALID)
    assert json.loads(output)["requests"] == 3
    _, output, _ = await ended(await start(simulator, "--max-requests=3", "--format=csv"))
    header, row = output.splitlines()
    assert header.startswith("started_at,verdict,reason,")
    assert len(header.split(",")) == len(row.split(","))


async def test_a_closed_stream_does_not_change_the_files_of_a_run(
    start_simulator: StartSimulator, tmp_path: Path
) -> None:
    simulator = await start_simulator(ttft=0.01, tokens=1)
    command = f"exec {sys.executable} -m llmendpoint_loadjob --url={simulator.url} --model=simulated --max-requests=3"
    lost = f"the result could not be written to stdout: it is closed; the files of the result are in {tmp_path}\n"
    for closed in (">&-", "2>&-", "<&-", "<&- >&- 2>&-"):
        process = await asyncio.create_subprocess_shell(
            f"{command} --out={tmp_path} {closed}", stdout=PIPE, stderr=PIPE
        )
        code, _, error = await ended(process)
        is_lost = ">&-" in closed.split()
        assert code in ((exit_codes.ERROR,) if is_lost else (exit_codes.OK, exit_codes.INVALID)), (closed, error)
        assert error.endswith(lost) is (is_lost and "2>&-" not in closed)
        assert "Traceback" not in error
        lines = (tmp_path / "requests.jsonl").read_text().splitlines()
        assert [json.loads(line)["status"] for line in lines] == [200] * 3


@pytest.mark.parametrize("form", ["table", "json"])
async def test_a_result_that_cannot_be_printed_is_an_error_and_stays_in_its_files(
    start_simulator: StartSimulator, tmp_path: Path, form: str
) -> None:
    simulator = await start_simulator(ttft=0.01, tokens=1)
    with Path("/dev/full").open("wb") as full:
        process = await start(
            simulator, "--max-requests=3", f"--format={form}", f"--out={tmp_path}", stdout=full.fileno()
        )
    code, _, error = await ended(process)
    assert code == exit_codes.ERROR
    lost = "the result could not be written to stdout: No space left on device; the files of the result are in"
    assert f"{lost} {tmp_path}\n" in error
    assert "Traceback" not in error
    assert json.loads((tmp_path / "summary.json").read_text())["requests"] == 3


async def test_a_reader_that_is_gone_does_not_change_a_run(start_simulator: StartSimulator, tmp_path: Path) -> None:
    simulator = await start_simulator(ttft=0.01, tokens=1)
    reading, writing = os.pipe()
    os.close(reading)
    process = await start(simulator, "--max-requests=3", f"--out={tmp_path}", stdout=writing)
    os.close(writing)
    code, _, error = await ended(process)
    assert code in (exit_codes.OK, exit_codes.INVALID)
    assert "BrokenPipe" not in error
    assert json.loads((tmp_path / "summary.json").read_text())["requests"] == 3


@pytest.mark.parametrize("load", ["--concurrency=3", "--rate=50"])
async def test_a_limit_of_open_files_that_is_too_low_is_refused_with_the_one_that_is_enough(
    start_simulator: StartSimulator, tmp_path: Path, load: str
) -> None:
    simulator = await start_simulator(ttft=0.01, tokens=1)

    async def run(limit: int) -> tuple[int, str, str]:
        command = [sys.executable, "-m", "llmendpoint_loadjob", f"--url={simulator.url}", "--model=simulated", load]
        limited = ["sh", "-c", f'ulimit -n {limit} && exec "$@"', "sh", *command, "--duration=1s", f"--out={tmp_path}"]
        return await ended(await asyncio.create_subprocess_exec(*limited, stdout=PIPE, stderr=PIPE))

    code, _, error = await run(12)
    assert (code, error.count("\n")) == (exit_codes.USAGE, 1)
    advised = re.search(r"raise the limit with `ulimit -n (\d+)`", error)
    assert advised is not None
    code, _, error = await run(int(advised[1]))
    assert code != exit_codes.USAGE, error
    assert int(advised[1]) < 80


def limit_files(process: Process, size: int) -> None:
    """Let the process write no file beyond a size, which acts like a full disk, and needs no rights."""
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, size))


async def test_a_disk_that_becomes_full_is_the_verdict_and_is_said_first(
    start_simulator: StartSimulator, tmp_path: Path
) -> None:
    simulator = await start_simulator(ttft=0.01, tokens=1)
    process = await start(
        simulator, "--concurrency=2", "--max-requests=200", "--slo=error_rate=50%", f"--out={tmp_path}"
    )
    lines = tmp_path / "requests.jsonl"
    await eventually(lambda: lines.exists() and lines.read_text().count("\n") >= 5)
    # The next line does not fit as a whole.
    limit_files(process, lines.stat().st_size + 100)
    code, output, error = await ended(process)
    assert code == exit_codes.ERROR
    assert "Passed" not in output
    verdict = output.splitlines()[-1]
    assert verdict.startswith(f"Error (RunError): The results could not be written: {tmp_path}")
    written = lines.read_bytes()
    assert written.endswith(b"}\n")
    assert [json.loads(line)["status"] for line in written.splitlines()] == [200] * len(written.splitlines())
    count = written.count(b"\n")
    assert f"requests.jsonl has {count} of 200 requests" in verdict
    assert f"llmendpoint_loadjob: The results could not be written: {tmp_path}" in error
    progress = json.loads((tmp_path / "progress.json").read_bytes())
    assert (progress["state"], "File too large" in progress["failure"]) == ("ended", True)


async def test_a_folder_that_was_removed_during_the_run_is_the_verdict(
    start_simulator: StartSimulator, tmp_path: Path
) -> None:
    simulator = await start_simulator(ttft=0.01, tokens=1)
    out = tmp_path / "out"
    process = await start(simulator, "--concurrency=1", "--max-requests=100", "--slo=error_rate=50%", f"--out={out}")
    await eventually(lambda: answered(simulator) >= 5)
    shutil.rmtree(out)
    code, output, error = await ended(process)
    assert code == exit_codes.ERROR
    assert "Passed" not in output
    assert output.splitlines()[-1].startswith("Error (RunError): The results could not be written: ")
    assert "the file was removed during the run" in error
    assert "summary.json is missing, and requests.jsonl has 0 of 100 requests" in error
    assert not out.exists()


async def test_a_file_that_cannot_be_written_at_the_end_changes_the_verdict_in_the_others(
    start_simulator: StartSimulator, tmp_path: Path
) -> None:
    simulator = await start_simulator(ttft=0.01, tokens=1)
    process = await start(
        simulator, "--concurrency=1", "--max-requests=100", "--slo=error_rate=50%", f"--out={tmp_path}"
    )
    await eventually(lambda: answered(simulator) >= 1)
    (tmp_path / "report.html").mkdir()
    (tmp_path / "report.html/x").touch()
    code, output, _ = await ended(process)
    assert code == exit_codes.ERROR
    summary = json.loads((tmp_path / "summary.json").read_bytes())
    assert (summary["verdict"], summary["reason"], summary["requests"]) == ("Error", "RunError", 100)
    assert "summary.json has all figures, and requests.jsonl has 100 of 100 requests" in summary["message"]
    assert output.splitlines()[-1] == f"Error (RunError): {summary['message']}"


async def test_a_run_that_is_killed_soon_has_a_summary_of_its_requests(
    start_simulator: StartSimulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    simulator = await start_simulator(ttft=0.01, tokens=1)
    process = await start(simulator, "--concurrency=2", "--duration=1h", f"--out={tmp_path}")
    await eventually(lambda: answered(simulator) >= 1)

    def summarized() -> int:
        found = tmp_path / "summary.json"
        return int(json.loads(found.read_bytes())["requests"]) if found.exists() else 0

    try:
        # A partial summary used to be written at the start, and then every 10 seconds.
        await eventually(lambda: summarized() >= 5, 6)
        assert cli(["results", str(tmp_path)]) == exit_codes.INTERRUPTED
        assert "None (Canceled): The run has not ended (0 % done)." in capsys.readouterr().out
    finally:
        process.kill()
        await ended(process)
    assert cli(["results", str(tmp_path)]) == exit_codes.INTERRUPTED
    verdict = capsys.readouterr().out.splitlines()[-1]
    count = (tmp_path / "requests.jsonl").read_bytes().count(b"\n")
    assert verdict.startswith(
        f"None (Canceled): The load generator was killed before the end of the run (process {process.pid}"
    )
    assert f"it has {summarized()} measured requests, and requests.jsonl has {count} lines" in verdict
