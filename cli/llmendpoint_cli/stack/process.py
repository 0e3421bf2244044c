"""Processes of the local stack: a context manager starts one and ends it with the block."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from llmendpoint_common.process.errors import StackError

_START_SECONDS = 20.0
_STOP_SECONDS = 5.0


@contextlib.contextmanager
def process(name: str, arguments: Sequence[str], ready_url: str) -> Iterator[None]:
    """Run `python -m NAME ARGUMENTS` until the block ends. StackError if `ready_url` does not answer within 20 s."""
    with tempfile.TemporaryFile("w+b") as output:
        child = subprocess.Popen([sys.executable, "-m", name, *arguments], stdout=output, stderr=output)  # noqa: S603
        try:
            _wait_until_ready(child, ready_url, lambda: _tail(output, name))
            yield
        finally:
            _end(child)


def demo_folder() -> Path:
    """Return a new temporary folder for the results of a demo."""
    return Path(tempfile.mkdtemp(prefix="llmendpoint-"))


def _wait_until_ready(child: subprocess.Popen[bytes], url: str, log: Callable[[], str]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if child.poll() is not None:
            raise StackError(f"a process ended with exit code {child.returncode}:\n{log()}")
        try:
            with urllib.request.urlopen(url, timeout=1):  # noqa: S310 - loopback
                return
        except OSError:
            time.sleep(0.05)
    raise StackError(f"{url} did not answer within {_START_SECONDS:g} s:\n{log()}")


def _tail(output: object, name: str) -> str:
    output.seek(0)  # type: ignore[attr-defined]
    text: bytes = output.read()[-2000:]  # type: ignore[attr-defined]
    return f"{name}: {text.decode(errors='replace')}"


def _end(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
