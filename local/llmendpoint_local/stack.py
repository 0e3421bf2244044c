"""The local stack's processes: started on free ports, ended together."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

_START_SECONDS = 20.0
_STOP_SECONDS = 5.0
_SEARCHED_PORTS = 50


class StackError(Exception):
    """A process of the stack did not come up; the message holds the end of its log."""


def free_port(wanted: int, say: Callable[[str], None]) -> int:
    """Return `wanted`, or the next free port, saying so."""
    for port in range(wanted, wanted + _SEARCHED_PORTS):
        if _is_free(port):
            if port != wanted:
                say(f"port {wanted} is taken: using {port}")
            return port
    raise StackError(f"no free port from {wanted} to {wanted + _SEARCHED_PORTS - 1}; stop what uses them")


@contextlib.contextmanager
def process(name: str, arguments: Sequence[str], ready_url: str) -> Iterator[None]:
    """Run `python -m NAME ARGUMENTS` until the block ends; StackError if `ready_url` does not answer 200 in time."""
    with tempfile.TemporaryFile("w+b") as output:
        child = subprocess.Popen([sys.executable, "-m", name, *arguments], stdout=output, stderr=output)  # noqa: S603
        try:
            _wait_until_ready(child, ready_url, lambda: _tail(output, name))
            yield
        finally:
            _end(child)


def demo_folder() -> Path:
    """Return a new folder for a demo's results."""
    return Path(tempfile.mkdtemp(prefix="llmendpoint-"))


def _is_free(port: int) -> bool:
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        try:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, port))
        except OSError:
            if family == socket.AF_INET:
                return False
    return True


def _wait_until_ready(child: subprocess.Popen[bytes], url: str, log: Callable[[], str]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if child.poll() is not None:
            raise StackError(f"a process ended with {child.returncode}:\n{log()}")
        try:
            with urllib.request.urlopen(url, timeout=1):  # noqa: S310 - loopback
                return
        except OSError:
            time.sleep(0.05)
    raise StackError(f"{url} did not answer in {_START_SECONDS:g} s:\n{log()}")


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
