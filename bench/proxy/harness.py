"""What the benchmarks share: programs are built, pinned to a core, awaited and measured from outside."""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
UPSTREAM = "127.0.0.1:21434"
PROXY, ADMIN = "127.0.0.1:21440", "127.0.0.1:21441"
#: The proxy has a core of its own; load and upstream share the other.
PROXY_CORE, LOAD_CORE = "1", "0"
_TICK = 1 / os.sysconf("SC_CLK_TCK")


def build(folder: Path) -> None:
    """Compile the benchmark's server and load; ends the process where there is no compiler."""
    compiler = shutil.which("cc") or sys.exit("the benchmark's server and load are C: install a compiler (gcc)")
    for name in ("upstream", "load"):
        command = [compiler, "-O2", "-Wall", "-Wextra", "-std=gnu11", "-o", str(folder / name), str(HERE / f"{name}.c")]
        subprocess.run(command, check=True)


def sidecar(*flags: str, python: str = sys.executable, upstream: str = UPSTREAM) -> list[str]:
    """Return the command of the metering proxy, as it is run on one machine."""
    return [python, "-m", "llmendpoint_sidecar", "--listen", PROXY, "--admin-listen", ADMIN,
            "--upstream", f"http://{upstream}", "--drain-delay", "0", "--log-level", "warning", *flags]  # fmt: skip


@contextmanager
def running(command: Sequence[str], core: str, url: str) -> Iterator[int]:
    """Run a pinned process until the block ends; yields its pid once `url` answers."""
    environment = os.environ | {"GOMAXPROCS": "1"}
    process = subprocess.Popen(["taskset", "-c", core, *command], env=environment, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                urllib.request.urlopen(url, timeout=1).close()
                break
            except OSError:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise SystemExit(f"{command[0]} did not answer at {url}") from None
                time.sleep(0.05)
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()


@contextmanager
def upstream(folder: Path) -> Iterator[int]:
    """Run the benchmark's server."""
    with running([str(folder / "upstream"), UPSTREAM], LOAD_CORE, f"http://{UPSTREAM}/api/version") as pid:
        yield pid


def load(folder: Path, address: str, *arguments: object) -> dict[str, Any]:
    """Run the load to its end and return what it measured (`load.c` lists the arguments)."""
    command = ["taskset", "-c", LOAD_CORE, str(folder / "load"), address, *map(str, arguments)]
    result: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return result


def tree(pid: int) -> list[int]:
    """Return a process and its children (nginx works in one)."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(grandchild for child in children for grandchild in tree(int(child)))]


def cpu_seconds(pid: int) -> float:
    """Return user and system time of a process and its children (10 ms ticks)."""
    total = 0
    for member in tree(pid):
        fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total * _TICK


def megabytes(pid: int, field: str = "VmRSS") -> float:
    """Return resident memory (`VmRSS`) or its peak (`VmHWM`) of a process and its children, in MB."""
    total = 0
    for member in tree(pid):
        lines = Path(f"/proc/{member}/status").read_text().splitlines()
        total += next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))
    return total / 1000


def machine() -> dict[str, str]:
    """Return what a reader of the figures wants to know of this machine."""
    cpu = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    return {
        "cpu": f"{len(cpu)} x {cpu[0] if cpu else platform.machine()}",
        "kernel": platform.release(),
        "python": platform.python_version(),
    }
