"""A stack of `llmendpoint up` with its own state folder, which ends with the test."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from llmendpoint_cli.stack.folders import Folders
from llmendpoint_cli.stack.identity import marked, start_ticks
from llmendpoint_cli.stack.state import ProcessRecord, read_process
from support.waiting import wait_until

#: An address at which no Ollama answers. It is not one of this machine for `up`, which would start Ollama there if it is
#: installed.
NO_OLLAMA = "127.0.0.2:1"
#: No Ollama of this machine, and no Prometheus or dashboard unless a test is about them.
BARE = ("--no-dashboard", "--no-prometheus")


class LocalStack:
    """The command line with one state folder."""

    def __init__(self, root: Path, **environment: str) -> None:
        self.folders = Folders(root)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("LLMENDPOINT_")}
        self.environment = {**kept, "LLMENDPOINT_STATE_DIR": str(root), "OLLAMA_HOST": NO_OLLAMA,
                            "NO_COLOR": "1", **environment}  # fmt: skip

    def command(self, *words: str) -> list[str]:
        """Return the command line of `llmendpoint WORDS`."""
        return [sys.executable, "-m", "llmendpoint_cli", *words]

    def run(self, *words: str, timeout: float = 90) -> subprocess.CompletedProcess[str]:
        """Run `llmendpoint WORDS` until it ends."""
        return subprocess.run(self.command(*words), check=False, capture_output=True, text=True, timeout=timeout,
                              env=self.environment)  # fmt: skip

    def up(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `llmendpoint up` without dashboard and Prometheus, and check that it succeeds."""
        done = self.run("up", *BARE, *words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def down(self) -> subprocess.CompletedProcess[str]:
        """Run `llmendpoint down`, and check that it succeeds."""
        done = self.run("down")
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def record(self, name: str) -> ProcessRecord:
        """Return the record of a process."""
        record = read_process(self.folders, name)
        assert record is not None
        return record

    def processes(self) -> list[int]:
        """Return the processes of the stack that run."""
        return [pid for pid in marked(self.folders.root) if start_ticks(pid) is not None]

    def end(self) -> None:
        """Kill what a failed test has left."""
        for _ in range(3):
            for pid in self.processes():
                with suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not self.processes())


def shown(folders: Folders, command: str) -> str:
    """Return `llmendpoint COMMAND` as findings show it: with the state folder, which is not the usual one."""
    return f"LLMENDPOINT_STATE_DIR={shlex.quote(str(folders.root))} llmendpoint {command}"


@contextmanager
def local_stack(root: Path, **environment: str) -> Iterator[LocalStack]:
    """Provide a command line with its own state folder. Nothing of it runs afterwards."""
    stack = LocalStack(root, **environment)
    try:
        yield stack
    finally:
        stack.end()


def free_ports(count: int) -> list[int]:
    """Return ports that are free now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports
