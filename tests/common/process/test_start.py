"""A program that is interrupted before its own handlers of signals are there ends quietly."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from llmendpoint_common.process import exit_codes
from support.waiting import wait_until

#: A module that takes long to import, in place of one that both programs need.
_SLOW = """
import pathlib, time
pathlib.Path({marker!r}).touch()
time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("arguments", [["llmendpoint_cli", "load"], ["llmendpoint_loadjob"]])
def test_an_import_that_is_interrupted_prints_nothing(
    tmp_path: Path, arguments: list[str], number: signal.Signals
) -> None:
    marker = tmp_path / "importing"
    (tmp_path / "uvloop.py").write_text(_SLOW.format(marker=str(marker)))
    path = os.pathsep.join([str(tmp_path), *sys.path])
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments, "--help"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip
    wait_until(marker.exists)
    process.send_signal(number)
    output, error = process.communicate(timeout=30)
    assert (process.returncode, output, error) == (exit_codes.INTERRUPTED, b"", b"")


_PROGRAM = """
import pathlib, sys, time
{before}
from llmendpoint_common.process.start import run_program
sys.exit(run_program("slow_program"))
"""
_MAIN = """
import pathlib, time

def main():
    pathlib.Path({marker!r}).touch()
    time.sleep(60)
    return 7
"""


def started(folder: Path, before: str = "") -> subprocess.Popen[bytes]:
    marker = folder / "running"
    (folder / "slow_program.py").write_text(_MAIN.format(marker=str(marker)))
    path = os.pathsep.join([str(folder), *sys.path])
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM.format(before=before)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip
    wait_until(marker.exists)
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_program_without_handlers_that_is_interrupted_prints_nothing(tmp_path: Path, number: signal.Signals) -> None:
    process = started(tmp_path)
    process.send_signal(number)
    output, error = process.communicate(timeout=30)
    assert (process.returncode, output, error) == (exit_codes.INTERRUPTED, b"", b"")


def test_a_signal_that_is_ignored_stays_ignored(tmp_path: Path) -> None:
    process = started(tmp_path, "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)")
    ignored = next(line for line in Path(f"/proc/{process.pid}/status").read_text().splitlines() if "SigIgn" in line)
    process.kill()
    process.communicate()
    assert int(ignored.split()[1], 16) & 1 << (signal.SIGINT - 1)


_STOPPABLE = """
import asyncio
from llmendpoint_common.process import lifecycle

async def serve(stopping):
    await asyncio.wait_for(stopping.wait(), 8)
    return 130

def main():
    return lifecycle.run(serve)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="images are those of Linux")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("image", ["loadjob", "sidecar", "operator", "dashboard"])
def test_a_signal_that_arrives_while_python_starts_in_a_container_ends_the_program(
    tmp_path: Path, image: str, number: signal.Signals
) -> None:
    containerfile = (Path(__file__).parents[3] / image / "Containerfile").read_text()
    (entrypoint,) = re.findall(r"^ENTRYPOINT (.*)$", containerfile, re.MULTILINE)
    words = json.loads(entrypoint)
    start = words[: words.index("python")]
    (tmp_path / "slow_program.py").write_text(_STOPPABLE)
    # A signal without a handler would end this program. For process 1 of a container, the kernel drops it.
    drop = f"import signal; signal.signal({number}, lambda *_: None); signal.raise_signal({number})"
    restore = f"signal.signal({number}, signal.SIG_DFL)"
    # The load generator has handlers before its imports.
    program = _PROGRAM if image == "loadjob" else "{before}\nimport sys, slow_program\nsys.exit(slow_program.main())"
    done = subprocess.run(
        [*start, sys.executable, "-c", program.format(before=f"{drop}; {restore}")],
        check=False, capture_output=True, timeout=30, env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (exit_codes.INTERRUPTED, b"")
