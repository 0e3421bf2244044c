"""A machine for the doctor: real processes on free ports, and the state files of `llmendpoint up` that name them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from llmendpoint_cli.stack.folders import Folders
from llmendpoint_cli.stack.identity import start_ticks
from llmendpoint_cli.stack.state import (
    Kind,
    ProcessRecord,
    Program,
    SidecarAddress,
    Stack,
    write_process,
    write_stack,
)
from support.api_server.control_plane import free_port
from support.waiting import wait_until


def url(port: int) -> str:
    """Return the URL of a port of this machine."""
    return f"http://127.0.0.1:{port}"


@dataclass
class ScriptedServer:
    """A server whose answers a test scripts. `ahead` is how many seconds its clock is ahead."""

    port: int
    answers: dict[str, Any] = field(default_factory=dict)
    ahead: float = 0.0

    @property
    def url(self) -> str:
        return url(self.port)


@contextmanager
def scripted_server(answers: dict[str, Any]) -> Iterator[ScriptedServer]:
    """Serve JSON by path. Other paths do not exist."""
    script = ScriptedServer(0, answers)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = script.answers.get(self.path.partition("?")[0])
            body = json.dumps(answer).encode()
            self.send_response(404 if answer is None else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def date_time_string(self, timestamp: float | None = None) -> str:
            return formatdate((timestamp or time.time()) + script.ahead, usegmt=True)

        def log_message(self, *_: Any) -> None:
            """Write nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    script.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield script
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def fetch(address: str, body: Any = None) -> Any:
    """Send a GET or, with a body, a POST request, and return the decoded answer."""
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(address, data), timeout=30) as response:
        return json.loads(response.read())


def answers(address: str) -> bool:
    """Return whether a server answers."""
    try:
        fetch(address)
    except (OSError, ValueError):
        return False
    return True


class Machine:
    """Processes, and the stack that names them. Everything ends with the machine."""

    def __init__(self, folder: Path, exits: ExitStack) -> None:
        self.folder = folder
        self.folders = Folders(folder / "state")
        self.folders.create()
        self._exits = exits
        self.sidecars: list[SidecarAddress] = []
        self.programs: list[Program] = []
        self.prometheus_url = ""
        self.record("supervisor", Kind.SUPERVISOR, os.getpid())

    def run(self, *command: str) -> subprocess.Popen[bytes]:
        """Start a process."""
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        def end() -> None:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()

        self._exits.callback(end)
        return process

    def record(self, name: str, kind: Kind, pid: int, **fields: Any) -> None:
        """Write the record of a process."""
        fields = {"start_ticks": start_ticks(pid), "command": (), "address": "", "since": time.time(), **fields}
        write_process(self.folders, ProcessRecord(name=name, pid=pid, kind=kind, **fields))

    def sidecar(self, upstream: int, *flags: str) -> subprocess.Popen[bytes]:
        """Start a sidecar in front of a port, and add it to the stack."""
        address = self.add_sidecar(upstream)
        process = self.run(
            sys.executable, "-m", "llmendpoint_sidecar", f"--listen={address.proxy_url.removeprefix('http://')}",
            f"--admin-listen={address.admin_url.removeprefix('http://')}", f"--upstream={address.upstream_url}",
            "--drain-delay=0", *flags,
        )  # fmt: skip
        wait_until(lambda: answers(f"{address.admin_url}/status"))
        name = f"sidecar-{len(self.sidecars)}"
        self.programs.append(Program(name, Kind.SIDECAR, (), ready_url=f"{address.admin_url}/readyz"))
        self.record(name, Kind.SIDECAR, process.pid)
        return process

    def add_sidecar(self, upstream: int) -> SidecarAddress:
        """Add a sidecar to the stack that does not run."""
        address = SidecarAddress("ollama", url(free_port()), url(free_port()), url(upstream))
        self.sidecars.append(address)
        return address

    def prometheus(self, *jobs: dict[str, Any]) -> None:
        """Start Prometheus, and wait until it has scraped all targets once."""
        port, file = free_port(), self.folder / "prometheus.yml"
        configuration = {"global": {"scrape_interval": "1s"}, "scrape_configs": list(jobs)}
        # JSON is YAML.
        file.write_text(json.dumps(configuration).replace("SELF", f"127.0.0.1:{port}"))
        self.run(
            "prometheus", f"--config.file={file}", f"--storage.tsdb.path={self.folder / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{port}",
        )  # fmt: skip
        self.prometheus_url = url(port)

        def has_scraped() -> bool:
            try:
                targets = fetch(f"{self.prometheus_url}/api/v1/targets")["data"]["activeTargets"]
            except OSError:
                return False
            return len(targets) == len(jobs) and all(target["health"] != "unknown" for target in targets)

        wait_until(has_scraped, 60)

    def stack(self) -> None:
        """Write `stack.json`."""
        stack = Stack(
            "1", time.time(), {}, tuple(self.sidecars), tuple(self.programs), prometheus_url=self.prometheus_url
        )
        write_stack(self.folders, stack)

    def doctor(self, *arguments: str, files: int | None = None, **variables: str) -> tuple[int, dict[str, Any]]:
        """Run the doctor, and return its exit code and its report. `files` is the limit of open files."""
        self.stack()
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("OLLAMA_", "LLMEND"))}
        environment |= {"LLMENDPOINT_STATE_DIR": str(self.folders.root), "HOME": str(self.folder), **variables}
        limit: Sequence[str] = [] if files is None else ["prlimit", f"--nofile={files}:{files}"]
        done = subprocess.run(
            [*limit, sys.executable, "-m", "llmendpoint_cli", "doctor", "--format", "json", *arguments],
            check=False,
            capture_output=True,
            text=True,
            env=environment,
        )
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    def only(self, *arguments: str, **options: Any) -> dict[str, Any]:
        """Return the only finding of the doctor."""
        code, report = self.doctor(*arguments, **options)
        assert len(report["findings"]) == 1, report
        assert code == 1
        return dict(report["findings"][0])

    def cause(self, *arguments: str, **options: Any) -> str:
        """Return the cause of the only finding."""
        return str(self.only(*arguments, **options)["cause"])


@contextmanager
def a_machine(folder: Path) -> Iterator[Machine]:
    """A machine whose processes end with the block."""
    with ExitStack() as exits:
        yield Machine(folder, exits)


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Stop a process, so that it does not answer, until the block ends."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
