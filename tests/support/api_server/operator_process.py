"""The operator as a process, for tests on a real API server."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from support.api_server.control_plane import OPERATOR_NAMESPACE, free_port
from support.waiting import wait_until


class OperatorProcess(subprocess.Popen[bytes]):
    """The operator as a process, with the address of its /metrics and the path of its log."""

    health: str = ""
    log: Path = Path()

    def metric(self, name: str) -> float:
        """Return the value of a metric, as the sum over its labels."""
        lines = [line for line in self.page("metrics")[1].splitlines() if re.match(rf"{name}[{{ ]", line)]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    def page(self, name: str) -> tuple[int, str]:
        """Return the status and the text of a page."""
        try:
            with urllib.request.urlopen(f"{self.health}/{name}", timeout=30) as response:
                return int(response.status), response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def said(self, text: str) -> int:
        """Return the number of lines of the log that contain a text."""
        return sum(text in line for line in self._lines())

    def repeats(self, text: str) -> bool:
        """Return whether a message that contains a text was logged more than once, with exactly the same words."""
        messages = [entry["message"] for entry in self.entries() if text in entry["message"]]
        return len(set(messages)) < len(messages)

    def entries(self) -> list[dict[str, Any]]:
        """Return the lines of the log."""
        return [json.loads(line) for line in self._lines()]

    def _lines(self) -> list[str]:
        """Return the complete lines of the log. The process may be writing the last one."""
        return self.log.read_bytes().rpartition(b"\n")[0].decode().splitlines()


def run_operator(
    kubeconfig: Path,
    folder: Path,
    *flags: str,
    program: Sequence[str] = ("-m", "llmendpoint_operator"),
    **variables: str,
) -> OperatorProcess:
    """Start the operator as a process, and wait until its port answers. The caller ends it."""
    port, path = free_port(), folder / "log"
    command = [sys.executable, *program, "--own-namespace", OPERATOR_NAMESPACE,
               "--health-listen", f"127.0.0.1:{port}", *flags]  # fmt: skip
    environment = os.environ | {"KUBECONFIG": str(kubeconfig)} | variables
    with path.open("wb") as log:
        process = OperatorProcess(command, stdout=log, stderr=log, env=environment)
    process.health, process.log = f"http://127.0.0.1:{port}", path

    def answers() -> bool:
        try:
            process.page("livez")
        except OSError:
            assert process.poll() is None, path.read_text()[-3000:]
            return False
        return True

    wait_until(answers)
    return process
