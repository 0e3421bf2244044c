"""`llmendpoint doctor` on what `llmendpoint up` has started."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from llmendpoint_cli.stack.state import read_processes, read_stack
from llmendpoint_common.diagnosis.places import place
from support.api_server.control_plane import free_port
from support.machine.doctor_machine import a_machine, answers, stopped
from support.machine.local_stack import LocalStack, local_stack, shown
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


def mend(up: LocalStack, finding: dict[str, Any]) -> None:
    """Run the command of a finding in a shell, as a user who copies it."""
    program = f'llmendpoint() {{ {shlex.join(up.command())} "$@"; }}'
    done = subprocess.run(["/bin/sh", "-c", f"{program}\n{finding['command']}"], check=False, capture_output=True,
                          text=True, timeout=90, env=up.environment)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def sidecars(up: LocalStack) -> tuple[int, Any]:
    """Return the process of the sidecar, and what was asked for."""
    stack = read_stack(up.folders)
    assert stack is not None
    return up.record("sidecar").pid, (stack.request, stack.sidecars)


def test_nothing_is_wrong_with_a_stack_that_is_up(up: LocalStack) -> None:
    assert findings(up) == []


def test_a_sidecar_of_the_stack_that_hangs(up: LocalStack) -> None:
    with stopped(up.record("sidecar").pid):
        finding = only(up)
        assert finding["cause"] == "SidecarNotAnswering"
        before, requested = sidecars(up)
        mend(up, finding)
    assert sidecars(up)[1] == requested
    assert sidecars(up)[0] != before
    assert findings(up) == []


def test_a_sidecar_of_the_stack_that_has_crashed(up: LocalStack) -> None:
    with stopped(up.record("supervisor").pid):
        os.kill(up.record("sidecar").pid, signal.SIGKILL)
        finding = only(up)
    assert (finding["cause"], finding["subject"]) == ("ProcessCrashed", "sidecar")
    assert finding["command"] == shown(up.folders, "logs sidecar")
    # The supervisor starts it again.
    wait_until(lambda: not findings(up), 60)


def test_a_sidecar_of_the_stack_with_the_address_of_another_server(up: LocalStack) -> None:
    simulator = up.environment["UP"].split()[1]
    up.down()
    dead = f"http://127.0.0.1:{free_port()}"
    up.environment["UP"] = up.environment["UP"].replace(f"--upstream {simulator}", f"--upstream gpu1={dead}")
    start(up)
    done = up.run("doctor", "--format", "json", "--ollama", simulator)
    finding = next(one for one in json.loads(done.stdout)["findings"] if one["cause"] == "SidecarNotReady")
    assert (
        f"cannot reach its upstream at {dead.removeprefix('http://')}, although Ollama answers at"
        in (finding["sentence"])
    )
    mend(up, finding)
    stack = read_stack(up.folders)
    assert stack is not None
    assert [(one.name, one.upstream_url) for one in stack.sidecars] == [("gpu1", simulator)]
    assert stack.request["--no-dashboard"]
    wait_until(lambda: not findings(up))


def test_a_stack_that_is_gone(up: LocalStack) -> None:
    records = read_processes(up.folders)
    # The supervisor first, so that it does not start the others again.
    for name in sorted(records, key=lambda name: name != "supervisor"):
        with suppress(ProcessLookupError):
            os.kill(records[name].pid, signal.SIGKILL)
    wait_until(lambda: not up.processes())
    finding = only(up)
    assert (finding["cause"], finding["subject"]) == ("ProcessCrashed", "stack")
    mend(up, finding)
    assert findings(up) == []


def test_a_port_that_another_program_has_taken_from_the_stack(up: LocalStack) -> None:
    """The sidecar ends again and again then, because it cannot listen, and that is not another fault."""
    port = place(sidecars(up)[1][1][0].admin_url)[1]
    with stopped(up.record("supervisor").pid):
        os.kill(up.record("sidecar").pid, signal.SIGKILL)
        other = wait_until(lambda: listening(port), 30)
    with other:
        log = up.folders.logs / "sidecar.log"
        wait_until(lambda: "cannot listen on" in log.read_text(), 60)
        finding = only(up)
        assert finding["cause"] == "PortTaken"
        assert f"Port {port}, which the metering sidecar needs, is taken by" in finding["sentence"]


def listening(port: int) -> socket.socket | None:
    """Return a socket that listens on a port, or None while another process has it."""
    with suppress(OSError):
        return socket.create_server(("127.0.0.1", port))
    return None


def test_the_last_words_of_a_crashed_program_are_the_message_in_its_log(up: LocalStack) -> None:
    with stopped(up.record("supervisor").pid):
        os.kill(up.record("sidecar").pid, signal.SIGKILL)
        with (up.folders.logs / "sidecar.log").open("a") as log:
            log.write('{"level": "error", "message": "no memory is left"}\n')
        assert only(up)["sentence"].endswith("Its last words: no memory is left")
