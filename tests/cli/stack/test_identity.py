"""A process is identified by its ID and its start time, and found by its mark without any file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmendpoint_cli.stack.identity import MARK, is_running, marked, send, start_ticks, wait_until_ended
from support.waiting import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc is needed")


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "100"], env={**os.environ, MARK: str(tmp_path)})
    yield process
    process.kill()
    process.wait()


def test_a_process_with_another_start_time_is_another_process(sleeper: subprocess.Popen[bytes]) -> None:
    ticks = start_ticks(sleeper.pid)
    assert ticks is not None
    assert is_running(sleeper.pid, ticks)
    assert not is_running(sleeper.pid, ticks + 1)
    assert not send(sleeper.pid, ticks + 1, signal.SIGKILL)
    assert sleeper.poll() is None


def test_a_process_that_only_waits_for_its_parent_has_ended(sleeper: subprocess.Popen[bytes]) -> None:
    ticks = start_ticks(sleeper.pid)
    assert send(sleeper.pid, ticks, signal.SIGKILL)
    assert wait_until_ended(sleeper.pid, ticks, 10)
    assert not is_running(sleeper.pid, ticks)


def test_waiting_for_the_end_is_bounded(sleeper: subprocess.Popen[bytes]) -> None:
    assert not wait_until_ended(sleeper.pid, start_ticks(sleeper.pid), 0.05)


def test_a_process_is_found_by_the_mark_of_its_stack_only(sleeper: subprocess.Popen[bytes], tmp_path: Path) -> None:
    wait_until(lambda: sleeper.pid in marked(tmp_path))
    assert sleeper.pid not in marked(tmp_path / "other")
    assert sleeper.pid not in marked(tmp_path.parent)
