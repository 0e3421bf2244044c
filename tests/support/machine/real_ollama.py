"""A real Ollama for tests: the program in `LLMENDPOINT_TEST_OLLAMA`, or `ollama` on the PATH.

It runs on a free loopback port with its own home and its own models, so it neither reads nor changes the user's.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from support.machine.scripted_model import TEMPLATE, digest_of, scripted_model
from support.waiting import wait_until

VARIABLE = "LLMENDPOINT_TEST_OLLAMA"
MODEL = "scripted"

#: Slots of the model. Ollama 0.17.4 loses a slot until it restarts if a client leaves a stream while the next chunk is on
#: its way (`ch <- res` in ChatHandler, server/routes.go, blocks forever). A run of the client tests loses up to about
#: ten slots of this fast model.
_SLOTS = 64


class RealOllama(NamedTuple):
    """A running Ollama that has the scripted model, and its program."""

    port: int
    program: str

    @property
    def url(self) -> str:
        """Base URL."""
        return f"http://127.0.0.1:{self.port}"


def ollama_program() -> str:
    """Return the program. Without one the test is skipped, and fails if `CI` is set."""
    program = os.environ.get(VARIABLE) or shutil.which("ollama")
    if program and Path(program).is_file():
        return program
    needs_ollama = f"needs Ollama: set {VARIABLE} to its program, or put `ollama` on the PATH"
    if os.environ.get("CI"):
        pytest.fail(needs_ollama)
    pytest.skip(needs_ollama)


@contextlib.contextmanager
def running_ollama(folder: Path, **variables: str) -> Iterator[RealOllama]:
    """Run Ollama with the scripted model, and stop it at the end. Its log is in the folder.

    `variables` are additional environment variables. They take precedence, except OLLAMA_HOST.
    """
    program = ollama_program()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "OLLAMA_MODELS": str(folder / "models"),
        "OLLAMA_NUM_PARALLEL": str(_SLOTS),
        "OLLAMA_KEEP_ALIVE": "30m",
        **variables,
        "OLLAMA_HOST": f"127.0.0.1:{port}",
    }
    log = folder / "ollama.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [program, "serve"], env=environment, stdout=output, stderr=output, start_new_session=True
        )
    try:
        wait_until(lambda: _answers(port) or process.poll() is not None, 60)
        assert process.poll() is None, log.read_text()
        _create(port)
        yield RealOllama(port, program)
    finally:
        # The processes that run models are in the same group.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _answers(port: int) -> bool:
    try:
        return bool(_send(port, "GET", "/api/version", None))
    except OSError:
        return False


def _create(port: int) -> None:
    model = scripted_model()
    digest = digest_of(model)
    _send(port, "POST", f"/api/blobs/{digest}", model)
    # More threads than free cores wait for each other.
    parameters = {"num_thread": 1}
    files = {"model.gguf": digest}
    body = {"model": MODEL, "files": files, "template": TEMPLATE, "parameters": parameters, "stream": False}
    assert b"success" in _send(port, "POST", "/api/create", msgspec.json.encode(body))


def _send(port: int, method: str, path: str, data: bytes | None) -> bytes:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, method=method)
    with urllib.request.urlopen(request, timeout=30) as response:
        return bytes(response.read())
