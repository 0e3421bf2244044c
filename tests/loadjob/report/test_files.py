"""Files of a run: checked before it, written as it goes, replaced as a whole, and never the end of it."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from llmendpoint_common.process.errors import OutputError
from llmendpoint_loadjob.report.files import OutputFolder, read_summary
from llmendpoint_loadjob.report.flat import requests_csv, summary_csv
from llmendpoint_loadjob.report.lines import RequestLines
from llmendpoint_loadjob.result.timings import ErrorClass, Sample
from support.load.reports import HOSTILE, same, smallest, summary


def sample(index: int = 0) -> Sample:
    return Sample(
        f"id-{index}",
        "q",
        "Math",
        10.0,
        10.1,
        10.3,
        10.5,
        10.6,
        200,
        input_tokens=3,
        output_tokens=5,
        is_spread=True,
        has_usage=True,
    )


def test_all_files_of_a_run_are_written_and_read_back(tmp_path: Path) -> None:
    folder = OutputFolder(tmp_path / "new" / "folder")
    folder.prepare()
    folder.write(summary())
    names = {path.name for path in (tmp_path / "new/folder").iterdir()}
    assert names == {"summary.json", "report.html", "summary.csv"}
    assert same(read_summary(tmp_path / "new/folder"), summary())
    assert same(read_summary(tmp_path / "new/folder/summary.json"), summary())


def test_a_file_instead_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    with pytest.raises(OutputError, match="f: a file with this name exists; --out names a folder"):
        OutputFolder(tmp_path / "f").prepare()
    with pytest.raises(OutputError, match="cannot write results: Not a directory"):
        OutputFolder(tmp_path / "f" / "below").prepare()


def test_a_folder_in_which_nothing_can_be_written_is_refused() -> None:
    with pytest.raises(OutputError, match="cannot write results"):
        OutputFolder(Path("/proc/self/task")).prepare()


def test_a_full_disk_is_found_before_the_run(tmp_path: Path) -> None:
    # A limit for the size of files acts like a full disk, and needs no rights.
    program = (
        "import resource, sys, pathlib; resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024));"
        "from llmendpoint_loadjob.report.files import OutputFolder; OutputFolder(pathlib.Path(sys.argv[1])).prepare()"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False, capture_output=True, text=True)
    assert "OutputError" in done.stderr
    assert "cannot write results" in done.stderr
    assert not list(tmp_path.iterdir())


def test_files_of_an_earlier_run_do_not_stay_beside_those_of_a_new_one(tmp_path: Path) -> None:
    folder = OutputFolder(tmp_path)
    folder.write(summary())
    folder.prepare()
    folder.write_partial(smallest(partial=True))
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]


def test_the_reserved_space_has_no_file_that_could_stay_behind(tmp_path: Path) -> None:
    folder = OutputFolder(tmp_path)
    folder.prepare()
    held = open_files()
    folder.reserve()
    (reserve,) = open_files() - held
    assert reserve.stat().st_blocks * 512 >= 2 * 1024 * 1024
    assert not list(tmp_path.iterdir())
    folder.write(summary())
    assert reserve not in open_files()


def open_files() -> set[Path]:
    """Return the open files of this process."""
    return {file for file in Path("/proc/self/fd").iterdir() if file.exists()}


def test_a_wrong_summary_is_refused_with_its_file(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text('{"verdict": "Fine"}')
    with pytest.raises(OutputError, match=r"summary\.json: not a result of a load run"):
        read_summary(tmp_path)
    with pytest.raises(OutputError, match="gone: No such file or directory"):
        read_summary(tmp_path / "gone")


def test_a_line_has_times_since_the_start_and_the_time_of_day(tmp_path: Path) -> None:
    lines = RequestLines(tmp_path / "requests.jsonl", lambda: 8.0)
    lines.write(sample())
    lines.close()
    row = json.loads((tmp_path / "requests.jsonl").read_text())
    assert (row["scheduled"], row["sent"], row["first"], row["ended"]) == (2.0, 2.1, 2.3, 2.6)
    assert (row["ttft"], row["request_latency"], row["queue_delay"], row["tpot"]) == (0.2, 0.5, 0.1, 0.05)
    assert row["sent_at"].endswith("Z")


def test_a_line_has_no_words_of_the_server(tmp_path: Path) -> None:
    lines = RequestLines(tmp_path / "requests.jsonl", lambda: 0.0)
    failed = sample()
    failed.error, failed.detail = ErrorClass.SERVER_ERROR, "canary-7731"
    lines.write(failed)
    lines.close()
    text = (tmp_path / "requests.jsonl").read_text()
    assert json.loads(text)["error"] == "5xx"
    assert "canary-7731" not in text


def test_lines_need_no_memory(tmp_path: Path) -> None:
    lines = RequestLines(tmp_path / "requests.jsonl", lambda: 0.0)
    lines.write(sample())
    tracemalloc.start()
    for index in range(20_000):
        lines.write(sample(index))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    lines.close()
    assert peak < 2_000_000
    assert len((tmp_path / "requests.jsonl").read_text().splitlines()) == 20_001


def test_a_disk_that_becomes_full_ends_the_lines_and_not_the_run() -> None:
    lines = RequestLines(Path("/dev/full"), lambda: 0.0)
    for _ in range(1000):
        lines.write(sample())
    lines.flush()
    lines.write(sample())
    lines.close()
    assert lines.failure == "/dev/full: No space left on device"


def test_requests_become_rows_and_a_line_that_was_cut_off_is_skipped(tmp_path: Path) -> None:
    lines = RequestLines(tmp_path / "requests.jsonl", lambda: 0.0)
    lines.write(sample(1))
    lines.write(sample(2))
    lines.close()
    data = (tmp_path / "requests.jsonl").read_bytes()
    rows = list(csv.DictReader(io.StringIO("".join(requests_csv(data[:-40].splitlines())))))
    assert [row["request_id"] for row in rows] == ["id-1"]
    assert (rows[0]["ttft"], rows[0]["error"], rows[0]["output_tokens"]) == ("0.2", "", "5")


def test_runs_become_rows_with_the_same_columns() -> None:
    rows = list(csv.DictReader(io.StringIO(summary_csv([summary(model=HOSTILE), smallest(model="=1+1")]))))
    assert rows[0]["model"] == HOSTILE
    # A spreadsheet would run this as a formula.
    assert rows[1]["model"] == "'=1+1"
    assert (rows[0]["ttft_p95_seconds"], rows[1]["ttft_p95_seconds"]) == (str(summary().ttft.p95), "")  # type: ignore[union-attr]
    assert rows[0]["verdict"] == "Failed"
