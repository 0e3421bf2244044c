"""`llmendpoint doctor` on what `llmendpoint up` has started."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from llmendpoint_cli.stack.state import read_processes
from support.control_plane import free_port
from support.doctor_machine import a_machine, answers, stopped
from support.local_stack import LocalStack, local_stack
from support.waiting import wait_until


@pytest.fixture
def up(tmp_path: Path) -> Iterator[LocalStack]:
    """A stack on ports of its own, in front of a simulator: other stacks on this machine use the usual ports."""
    port = free_port()
    with a_machine(tmp_path / "machine") as machine, local_stack(tmp_path / "state", HOME=str(tmp_path)) as stack:
        simulator = [sys.executable, "-m", "llmendpoint_simulator", f"--listen=127.0.0.1:{port}", "--model=a"]
        machine.run(*simulator)
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/api/version"))
        stack.environment["UP"] = " ".join(
            ["--upstream", f"http://127.0.0.1:{port}", "--listen", f"127.0.0.1:{free_port()}",
             "--metrics-listen", f"127.0.0.1:{free_port()}"]
        )  # fmt: skip
        start(stack)
        yield stack


def start(up: LocalStack) -> None:
    """Start the stack, also again."""
    up.up(*up.environment["UP"].split())


def findings(up: LocalStack) -> list[dict[str, Any]]:
    """Return the findings. The exit code says whether one of them is a fault."""
    done = up.run("doctor", "--format", "json")
    assert done.stdout, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)["findings"]
    assert done.returncode == any(finding["severity"] != "info" for finding in found)
    return found


def only(up: LocalStack) -> dict[str, Any]:
    """Return the only finding."""
    found = findings(up)
    assert len(found) == 1, found
    return found[0]


def test_nothing_is_wrong_with_a_stack_that_is_up(up: LocalStack) -> None:
    assert findings(up) == []


def test_a_sidecar_of_the_stack_that_hangs(up: LocalStack) -> None:
    with stopped(up.record("sidecar").pid):
        assert only(up)["cause"] == "SidecarNotAnswering"


def test_a_sidecar_of_the_stack_that_has_crashed(up: LocalStack) -> None:
    with stopped(up.record("supervisor").pid):
        os.kill(up.record("sidecar").pid, signal.SIGKILL)
        finding = only(up)
    assert (finding["cause"], finding["subject"]) == ("ProcessCrashed", "sidecar")
    assert finding["command"] == "llmendpoint logs sidecar"
    # The supervisor starts it again.
    wait_until(lambda: not findings(up), 60)


def test_a_stack_that_is_gone(up: LocalStack) -> None:
    records = read_processes(up.folders)
    # The supervisor first, so that it does not start the others again.
    for name in sorted(records, key=lambda name: name != "supervisor"):
        with suppress(ProcessLookupError):
            os.kill(records[name].pid, signal.SIGKILL)
    wait_until(lambda: not up.processes())
    finding = only(up)
    assert (finding["cause"], finding["subject"]) == ("ProcessCrashed", "stack")
    assert finding["command"] == "llmendpoint up"
    # The command mends it.
    start(up)
    assert findings(up) == []
