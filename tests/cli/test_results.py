"""`llmendpoint results`: shows runs, exits as their verdicts, and compares them."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from llmendpoint_cli.main import main
from llmendpoint_common.contracts.loadrun import Verdict, VerdictReason
from llmendpoint_loadjob.report.files import OutputFolder
from support.load.reports import summary
from support.load.runs import answered
from support.load.runs import run as measured


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for name, scale in (("before", 1.0), ("after", 1.4)):
        folder = OutputFolder(tmp_path / name)
        folder.prepare()
        folder.write(summary(scale=scale))
    return tmp_path


@pytest.mark.parametrize("path", ["before", "before/summary.json"])
def test_a_run_is_shown_and_its_verdict_is_the_exit_code(
    runs: Path, path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["results", str(runs / path)]) == 99
    assert "Failed (ObjectivesMissed): TTFT p95 was 612ms" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("verdict", "reason", "partial", "code"),
    [
        (Verdict.PASSED, VerdictReason.OBJECTIVES_MET, False, 0),
        (Verdict.INVALID, VerdictReason.TOO_FEW_REQUESTS, False, 98),
        (Verdict.ERROR, VerdictReason.TARGET_UNREACHABLE, False, 1),
        (Verdict.NONE, VerdictReason.NO_OBJECTIVES, False, 0),
        (Verdict.NONE, VerdictReason.CANCELED, True, 130),
    ],
)
def test_exit_codes(tmp_path: Path, verdict: Verdict, reason: VerdictReason, partial: bool, code: int) -> None:
    OutputFolder(tmp_path).write(summary(verdict=verdict, reason=reason, partial=partial))
    assert main(["results", str(tmp_path)]) == code


def test_a_report_is_written_from_a_summary(runs: Path) -> None:
    assert main(["results", str(runs / "before/summary.json"), "-o", str(runs / "new")]) == 99
    assert {path.name for path in (runs / "new").iterdir()} == {"summary.json", "report.html", "summary.csv"}


def test_the_lines_of_the_requests_are_copied(runs: Path) -> None:
    lines = '{"request_id": "a"}\n{"request_id": "b"}\n'
    (runs / "before/requests.jsonl").write_text(lines)
    for source in ("before", "before/summary.json"):
        assert main(["results", str(runs / source), "-o", str(runs / "new")]) == 99
        assert (runs / "new/requests.jsonl").read_text() == lines
    # The folder of the run itself keeps its lines.
    (runs / "before/report.html").unlink()
    OutputFolder(runs / "before").release()
    assert main(["results", str(runs / "before"), "-o", str(runs / "before")]) == 99
    assert (runs / "before/requests.jsonl").read_text() == lines
    assert (runs / "before/report.html").exists()


def test_the_lines_of_an_earlier_run_do_not_stay_beside_a_result_without_lines(runs: Path) -> None:
    (runs / "after/requests.jsonl").write_text('{"request_id": "a"}\n')
    assert main(["results", str(runs / "before"), "-o", str(runs / "after")]) == 99
    assert not (runs / "after/requests.jsonl").exists()


def test_a_run_in_other_formats(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["results", str(runs / "before"), "--format=json"])
    assert json.loads(capsys.readouterr().out)["requests"] == 1000
    main(["results", str(runs / "before"), "--format=csv"])
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_rows_of_requests(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["results", str(runs / "before"), "--requests"]) == 2
    assert "requests.jsonl: No such file or directory" in capsys.readouterr().err
    (runs / "before/requests.jsonl").write_text('{"request_id": "a", "ttft": 0.5}\n')
    assert main(["results", str(runs / "before"), "--requests"]) == 99
    header, row = capsys.readouterr().out.splitlines()
    assert dict(zip(header.split(","), row.split(","), strict=True))["ttft"] == "0.5"


@pytest.mark.parametrize("name", ["./gone", "/gone/summary.json", "Not A Name"])
def test_what_is_not_a_run_is_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["results", name]) == 2
    assert capsys.readouterr().err.startswith(f"llmendpoint results: {name}: ")


def test_without_a_run_those_of_the_stack_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LLMENDPOINT_STATE_DIR", str(tmp_path))
    assert main(["results"]) == 0
    assert f"{tmp_path / 'runs'} has no runs" in capsys.readouterr().out
    for name in ("20260101T000000Z-a", "20260102T000000Z-b", "20260103T000000Z-c"):
        folder = OutputFolder(tmp_path / "runs" / name)
        folder.prepare()
        if name.endswith("a"):
            folder.write(summary(scale=1.0))
        if not name.endswith("c"):
            folder.release()
    try:
        assert main(["results"]) == 0
    finally:
        folder.release()
    running, broken, ended = capsys.readouterr().out.splitlines()
    assert running == f"{tmp_path}/runs/20260103T000000Z-c  running"
    assert broken == f"{tmp_path}/runs/20260102T000000Z-b  no result"
    assert ended.startswith(f"{tmp_path}/runs/20260101T000000Z-a  Failed (ObjectivesMissed), 1000 requests to ")


@pytest.mark.parametrize("words", [["--wait"], ["--requests"], ["--out=x"], ["--format=json"]])
def test_options_about_one_run_need_a_run(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["results", *words])
    assert ended.value.code == 2
    assert "--out, --format, --requests and --wait need a RUN" in capsys.readouterr().err


def test_two_runs_are_compared(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [str(runs / "before"), str(runs / "after")]
    assert main(["results", "compare", *names]) == 0
    output = capsys.readouterr().out
    assert "before" in output.splitlines()[0]
    row = next(line for line in output.splitlines() if line.startswith("TTFT p95"))
    assert row.index("★") < row.index("ms")
    assert row.endswith("+40.0 %")
    assert main(["results", "compare", *names, "--format=json"]) == 0
    figures = json.loads(capsys.readouterr().out)["figures"]
    assert next(item for item in figures if item["name"] == "TTFT p95")["better"] == "first"
    assert main(["results", "compare", *names, "--format=html", f"--out={runs / 'c.html'}"]) == 0
    assert capsys.readouterr().out == (runs / "c.html").read_text()


def test_a_comparison_needs_two_runs(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["results", "compare", str(runs / "before")])
    assert ended.value.code == 2
    assert "llmendpoint results compare: " in capsys.readouterr().err


def test_a_name_that_is_neither_a_file_nor_on_a_cluster_is_said_in_one_line(tmp_path: Path) -> None:
    # In a process of its own, because the client library reads KUBECONFIG when it is imported.
    environment = os.environ | {"HOME": str(tmp_path), "KUBECONFIG": str(tmp_path / "none")}
    command = [sys.executable, "-m", "llmendpoint_cli", "results", "nope"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith(
        "llmendpoint results: nope: no such file or folder, and not a LoadTest, because there is no cluster"
    )
    assert ended.stderr.count("\n") == 1, ended.stderr


def test_a_summary_that_is_not_a_regular_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "summary.json")
    assert main(["results", str(tmp_path)]) == 2
    assert "summary.json: the file is not a regular file" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["results", "{}"],
        ["results", "{}", "--format=csv"],
        ["results", "compare", "{}", "{}"],
        ["results", "compare", "{}", "{}", "--format=json"],
        ["results", "compare", "{}", "{}", "--format=html"],
    ],
)
@pytest.mark.parametrize(
    ("output", "reason"), [("/dev/full", "No space left on device"), ("&-", "it is closed")], ids=["full", "closed"]
)
def test_a_result_that_cannot_be_printed_is_an_error(
    runs: Path, arguments: list[str], output: str, reason: str
) -> None:
    command = [sys.executable, "-m", "llmendpoint_cli.main", *(word.format(runs / "before") for word in arguments)]
    ended = subprocess.run(
        f"exec {shlex.join(command)} >{output}", shell=True, stderr=subprocess.PIPE, text=True, check=False, timeout=60
    )
    assert ended.returncode == 1
    name = "llmendpoint results compare" if "compare" in arguments else "llmendpoint results"
    where = "" if "compare" in arguments else f"; the files of the result are in {runs / 'before'}"
    assert ended.stderr == f"{name}: the result could not be written to stdout: {reason}{where}\n"


def test_a_kubeconfig_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["results", "ns/nightly", f"--kubeconfig={tmp_path / 'none'}"]) == 1
    assert "llmendpoint results: the kubeconfig cannot be used: " in capsys.readouterr().err


def test_a_pipe_instead_of_request_lines_is_refused(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(runs / "before/requests.jsonl")
    assert main(["results", str(runs / "before"), "--requests"]) == 2
    assert "requests.jsonl: the file is not a regular file" in capsys.readouterr().err


LINE = '{{"request_id": "{}", "sent_at": "2026-03-01T12:00:{:02d}Z", "sent": {}, "ended": {}}}\n'


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """A copy of the folder that the pods of a run have in a volume. Their lines are in the order in which they ended."""
    part = measured([answered()] * 10)
    for pod in (0, 2):
        folder = OutputFolder(tmp_path / f"nightly-1234/pod-{pod}")
        folder.prepare()
        folder.write(part)
        folder.release()
    lines = ((0, "a", 1, 2.0), (0, "c", 2, 5.0), (2, "b", 1, 3.0), (2, "d", 6, 9.0))
    for pod, name, sent, ended in lines:
        with (tmp_path / f"nightly-1234/pod-{pod}/requests.jsonl").open("a") as file:
            file.write(LINE.format(name, sent, float(sent), ended))
    return tmp_path / "nightly-1234"


def test_the_lines_and_results_of_several_pods_become_one(
    volume: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Of three pods, the second one left nothing.
    assert main(["results", str(volume), f"--out={tmp_path / 'out'}"]) == 130
    assert "1 of 3 load pods left no result" in capsys.readouterr().out
    merged = [json.loads(line) for line in (tmp_path / "out/requests.jsonl").read_text().splitlines()]
    assert [line["request_id"] for line in merged] == ["a", "b", "c", "d"]
    result = json.loads((tmp_path / "out/summary.json").read_bytes())
    assert (result["requests"], result["environment"]["pods"]) == (20, 3)
    main(["results", str(volume), "--requests"])
    assert [row.split(",")[0] for row in capsys.readouterr().out.splitlines()[1:]] == ["a", "b", "c", "d"]


def test_results_without_those_of_the_last_pod_are_partial(volume: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(volume / "pod-2")
    file = volume / "pod-0/summary.json"
    summary = json.loads(file.read_bytes())
    summary["environment"]["pods"] = 3
    file.write_text(json.dumps(summary))
    assert main(["results", str(volume)]) == 130
    assert "2 of 3 load pods left no result" in capsys.readouterr().out


def test_results_of_pods_that_do_not_belong_together_are_refused(
    volume: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (volume / "pod-2/summary.json").write_text("{}")
    assert main(["results", str(volume)]) == 2
    assert "pod-2/summary.json: not a result of a load run" in capsys.readouterr().err
