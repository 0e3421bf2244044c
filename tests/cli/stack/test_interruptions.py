"""Ctrl-C, SIGTERM and a closed terminal: everything is up or nothing is left, and the command says which."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from llmendpoint_cli.stack.state import Phase, read_process, read_stack
from llmendpoint_common.process.folder_lock import try_lock
from support.machine.local_stack import BARE, LocalStack, free_ports, local_stack
from support.waiting import wait_until

#: A server that is installed as `ollama`, never answers, and does not end when it is asked to.
_DEAF = f"""#!{sys.executable}
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
while True:
    time.sleep(1)
"""


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[LocalStack]:
    with local_stack(tmp_path / "state") as stack:
        yield stack


@pytest.fixture
def deaf(tmp_path: Path) -> Iterator[LocalStack]:
    """A stack whose Ollama never answers, so that its start lasts."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "ollama").write_text(_DEAF)
    (folder / "ollama").chmod(0o755)
    path = os.pathsep.join((str(folder), os.environ["PATH"]))
    with local_stack(tmp_path / "state", PATH=path, OLLAMA_HOST=f"127.0.0.1:{free_ports(1)[0]}") as stack:
        yield stack


@pytest.fixture(autouse=True)
def heed_hangups() -> Iterator[None]:
    """Let processes not inherit that SIGHUP is ignored, which it is if nohup runs the tests."""
    earlier = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, earlier)


@contextlib.contextmanager
def started(stack: LocalStack, *words: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(stack.command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          env=stack.environment, start_new_session=True) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def read_until(process: subprocess.Popen[str], text: str, stream: IO[str] | None = None) -> None:
    """Read the output of a process, or another stream of it, up to the line with a text."""
    stream = stream or process.stdout
    assert stream is not None
    lines: list[str] = []
    while line := stream.readline():
        if text in line:
            return
        lines.append(line)
    pytest.fail(f"{text!r} was not printed, but {''.join(lines)}")


def is_recorded(stack: LocalStack, name: str) -> bool:
    record = read_process(stack.folders, name)
    return record is not None and record.pid > 0


def interrupt_twice_at_once(process: subprocess.Popen[str]) -> None:
    """Let two signals arrive at the same moment, such as those of a terminal that closes."""
    process.send_signal(signal.SIGSTOP)
    wait_until(lambda: _content(Path(f"/proc/{process.pid}/stat")).rpartition(b") ")[2].startswith(b"T"))
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def slow_stream(stack: LocalStack) -> Iterator[None]:
    """A request through the proxy that takes an hour."""
    found = read_stack(stack.folders)
    assert found is not None
    sidecar = found.sidecars[0]
    behaviour = json.dumps({"ttft": 0.01, "inter_token": 3600.0}).encode()
    change = urllib.request.Request(f"{sidecar.upstream_url}/simulator/behaviour", behaviour, method="PUT")
    urllib.request.urlopen(change, timeout=30).close()
    body = json.dumps({"model": "simulated:latest", "prompt": "hi", "stream": True}).encode()
    with urllib.request.urlopen(f"{sidecar.proxy_url}/api/generate", body, timeout=30) as response:
        assert response.readline()
        yield


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_start_leaves_nothing_even_if_it_is_interrupted_twice(
    deaf: LocalStack, number: signal.Signals
) -> None:
    with started(deaf, "up", *BARE) as up:
        wait_until(lambda: is_recorded(deaf, "ollama"))
        up.send_signal(number)
        read_until(up, "interrupted: ending what was started")
        up.send_signal(number)
        _, errors = up.communicate(timeout=60)
    assert up.returncode == 130
    assert errors == "llmendpoint up: interrupted; nothing runs\n"
    assert deaf.processes() == []
    assert read_stack(deaf.folders) is None


def test_two_signals_at_once_leave_nothing_of_a_start(deaf: LocalStack) -> None:
    with started(deaf, "up", *BARE) as up:
        wait_until(lambda: is_recorded(deaf, "ollama"))
        interrupt_twice_at_once(up)
        _, errors = up.communicate(timeout=60)
    assert (up.returncode, errors) == (130, "llmendpoint up: interrupted; nothing runs\n")
    assert deaf.processes() == []


def test_two_signals_at_once_end_what_runs_in_the_foreground(stack: LocalStack) -> None:
    with started(stack, "up", *BARE, "--foreground") as up:
        read_until(up, "llmendpoint down")
        interrupt_twice_at_once(up)
        _, errors = up.communicate(timeout=60)
    assert (up.returncode, errors) == (0, "")
    assert stack.processes() == []


@pytest.mark.parametrize("name", ["supervisor", "simulator", "sidecar"])
def test_what_an_interrupted_start_says_is_what_is_there(stack: LocalStack, name: str) -> None:
    with started(stack, "up", *BARE) as up:
        wait_until(lambda: is_recorded(stack, name), every=0.01)
        up.send_signal(signal.SIGINT)
        output, errors = up.communicate(timeout=60)
    if "nothing runs" in errors:
        assert stack.processes() == []
    else:
        assert up.returncode == 0 or "the stack runs" in errors, output + errors
        assert stack.run("status").returncode == 0


def test_interrupting_an_up_that_finds_a_stack_does_not_say_that_nothing_runs(stack: LocalStack) -> None:
    stack.up()
    # After this line, the check of its health waits for the sidecar, which hangs.
    os.kill(stack.record("sidecar").pid, signal.SIGSTOP)
    with started(stack, "up", *BARE) as up:
        read_until(up, "The stack runs already")
        up.send_signal(signal.SIGINT)
        _, errors = up.communicate(timeout=60)
    assert "interrupted; the stack runs, as `llmendpoint status` shows, and `llmendpoint down` ends it" in errors


def test_a_closed_terminal_ends_what_runs_in_the_foreground(stack: LocalStack) -> None:
    with started(stack, "up", *BARE, "--foreground") as up:
        read_until(up, "llmendpoint down")
        up.send_signal(signal.SIGHUP)
        assert up.wait(60) == 0
    assert stack.processes() == []


def test_a_second_interrupt_in_the_foreground_does_not_wait_for_requests(stack: LocalStack) -> None:
    with started(stack, "up", *BARE, "--foreground") as up:
        read_until(up, "llmendpoint down")
        with slow_stream(stack):
            up.send_signal(signal.SIGINT)
            read_until(up, "press Ctrl-C again to cut them off")
            read_until(up, "sidecar: waiting until 1 request has finished, 30 s at most")
            up.send_signal(signal.SIGINT)
            assert up.wait(20) == 130
    assert stack.processes() == []


def test_a_second_interrupt_does_not_wait_for_another_command(stack: LocalStack) -> None:
    with started(stack, "up", *BARE, "--foreground") as up:
        read_until(up, "llmendpoint down")
        held = try_lock(stack.folders.root)
        assert held is not None
        try:
            up.send_signal(signal.SIGINT)
            read_until(up, "waiting for another", up.stderr)
            up.send_signal(signal.SIGINT)
            _, errors = up.communicate(timeout=60)
        finally:
            os.close(held)
    assert (up.returncode, errors) == (130, "")
    assert stack.processes() == []


def test_an_interrupted_down_says_what_still_runs_and_how_it_is_killed(stack: LocalStack) -> None:
    stack.up()
    with slow_stream(stack):
        with started(stack, "down") as down:
            read_until(down, "sidecar: waiting until 1 request has finished, 30 s at most")
            down.send_signal(signal.SIGINT)
            _, errors = down.communicate(timeout=60)
        assert down.returncode == 130
        assert re.search(
            r"asked to end and still run: .*sidecar \(process \d+\).*`llmendpoint down --timeout 0s`", errors
        )
        assert stack.run("down", "--timeout", "0s", timeout=20).returncode == 0
    assert stack.processes() == []


def test_a_down_that_is_interrupted_while_it_waits_for_another_command_has_ended_nothing(stack: LocalStack) -> None:
    stack.up()
    held = try_lock(stack.folders.root)
    assert held is not None
    try:
        with started(stack, "down") as down:
            read_until(down, "waiting for another", down.stderr)
            down.send_signal(signal.SIGINT)
            _, errors = down.communicate(timeout=60)
    finally:
        os.close(held)
    assert down.returncode == 130
    assert re.search(r"these processes still run, and were not asked to end: .*sidecar \(process \d+\)", errors)
    assert stack.run("status").returncode == 0


def test_a_proxy_that_hangs_while_it_ends_is_killed_before_its_time_is_over(stack: LocalStack) -> None:
    stack.up()
    sidecar = stack.record("sidecar")
    with slow_stream(stack), started(stack, "down") as down:
        wait_until(lambda: stack.record("sidecar").phase is Phase.STOPPING)
        os.kill(sidecar.pid, signal.SIGSTOP)
        output, errors = down.communicate(timeout=25)
    assert down.returncode == 0, errors
    assert re.search(r"^sidecar: it has not answered for \d+ s, so it hangs, and was killed$", output, re.MULTILINE)
    assert stack.processes() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_demo_leaves_nothing(number: signal.Signals) -> None:
    mark = f"interrupted-demo-{os.getpid()}-{number}"
    environment = {**os.environ, "OLLAMA_HOST": "127.0.0.2:1", "MARK": mark}
    command = [sys.executable, "-m", "llmendpoint_cli", "demo", "--duration", "30s"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment,
                          start_new_session=True) as demo:  # fmt: skip
        read_until(demo, "metering proxy:")
        demo.send_signal(number)
        output, _ = demo.communicate(timeout=60)
    assert demo.returncode == 130
    assert "interrupted; all programs of the demo have ended" in output
    assert not [path for path in Path("/proc").glob("[0-9]*/environ") if mark.encode() in _content(path)]


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
