"""The operators that are measured: how they are started, and when they are settled."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from harness import cpu_seconds, megabytes

from support.api_server.control_plane import OPERATOR_NAMESPACE, OPERATOR_USER, free_port

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
OURS, PEER = "llmendpoint", "controller-runtime"
_SOURCES = ("common", "operator")
#: An operator is settled when its CPU usage stays below this share of a core for this number of seconds. The time is
#: that at which this period begins.
_QUIET_SHARE, _QUIET_SECONDS, _SAMPLE_SECONDS = 0.1, 3.0, 0.1

_RBAC = "rbac.authorization.k8s.io"
#: What the peer may do in addition to the rules of our operator, whose user it has.
PEER_RULES = (
    {
        "apiVersion": f"{_RBAC}/v1", "kind": "ClusterRole", "metadata": {"name": "bench-peer"},
        "rules": [
            {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["*"]},
            {"apiGroups": ["", "events.k8s.io"], "resources": ["events"], "verbs": ["*"]},
            {"apiGroups": ["llmendpoint.dev"], "resources": ["llmendpoints/status"], "verbs": ["*"]},
        ],
    },
    {
        "apiVersion": f"{_RBAC}/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "bench-peer"},
        "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": "bench-peer"},
        "subjects": [{"apiGroup": _RBAC, "kind": "User", "name": OPERATOR_USER}],
    },
)  # fmt: skip


@dataclass(frozen=True)
class System:
    """An operator: its command, and the path that answers when it is ready."""

    name: str
    command: tuple[str, ...]
    ready_path: str
    elects: bool


def ours(python: str = sys.executable) -> System:
    """Return our operator, from the sources beside this file. With leader election if it has it."""
    command = (python, "-m", "llmendpoint_operator")
    text = subprocess.run([*command, "--help"], check=True, capture_output=True, text=True, env=_environment()).stdout
    elects = "--leader-election" in text
    flags = ("--leader-election",) if elects else ()
    ready = "/readyz" if "/readyz" in text else "/livez"
    return System(OURS, (*command, "--log-level", "warning", *flags), ready, elects)


def peer(folder: Path) -> System | None:
    """Build the operator with controller-runtime, and return it. None if Go is not installed."""
    if shutil.which("go") is None:
        print("!! go is not installed: the peer is skipped", file=sys.stderr)
        return None
    binary = str(folder / "peer")
    subprocess.run(["go", "build", "-o", binary, "."], cwd=HERE / "peer", check=True)
    return System(PEER, (binary, "--leader-election"), "/readyz", elects=True)


class Running:
    """A running operator. `name` is the name of its pod, for leader election."""

    def __init__(self, system: System, kubeconfig: Path, log: Path, name: str) -> None:
        self.system = system
        port = free_port()
        self._address = f"http://127.0.0.1:{port}"
        self._log = log
        command = [*system.command, "--own-namespace", OPERATOR_NAMESPACE, "--health-listen", f"127.0.0.1:{port}"]
        environment = _environment() | {"KUBECONFIG": str(kubeconfig), "POD_NAME": name, "POD_ID": name}
        with log.open("ab") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
        self.started = time.monotonic()

    @property
    def cpu(self) -> float:
        """CPU time so far, in seconds."""
        return cpu_seconds(self._process.pid)

    def memory(self) -> dict[str, float]:
        """Return the resident memory and its peak so far, in MB."""
        return {"rss_mb": megabytes(self._process.pid), "peak_mb": megabytes(self._process.pid, "VmHWM")}

    def wait_until_ready(self, seconds: float = 60.0) -> float:
        """Wait until the operator is ready. Return the seconds since its start."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(self._address + self.system.ready_path, timeout=2).close()
            except OSError:
                self._check()
                time.sleep(0.05)
            else:
                return time.monotonic() - self.started
        raise SystemExit(f"{self.system.name} is not ready after {seconds:g} s: {self._log.read_text()[-2000:]}")

    def wait_until_settled(self, seconds: float = 300.0) -> float:
        """Wait until the operator has nothing to do, and return the time (monotonic) from which on this is so.

        The criterion is its CPU time, because it is the same for every operator.
        """
        samples = deque([(time.monotonic(), self.cpu)])
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            time.sleep(_SAMPLE_SECONDS)
            self._check()
            samples.append((time.monotonic(), self.cpu))
            while samples[-1][0] - samples[0][0] >= _QUIET_SECONDS:
                begin, used = samples.popleft()
                if samples[-1][1] - used <= _QUIET_SHARE * (samples[-1][0] - begin):
                    return begin
        raise SystemExit(f"{self.system.name} is not settled after {seconds:g} s")

    def stop(self) -> float:
        """Stop the operator as kubelet does. Return the seconds until it has ended."""
        begin = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(30)
        return time.monotonic() - begin

    def kill(self) -> None:
        """End the operator without a chance to react."""
        self._process.kill()
        self._process.wait(10)

    def end(self) -> None:
        """End the operator if it still runs."""
        if self._process.poll() is None:
            self.kill()

    def _check(self) -> None:
        if self._process.poll() is not None:
            raise SystemExit(f"{self.system.name} has ended: {self._log.read_text()[-2000:]}")


def cpu_of(pids: Iterable[int]) -> float:
    """Return the CPU time of processes so far, in seconds."""
    return sum(map(cpu_seconds, pids))


def _environment() -> dict[str, str]:
    path = os.pathsep.join(str(ROOT / name) for name in _SOURCES)
    return os.environ | {"PYTHONPATH": path}
