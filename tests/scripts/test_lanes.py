"""Commands that run at the same time."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import lanes
import pytest

SCRIPT = Path(lanes.__file__)


def lane(name: str, code: str) -> list[str]:
    return [name, sys.executable, "-c", code]


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """A copy of the script, which writes its files below the folder of the test."""
    copy = tmp_path / "scripts" / "lanes.py"
    copy.parent.mkdir()
    copy.write_text(SCRIPT.read_text())
    return copy


def run(script: Path, *commands: list[str]) -> subprocess.CompletedProcess[str]:
    words = [word for command in commands for word in ("--", *command)][1:]
    return subprocess.run([sys.executable, str(script), *words], check=False, capture_output=True, text=True)


def test_lines_carry_the_name_of_their_lane_and_files_do_not(script: Path) -> None:
    done = run(script, lane("a", "print('one')"), lane("long", "import sys; print('two', file=sys.stderr)"))
    assert done.returncode == 0
    assert {"a    | one", "long | two"} <= set(done.stdout.splitlines())
    folder = script.parents[1] / "build" / "lanes"
    assert (folder / "a.txt").read_text() == "one\n"
    assert (folder / "long.txt").read_text() == "two\n"


def test_lanes_run_at_the_same_time(script: Path, tmp_path: Path) -> None:
    # Each waits for the other's file.
    wait = "import pathlib, time\npathlib.Path('{0}/{1}').touch()\nwhile not pathlib.Path('{0}/{2}').exists(): time.sleep(0.01)"
    done = run(script, lane("a", wait.format(tmp_path, "a", "b")), lane("b", wait.format(tmp_path, "b", "a")))
    assert done.returncode == 0


def test_failed_tests_are_named_at_the_end(script: Path) -> None:
    many = (
        "print('FAILED tests/a.py::test_b - assert 1 == 2'); print('ERROR tests/c.py'); print('more\\n' * 100); exit(1)"
    )
    done = run(script, lane("bad", many), lane("good", "print('FAILED is a word')"))
    assert done.stdout.splitlines()[-2:] == [
        "bad    FAILED tests/a.py::test_b - assert 1 == 2",
        "bad    ERROR tests/c.py",
    ]


def test_a_failed_lane_is_named_at_the_end_and_the_others_are_not_cut_off(script: Path) -> None:
    done = run(
        script,
        lane("bad", "print('the reason'); raise SystemExit(3)"),
        lane("good", "import time; time.sleep(0.3); print('done')"),
    )
    assert done.returncode == 1
    *_, reason, bad, good = done.stdout.splitlines()
    assert "!! bad FAILED with 3." in done.stdout
    assert reason == "the reason"
    assert bad.startswith("bad    FAILED after ")
    assert good.startswith("good   ok after ")
    assert "good | done" in done.stdout
    assert "passed" not in done.stdout


def test_the_last_line_adds_up_the_tests_that_passed(script: Path, tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("def test_a(): pass\ndef test_b(): pass\n")
    file = tmp_path / "test_it.py"
    done = run(script, pytest_lane("loud", file), pytest_lane("quiet", file, "-q"), lane("other", "print('99 passed')"))
    assert done.stdout.splitlines()[-1] == "4 passed, 0 failed"


def test_a_stage_waits_for_the_lanes_before_it_even_if_one_failed(script: Path, tmp_path: Path) -> None:
    first = lane("a", f"import time; time.sleep(0.3); open('{tmp_path}/done', 'w'); raise SystemExit(1)")
    second = lane("b", f"open('{tmp_path}/done'); print('later')")
    words = [*first, "++", *second]
    done = subprocess.run([sys.executable, str(script), *words], check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "b | later" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("b   ok after ")


def test_an_interrupt_ends_the_lanes_and_what_they_started(script: Path, tmp_path: Path) -> None:
    sleeper = (
        "import subprocess, sys; print('started', flush=True); "
        "subprocess.run([sys.executable, '-c', 'import time; time.sleep(100)'])"
    )
    process = subprocess.Popen(
        [sys.executable, str(script), *lane("a", sleeper), "++", *lane("b", "")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "a | started\n"
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "KeyboardInterrupt" in output
    assert output.splitlines()[-1] == "b   did not run"


#: Passes when it runs for the second time.
UNSTABLE = """
import pathlib
def test_{name}():
    mark = pathlib.Path(__file__).with_suffix(".{name}")
    ran = mark.exists()
    mark.touch()
    assert ran
"""


def pytest_lane(name: str, *words: str | Path) -> list[str]:
    return [name, sys.executable, "-m", "pytest", "-ra", "-p", "no:cacheprovider", *map(str, words)]


def run_repeating(script: Path, tmp_path: Path, *commands: list[str]) -> subprocess.CompletedProcess[str]:
    words = [word for command in commands for word in ("--", *command)][1:]
    words += ["??", *pytest_lane("repeat", f"--rootdir={tmp_path}")]
    return subprocess.run(
        [sys.executable, str(script), *words], check=False, capture_output=True, text=True, cwd=tmp_path
    )


def test_a_test_that_passes_when_it_runs_alone_is_named_and_does_not_fail_the_run(script: Path, tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("def test_good(): pass\n" + UNSTABLE.format(name="bad"))
    done = run_repeating(script, tmp_path, pytest_lane("a", f"--rootdir={tmp_path}", "test_it.py"))
    assert done.returncode == 0, done.stdout
    assert "repeat | test_it.py" in done.stdout
    *_, named, total = done.stdout.splitlines()
    assert named == "UNSTABLE: it failed, and passed when it ran alone: test_it.py::test_bad"
    assert total == "2 passed, 0 failed"


def test_a_test_that_fails_again_fails_the_run(script: Path, tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("def test_bad(): assert 1 == 2\n" + UNSTABLE.format(name="other"))
    done = run_repeating(script, tmp_path, pytest_lane("a", f"--rootdir={tmp_path}", "test_it.py"))
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "repeat   FAILED test_it.py::test_bad - assert 1 == 2"
    assert "UNSTABLE" not in done.stdout
    assert "0 failed" not in done.stdout


def test_more_than_three_failures_are_not_repeated(script: Path, tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("".join(UNSTABLE.format(name=f"bad{number}") for number in range(4)))
    done = run_repeating(script, tmp_path, pytest_lane("a", f"--rootdir={tmp_path}", "test_it.py"))
    assert done.returncode == 1
    assert "repeat" not in done.stdout


@pytest.mark.parametrize("code", ["raise SystemExit(1)", "print('FAILED tests/a.py::test_b'); raise SystemExit(2)"])
def test_a_failure_of_anything_but_a_test_is_not_repeated(script: Path, tmp_path: Path, code: str) -> None:
    (tmp_path / "test_it.py").write_text(UNSTABLE.format(name="bad"))
    unstable = pytest_lane("a", f"--rootdir={tmp_path}", "test_it.py")
    done = run_repeating(script, tmp_path, unstable, lane("check", code))
    assert done.returncode == 1
    assert "repeat" not in done.stdout


def test_without_failures_nothing_is_repeated(script: Path, tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "def test_good(): print('ERROR    aiohttp.server:web.py:4 is a line of a log')\n"
    )
    done = run_repeating(script, tmp_path, pytest_lane("a", f"--rootdir={tmp_path}", "test_it.py"))
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "1 passed, 0 failed")
    assert "repeat" not in done.stdout


def test_a_line_of_a_log_is_no_failed_test(script: Path, tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import logging\ndef test_bad():\n    logging.getLogger('aiohttp').error('no')\n    assert 1 == 2\n"
    )
    done = run(script, pytest_lane("a", tmp_path / "test_it.py"))
    assert [line for line in done.stdout.splitlines() if line.startswith("a   ERROR")] == []


@pytest.mark.parametrize(
    "words",
    [["a"], ["a", "true", "--", "a", "true"], ["--", "a", "true"], ["a", "true", "++"], ["a", "true", "??"], []],
)
def test_a_lane_needs_a_name_of_its_own_and_a_command(words: list[str]) -> None:
    with pytest.raises(ValueError, match="each lane needs a name of its own and a command"):
        lanes.parse(words)
