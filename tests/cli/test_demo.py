"""The command `llmendpoint` as users run it: the demo, errors and versions."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from llmendpoint_cli.commands.demo import Target, sidecar_arguments
from llmendpoint_cli.upstream import Upstream
from support.machine.local_stack import local_stack

#: The demo does not use an Ollama that runs on the machine of the tests.
NO_OLLAMA = {"OLLAMA_HOST": "127.0.0.1:1"}


@pytest.mark.alone
def test_the_demo_passes_on_other_ports_and_leaves_nothing_behind() -> None:
    taken = []
    for port in (11435, 8001):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
            sock.listen()
        except OSError:
            sock.close()  # another process has the port, so it is taken as well
            continue
        taken.append(sock)
    # On a busy machine, the load generator may be the bottleneck. Then the verdict is Invalid, and the demo runs again.
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-m", "llmendpoint_cli.main", "demo", "--duration", "4s"],
            check=False, capture_output=True, text=True, timeout=60,
            env={**os.environ, **NO_OLLAMA, "MARK": f"demo-{os.getpid()}"},
        )  # fmt: skip
        if "Invalid" not in done.stdout:
            break
    for sock in taken:
        sock.close()
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"port 11435 is in use( by .+ \(process \d+\))?: using", done.stdout)
    assert "Passed" in done.stdout
    assert "upstream: the simulator, because nothing answers at http://127.0.0.1:1 " in done.stdout
    assert re.search(r"the dashboard at http://127.0.0.1:\d+ ends now; `llmendpoint demo --keep`", done.stdout)
    assert not _with_environment(f"demo-{os.getpid()}")


@pytest.mark.alone
def test_the_demo_can_leave_everything_running(tmp_path: Path) -> None:
    with local_stack(tmp_path / "state") as stack:
        done = stack.run("demo", "--keep", "--duration", "1s")
        # A run of a second has too few requests for a verdict.
        assert done.returncode in (0, 98), done.stdout + done.stderr
        assert "everything keeps running; `llmendpoint down` (or make down) ends it" in done.stdout
        assert re.search(r"dashboard: http://127.0.0.1:\d+\n", done.stdout)
        assert len(list(stack.folders.runs.glob("*/report.html"))) == 1
        assert stack.run("status").returncode == 0
        stack.down()
        assert stack.processes() == []


@pytest.mark.alone
def test_the_proxy_of_the_demo_knows_how_many_requests_the_model_server_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def parallel(*, is_real: bool) -> str:
        arguments = sidecar_arguments(Target(Upstream("http://127.0.0.1:11434", "m", is_real), 11435, 8001, ()))
        return arguments[arguments.index("--parallel") + 1]

    monkeypatch.delenv("OLLAMA_NUM_PARALLEL", raising=False)
    assert (parallel(is_real=False), parallel(is_real=True)) == ("4", "1")
    monkeypatch.setenv("OLLAMA_NUM_PARALLEL", "8")
    assert (parallel(is_real=False), parallel(is_real=True)) == ("4", "8")


def test_variables_of_the_other_programs_do_not_reach_the_demo() -> None:
    variables = {
        **NO_OLLAMA,
        "LLMENDPOINT_LOAD_RATE": "1",
        "LLMENDPOINT_SIDECAR_KEYS": "/nowhere",
        "LLMENDPOINT_SIMULATOR_LISTEN": "127.0.0.1:1",
    }
    done = run("demo", "--duration", "2s", **variables)
    # The verdict depends on how busy the machine is.
    assert done.returncode in (0, 98, 99), done.stdout + done.stderr
    assert "4 users" in done.stdout


def test_a_proxy_of_the_user_is_not_asked_for_programs_of_this_machine() -> None:
    # Nothing listens on this port.
    done = run("demo", "--duration", "1s", **NO_OLLAMA, http_proxy="http://127.0.0.1:1", no_proxy="")
    # A run of a second has too few requests for a verdict.
    assert done.returncode in (0, 98), done.stdout + done.stderr
    assert "metrics of the sidecar:" in done.stdout


def _with_environment(mark: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in path.read_bytes() and path.parent.name != str(os.getpid()):
                found.append(path.parent.name)
        except OSError:
            continue
    return found


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "llmendpoint_cli.main", *arguments]
    return subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=60, env=os.environ | environment
    )


def test_an_unknown_command_names_those_there_are() -> None:
    done = run("fly")
    assert done.returncode == 2
    assert (
        "the commands are up, status, logs, down, demo, load, traffic, results, doctor, questions, sidecar, simulate"
        in done.stderr
    )
    assert len(done.stderr.splitlines()) == 2


def test_the_command_says_its_version() -> None:
    version = (Path(__file__).parents[2] / "VERSION").read_text().strip()
    assert run("--version").stdout == f"llmendpoint {version}\n"
    assert run("load", "--version").stdout == f"llmendpoint load {version}\n"


def test_errors_name_the_command() -> None:
    for command, option in (("sidecar", "--parallel"), ("simulate", "--tokens"), ("load", "--concurrency")):
        done = run(command, option, "0")
        assert done.returncode == 2
        assert done.stderr.startswith(f"llmendpoint {command}: {option}: '0' is not a whole number of at least 1\n")
    done = run("demo", "--duration", "soon")
    assert done.returncode == 2
    assert done.stderr.startswith("llmendpoint demo: --duration: 'soon' is not a duration;")
