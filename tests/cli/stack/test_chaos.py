"""`up` and `down` fifty times, while processes are killed and files are damaged: nothing is left, and nothing blocks."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from llmendpoint_cli.commands import down, up
from llmendpoint_cli.stack.health import supervisor_runs
from llmendpoint_cli.stack.identity import start_ticks
from llmendpoint_cli.stack.state import read_processes, read_stack
from support.machine.local_stack import BARE, LocalStack, local_stack

_ROUNDS = 50
Fault = Callable[[LocalStack], None]


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalStack]:
    with local_stack(tmp_path / "state") as stack:
        for name, value in stack.environment.items():
            monkeypatch.setenv(name, value)
        yield stack


def kill(name: str, number: signal.Signals = signal.SIGKILL) -> Fault:
    def fault(stack: LocalStack) -> None:
        with suppress(OSError):
            os.kill(stack.record(name).pid, number)

    return fault


def damage(name: str) -> Fault:
    def fault(stack: LocalStack) -> None:
        path = stack.folders.root / name
        path.write_bytes(path.read_bytes()[:-20])

    return fault


def name_a_foreign_process(stack: LocalStack) -> None:
    """Let a record name a process that is not ours, as if the kernel had reused its ID."""
    path = stack.folders.processes / "sidecar.json"
    path.write_text(path.read_text().replace(f'"pid":{stack.record("sidecar").pid}', f'"pid":{os.getpid()}'))


def leave_parts(stack: LocalStack) -> None:
    (stack.folders.root / ".stack.json.abc").write_text("{")
    (stack.folders.processes / ".sidecar.json.abc").write_text("")
    (stack.folders.processes / "other.json").write_text("null")


def interrupt_an_up(stack: LocalStack) -> None:
    """End the stack, start another one, and kill that `up` in the middle."""
    down.main(["--timeout", "500ms"])
    process = subprocess.Popen(stack.command("up", *BARE), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 20
    while not stack.processes() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()


_FAULTS: dict[str, Fault] = {
    "supervisor": kill("supervisor"),
    "sidecar": kill("sidecar"),
    "simulator": kill("simulator"),
    "dashboard": kill("dashboard"),
    "hung sidecar": kill("sidecar", signal.SIGSTOP),
    "hung supervisor": kill("supervisor", signal.SIGSTOP),
    "stack.json": damage("stack.json"),
    "sidecar.json": damage("processes/sidecar.json"),
    "supervisor.json": damage("processes/supervisor.json"),
    "folder": lambda stack: shutil.rmtree(stack.folders.processes),
    "foreign": name_a_foreign_process,
    "parts": leave_parts,
    "interrupted up": interrupt_an_up,
    "none": lambda _: None,
}


@pytest.mark.alone
@pytest.mark.timeout(900)  # 60 s on two idle cores
def test_nothing_is_left_and_nothing_blocks(stack: LocalStack, capsys: pytest.CaptureFixture[str]) -> None:
    choice = random.Random(13)
    names = list(_FAULTS)
    for number in range(_ROUNDS):
        # Each fault occurs, and often two of them together. Every fifth stack has a dashboard, which is then killed.
        chosen = [names[number % len(names)], *choice.sample(names, choice.choice((0, 1)))]
        chosen += [] if number % 5 else ["dashboard"]
        words = list(BARE) if number % 5 else ["--no-prometheus"]
        assert up.main(words) == 0, (number, capsys.readouterr())
        for name in chosen:
            with suppress(FileNotFoundError, AssertionError):
                _FAULTS[name](stack)
        if choice.random() < 0.3:
            up.main(words)
        code = down.main(["--timeout", "500ms"])
        assert code == 0, (number, chosen, capsys.readouterr())
        assert not stack.processes(), (number, chosen)
        assert not supervisor_runs(stack.folders)
        assert not read_processes(stack.folders)
        assert read_stack(stack.folders) is None
        assert [path.name for path in stack.folders.root.glob(".*")] == []
    assert start_ticks(os.getpid()) is not None
