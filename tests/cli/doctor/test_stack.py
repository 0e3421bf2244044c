"""`llmendpoint doctor` on what `llmendpoint up` has started."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from llmendpoint_cli.stack.state import read_processes
from support.doctor_machine import stopped
from support.local_stack import LocalStack, local_stack
from support.waiting import wait_until


@pytest.fixture
def up(tmp_path: Path) -> Iterator[LocalStack]:
    with local_stack(tmp_path / "state", HOME=str(tmp_path)) as stack:
        stack.up("--simulator")
        yield stack


def doctor(up: LocalStack) -> tuple[int, list[dict[str, Any]]]:
    """Return the exit code and the findings."""
    done = up.run("doctor", "--format", "json")
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)["findings"]


def test_nothing_is_wrong_with_a_stack_that_is_up(up: LocalStack) -> None:
    assert doctor(up) == (0, [])


def test_a_sidecar_of_the_stack_that_hangs(up: LocalStack) -> None:
    with stopped(up.record("sidecar").pid):
        code, (finding,) = doctor(up)
    assert (code, finding["cause"]) == (1, "SidecarNotAnswering")


def test_a_sidecar_of_the_stack_that_has_crashed(up: LocalStack) -> None:
    with stopped(up.record("supervisor").pid):
        os.kill(up.record("sidecar").pid, signal.SIGKILL)
        code, (finding,) = doctor(up)
    assert (code, finding["cause"], finding["subject"]) == (1, "ProcessCrashed", "sidecar")
    assert finding["command"] == "llmendpoint logs sidecar"
    # The supervisor starts it again.
    wait_until(lambda: doctor(up) == (0, []), 60)


def test_a_stack_that_is_gone(up: LocalStack) -> None:
    records = read_processes(up.folders)
    # The supervisor first, so that it does not start the others again.
    for name in sorted(records, key=lambda name: name != "supervisor"):
        with suppress(ProcessLookupError):
            os.kill(records[name].pid, signal.SIGKILL)
    wait_until(lambda: not up.processes())
    code, (finding,) = doctor(up)
    assert (code, finding["cause"], finding["subject"]) == (1, "ProcessCrashed", "stack")
    assert finding["command"] == "llmendpoint up"
    # The command mends it.
    up.up("--simulator")
    assert doctor(up) == (0, [])
