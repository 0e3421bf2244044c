"""Simulator, sidecar and dashboard as programs on free ports, as `llmendpoint up` starts them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.api_server.control_plane import free_port
from support.waiting import wait_until

MODEL = "simulated:latest"


@dataclass
class Stack:
    """The running programs. `restart_dashboard` starts it again on the same port."""

    folder: Path
    simulator: int = field(default_factory=free_port)
    proxy: int = field(default_factory=free_port)
    admin: int = field(default_factory=free_port)
    dashboard: int = field(default_factory=free_port)
    _processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """The address of the dashboard."""
        return f"http://127.0.0.1:{self.dashboard}/"

    def start(self) -> None:
        """Start all programs and wait until they answer."""
        self._start("simulator", "llmendpoint_simulator", "--listen", f"127.0.0.1:{self.simulator}", "--ttft", "30ms",
                    "--inter-token", "2ms", "--tokens", "20", "--parallel", "4")  # fmt: skip
        self._start("sidecar", "llmendpoint_sidecar", "--listen", f"127.0.0.1:{self.proxy}", "--upstream",
                    f"http://127.0.0.1:{self.simulator}", "--admin-listen", f"127.0.0.1:{self.admin}",
                    "--parallel", "4")  # fmt: skip
        _await_answer(f"http://127.0.0.1:{self.simulator}/api/version")
        _await_answer(f"http://127.0.0.1:{self.admin}/status")
        self.start_dashboard()

    def start_dashboard(self, *arguments: str) -> None:
        """Start the dashboard, with more arguments, and wait until it answers."""
        runs = self.folder / "runs"
        runs.mkdir(exist_ok=True)
        self._start("dashboard", "llmendpoint_dashboard", "--listen", f"127.0.0.1:{self.dashboard}", "--sidecar",
                    f"ollama=http://127.0.0.1:{self.admin}", "--simulated", "ollama", "--runs", str(runs), "--load-url",
                    f"ollama=http://127.0.0.1:{self.proxy}", *arguments)  # fmt: skip
        _await_answer(f"{self.url}livez")

    def stop_dashboard(self) -> None:
        """Kill the dashboard, as a crash would."""
        self._kill("dashboard")

    def stop(self) -> None:
        """Stop all programs."""
        for name in list(self._processes):
            self._kill(name)

    def chat(self, **fields: Any) -> dict[str, Any]:
        """Send a request through the proxy, and return the last line of the response."""
        return self._post(f"http://127.0.0.1:{self.proxy}/api/chat",
                          {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], **fields})  # fmt: skip

    def behave(self, **changes: Any) -> None:
        """Change fields of the simulator's behaviour."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.simulator}/simulator/behaviour", method="PUT",
                                         data=json.dumps(changes).encode())  # fmt: skip
        urllib.request.urlopen(request, timeout=30).close()

    def ledger(self) -> dict[str, int]:
        """Return the sums of all accounts of the simulator."""
        accounts = _get(f"http://127.0.0.1:{self.simulator}/simulator/ledger")["accounts"].values()
        return {name: sum(account[name] for account in accounts) for name in
                ("requests", "completed", "prompt_tokens", "generation_tokens")}  # fmt: skip

    def _post(self, url: str, body: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(
            url, data=json.dumps(body).encode(), headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            last: dict[str, Any] = json.loads(response.read().splitlines()[-1])
        return last

    def _start(self, name: str, module: str, *arguments: str) -> None:
        log = (self.folder / f"{name}.log").open("ab")
        self._processes[name] = subprocess.Popen(
            [sys.executable, "-m", module, *arguments], stdout=log, stderr=log,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
        log.close()

    def _kill(self, name: str) -> None:
        process = self._processes.pop(name, None)
        if process is not None:
            process.kill()
            process.wait()


@contextmanager
def running_stack(folder: Path) -> Iterator[Stack]:
    """Run simulator, sidecar and dashboard. Their logs are in the folder."""
    stack = Stack(folder)
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()


def _await_answer(url: str) -> None:
    def answers() -> bool:
        try:
            with urllib.request.urlopen(url, timeout=30):
                return True
        except OSError:
            return False

    assert wait_until(answers), f"{url} does not answer"


def _get(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url, timeout=30) as response:
        answer: dict[str, Any] = json.load(response)
    return answer
