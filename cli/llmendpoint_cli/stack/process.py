"""Processes of the local stack. A context manager starts a process and ends it with the block."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

from llmendpoint_cli.stack.child import end_with
from llmendpoint_cli.stack.health import is_ready_itself
from llmendpoint_cli.stack.signals import deferred, uninterrupted
from llmendpoint_common.process.errors import StackError

_START_SECONDS = 40.0
_STOP_SECONDS = 5.0
#: Prefix of the variables with settings of our programs.
_VARIABLES = "LLMENDPOINT_"


@contextlib.contextmanager
def process(name: str, arguments: Sequence[str], ready_url: str) -> Iterator[None]:
    """Run `python -m NAME ARGUMENTS` until the block ends.

    Raises StackError if the process ends, or does not answer at `ready_url` with success within 40 s. Another program
    that answers there does not count. The settings of the process are the arguments only: it does not get the variables
    of our programs.
    """
    with tempfile.TemporaryFile("w+b") as output:
        command = [sys.executable, "-m", name, *arguments]
        child: subprocess.Popen[bytes] | None = None
        try:
            with deferred():
                child = _start(command, output)
            _wait_until_ready(child, ready_url, lambda: _tail(output, name))
            yield
        finally:
            if child is not None:
                _end(child)


def demo_folder() -> Path:
    """Return a new temporary folder for the results of a demo."""
    return Path(tempfile.mkdtemp(prefix="llmendpoint-"))


def _start(command: Sequence[str], output: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start a process. With its own session, Ctrl-C on the terminal does not reach it."""
    return subprocess.Popen(  # noqa: S603
        command, stdout=output, stderr=output, env=_environment(), start_new_session=True,
        preexec_fn=end_with(os.getpid()),  # noqa: PLW1509 - this process has one thread here
    )  # fmt: skip


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(_VARIABLES)}


def _wait_until_ready(child: subprocess.Popen[bytes], url: str, log: Callable[[], str]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if child.poll() is not None:
            raise StackError(f"a process ended with exit code {child.returncode}:\n{log()}")
        if is_ready_itself(child.pid, url):
            return
        time.sleep(0.05)
    raise StackError(f"{url} did not answer within {_START_SECONDS:g} s:\n{log()}")


def _tail(output: object, name: str) -> str:
    output.seek(0)  # type: ignore[attr-defined]
    text: bytes = output.read()[-2000:]  # type: ignore[attr-defined]
    return f"{name}: {text.decode(errors='replace')}"


def _end(child: subprocess.Popen[bytes]) -> None:
    # A second Ctrl-C must not leave the process running.
    with uninterrupted():
        child.terminate()
        try:
            child.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
