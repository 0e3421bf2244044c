"""The processes of an endpoint's pod on a loopback address, for tests in which no kubelet runs pods."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def pod_processes(folder: Path, address: str, *simulator_flags: str) -> Iterator[str]:
    """Run a sidecar that declares tiny:latest, and a simulated Ollama, on the ports of a pod. Yields the address."""
    config = folder / "models.json"
    config.write_text('{"models": [{"name": "tiny:latest"}]}')
    commands = [
        ["llmendpoint_simulator", f"--listen={address}:11434", "--model=other:1b", *simulator_flags],
        ["llmendpoint_sidecar", f"--listen={address}:11435", f"--admin-listen={address}:8001",
         f"--upstream=http://{address}:11434", f"--config={config}", "--drain-delay=0"],
    ]  # fmt: skip
    processes = [subprocess.Popen([sys.executable, "-m", *command]) for command in commands]
    try:
        yield address
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait(20)
