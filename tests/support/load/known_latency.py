"""A known-latency server in a process of its own, so that the client of a test does not make it late."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from support.waiting import wait_until

_STARTED = "with known latency"


@dataclass(frozen=True)
class KnownLatencyProcess:
    """A server that runs. `entries` are those of the ledger, as JSON, in the order of arrival."""

    url: str
    pid: int

    def stop(self) -> None:
        """Stop the process, so that it answers nothing and its connections stay open."""
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Let a process that was stopped go on."""
        os.kill(self.pid, signal.SIGCONT)

    @property
    def entries(self) -> list[dict[str, Any]]:
        """The requests that the server received."""
        with urllib.request.urlopen(f"{self.url}/simulator/ledger?entries=1000000", timeout=30) as response:
            entries: list[dict[str, Any]] = json.load(response)["entries"]
        return entries

    def behave(self, **changes: object) -> None:
        """Change fields of the behaviour."""
        self._send("PUT", "behaviour", json.dumps(changes).encode())

    def clear(self) -> None:
        """Empty the ledger, and begin the random times again."""
        self._send("DELETE", "ledger", None)

    def _send(self, method: str, name: str, body: bytes | None) -> None:
        request = urllib.request.Request(f"{self.url}/simulator/{name}", body, method=method)
        urllib.request.urlopen(request, timeout=30).close()


@contextmanager
def known_latency_process(*flags: str) -> Iterator[KnownLatencyProcess]:
    """Run a server with flags such as `--ttft=50ms` on a free port until the block ends."""
    command = [sys.executable, "-m", "llmendpoint_simulator", "--known-latency", "--listen=127.0.0.1:0",
               "--parallel=100000", *flags]  # fmt: skip
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    )
    try:
        assert process.stderr is not None
        line = wait_until(process.stderr.readline)
        assert _STARTED in line, line
        port = json.loads(line)["message"].partition(" port ")[2].partition(" ")[0]
        yield KnownLatencyProcess(f"http://127.0.0.1:{port}", process.pid)
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        process.wait(10)
        if process.stderr is not None:
            process.stderr.close()
