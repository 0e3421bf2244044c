"""`llmendpoint results`: shows runs, exits as their verdicts, and compares them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from llmendpoint_cli.main import main
from llmendpoint_common.contracts.loadrun import Verdict, VerdictReason
from llmendpoint_loadjob.report.files import OutputFolder
from support.reports import summary


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


def test_a_name_that_is_neither_a_file_nor_on_a_cluster_names_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    assert main(["results", "nope"]) == 1
    error = capsys.readouterr().err
    assert "llmendpoint results: nope: no such file or folder, and not a LoadTest, because there is no cluster" in error


def test_a_summary_that_is_not_a_regular_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "summary.json")
    assert main(["results", str(tmp_path)]) == 2
    assert "summary.json: the file is not a regular file" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["results", "{}"], ["results", "{}", "--format=csv"], ["questions", "list"]])
def test_output_that_cannot_be_written_is_an_error(runs: Path, arguments: list[str]) -> None:
    command = [sys.executable, "-m", "llmendpoint_cli.main", *(word.format(runs / "before") for word in arguments)]
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    assert ended.returncode == 1
    assert "the result could not be written to stdout: No space left on device" in ended.stderr


def test_a_kubeconfig_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["results", "ns/nightly", f"--kubeconfig={tmp_path / 'none'}"]) == 1
    assert "llmendpoint results: the kubeconfig cannot be used: " in capsys.readouterr().err
