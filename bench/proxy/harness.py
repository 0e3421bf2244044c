"""Functions that all benchmarks use: build programs, run them on one core, and measure their CPU time and memory."""

from __future__ import annotations

import json
import os
import platform
import select
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
#: The first of ten ports that the benchmarks use, on the loopback address.
_PORT = int(os.environ.get("BENCH_PORT", "21434"))


def address(number: int) -> str:
    """Return the address with one of the ten ports."""
    return f"127.0.0.1:{_PORT + number}"


UPSTREAM = address(0)
PROXY, ADMIN = address(6), address(7)
#: The cores of a benchmark. Two hardware threads of one core are not two cores: `BENCH_CORES=0,2` names others.
FIRST_CORE, SECOND_CORE = os.environ.get("BENCH_CORES", "0,1").split(",")
#: The proxy has its own core. The load generator and the upstream share the other core.
PROXY_CORE, LOAD_CORE = SECOND_CORE, FIRST_CORE
_SHARES = {"p99": 0.99, "p99.9": 0.999, "max": 1.0}
_TICK = 1 / os.sysconf("SC_CLK_TCK")


def build(folder: Path, *sources: Path) -> None:
    """Compile C programs: by default the upstream and the load generator of the proxy's benchmarks.

    Exits if no compiler is found.
    """
    compiler = shutil.which("cc") or sys.exit("a C compiler is required to build the benchmark's programs: install gcc")
    for source in sources or (HERE / "upstream.c", HERE / "load.c"):
        command = [compiler, "-O2", "-Wall", "-Wextra", "-std=gnu11", "-o", str(folder / source.stem), str(source)]
        subprocess.run(command, check=True)


def sidecar(*flags: str, python: str = sys.executable, upstream: str = UPSTREAM) -> list[str]:
    """Return the command that runs the metering proxy on this machine."""
    return [python, "-m", "llmendpoint_sidecar", "--listen", PROXY, "--admin-listen", ADMIN,
            "--upstream", f"http://{upstream}", "--drain-delay", "0", "--log-level", "warning", *flags]  # fmt: skip


@contextmanager
def running(command: Sequence[str], core: str, url: str) -> Iterator[int]:
    """Run a process on one core until the block ends. Yields its pid when `url` answers."""
    environment = os.environ | {"GOMAXPROCS": "1"}
    process = subprocess.Popen(["taskset", "-c", core, *command], env=environment, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                urllib.request.urlopen(url, timeout=1).close()
                # Another process may own the port.
                if process.poll() is not None:
                    raise SystemExit(f"{command[0]} ended, although {url} answers: set BENCH_PORT to other ports")
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
    """Run the upstream until the block ends. Yields its pid."""
    with running([str(folder / "upstream"), UPSTREAM], LOAD_CORE, f"http://{UPSTREAM}/api/version") as pid:
        yield pid


def load(folder: Path, address: str, *arguments: object) -> dict[str, Any]:
    """Run the load generator to its end, and return its measurements (`load.c` lists the arguments)."""
    command = ["taskset", "-c", LOAD_CORE, str(folder / "load"), address, *map(str, arguments)]
    result: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return result


def tree(pid: int) -> list[int]:
    """Return the pids of a process and its descendants (nginx serves requests in a child)."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(grandchild for child in children for grandchild in tree(int(child)))]


def cpu_seconds(pid: int) -> float:
    """Return user and system CPU time of a process and its descendants, in seconds (resolution 10 ms)."""
    return sum(own_cpu_seconds(member) for member in tree(pid))


def own_cpu_seconds(pid: int) -> float:
    """Return user and system CPU time of one process, in seconds (resolution 10 ms)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK


def megabytes(pid: int, field: str = "VmRSS") -> float:
    """Return the resident memory (`VmRSS`), or its peak (`VmHWM`), of a process and its descendants, in MB."""
    return sum(own_megabytes(member, field) for member in tree(pid))


def own_megabytes(pid: int, field: str = "VmRSS") -> float:
    """Return the resident memory, or its peak, of one process, in MB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1000


def lateness_ms(core: str, seconds: float = 5.0) -> dict[str, float]:
    """Return how late a process that only waits 2 ms is woken on a core: p99, p99.9 and the longest delay, in ms.

    Nothing that is measured on this core can be more exact.
    """
    allowed, late, waiting = os.sched_getaffinity(0), [], select.poll()
    os.sched_setaffinity(0, {int(core)})
    try:
        end = time.monotonic() + seconds
        while (before := time.monotonic()) < end:
            waiting.poll(2)
            late.append((time.monotonic() - before) * 1e3 - 2)
    finally:
        os.sched_setaffinity(0, allowed)
    late.sort()
    return {name: late[min(int(share * len(late)), len(late) - 1)] for name, share in _SHARES.items()}


def machine() -> dict[str, str]:
    """Return the properties of this machine that the figures depend on."""
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
