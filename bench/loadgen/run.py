"""Compare the load generator with its peers: how exact it is, and how much CPU time and memory it needs.

    python bench/loadgen/run.py            # all peers, 50 to 1,000 streams, three rounds (about 15 minutes)
    python bench/loadgen/run.py --quick    # 50 and 500 streams, one round (about 3 minutes)
    python bench/loadgen/run.py --peer aiperf --streams 1000 --rounds 5

The server is a C program (`server.c`) with known latency: 200 ms to the first token, then 50 chunks, 20 ms apart. It has
one core, and the load generator the other. Each run is an open loop with constant gaps, whose rate keeps the given number
of streams open. Rounds are interleaved. Prints a table; `--out` writes JSON.

The error is the reported time to first token minus the known one. The server's own error, from its ledger, stands
beside it. CPU time is that between the first and the last request, so the start of a program and its report do not
count. The delivered rate is that of the server's receive times. Values are medians over the rounds. How late each core
wakes a process that only waits is measured first: no error can be smaller.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SOURCES = ("common", "sidecar", "operator", "loadjob", "simulator", "dashboard", "cli")
sys.path.insert(0, str(HERE.parent / "proxy"))

import environments  # noqa: E402
import harness  # noqa: E402
from report import show, summary_of, verdicts  # noqa: E402
from tools import MODEL, PEERS, Load, Tool, all_tools  # noqa: E402

SERVER_CORE, CLIENT_CORE = harness.FIRST_CORE, harness.SECOND_CORE
REALTIME = ["chrt", "--fifo", "10"]
TTFT, GAP, CHUNKS = 0.2, 0.02, 50
#: How long an answer takes, and thus by how much the rate is smaller than the number of streams.
ANSWER_SECONDS = TTFT + (CHUNKS - 1) * GAP
_POLL_SECONDS = 0.2
#: Set in the environment of the process in a network namespace of its own.
_INSIDE = "BENCH_OWN_NETWORK"
#: A program that has not sent all requests by then has failed.
_LONGEST_SECONDS = 180.0


def environment() -> dict[str, str]:
    """Return the environment of our own programs, which run from this checkout."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(str(ROOT / name) for name in SOURCES)}


@contextlib.contextmanager
def server(priority: list[str]) -> Iterator[str]:
    """Run the known-latency server on its core until the block ends. Yields its URL."""
    url = f"http://{harness.UPSTREAM}"
    with tempfile.TemporaryDirectory() as folder:
        harness.build(Path(folder), HERE / "server.c")
        command = [
            *priority,
            f"{folder}/server",
            harness.UPSTREAM,
            MODEL,
            f"{1e6 * TTFT:.0f}",
            f"{1e6 * GAP:.0f}",
            str(CHUNKS),
        ]
        with harness.running(command, SERVER_CORE, f"{url}/api/version"):
            yield url


def ledger(url: str, entries: int) -> dict[str, Any]:
    """Return the ledger of the server with the last entries."""
    with urllib.request.urlopen(f"{url}/simulator/ledger?entries={entries}", timeout=60) as response:
        found: dict[str, Any] = json.load(response)
    return found


def clear(url: str) -> None:
    """Empty the ledger."""
    urllib.request.urlopen(urllib.request.Request(f"{url}/simulator/ledger", method="DELETE"), timeout=60).close()


def totals(url: str) -> tuple[int, int]:
    """Return the number of requests that the server received, and of those that ended."""
    accounts = ledger(url, 0)["accounts"].values()
    ended = sum(account["completed"] + account["cancelled"] + account["faulted"] for account in accounts)
    return sum(account["requests"] for account in accounts), ended


class Meter:
    """CPU time and memory of a process and its descendants, while requests are sent."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        #: CPU time by process. A descendant that has ended keeps its last reading.
        self._cpu: dict[int, float] = {}
        self._before: float | None = None
        self._after: float | None = None
        self.ended = 0
        self.peak_mb = 0.0

    def look(self, received: int, ended: int) -> None:
        """Take a reading. The first request begins the measurement, and the last response ends it."""
        memory = 0.0
        # A descendant may end while it is read.
        with contextlib.suppress(OSError):
            for pid in harness.tree(self._pid):
                with contextlib.suppress(OSError, StopIteration):
                    self._cpu[pid] = harness.own_cpu_seconds(pid)
                    memory += harness.own_megabytes(pid)
        self.peak_mb = max(self.peak_mb, memory)
        if not received or self._before is None:
            self._before = sum(self._cpu.values())
        if ended > self.ended:
            self.ended, self._after = ended, sum(self._cpu.values())

    @property
    def cpu_seconds(self) -> float | None:
        """CPU time in seconds, or None if no request was answered."""
        return None if self._before is None or self._after is None else self._after - self._before


def measure(tool: Tool, load: Load, streams: int, priority: list[str]) -> dict[str, Any]:
    """Run one load with one tool, and return what it reported and what the server saw."""
    url = load.url
    clear(url)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = [*priority, "taskset", "-c", CLIENT_CORE, *tool.command(load, folder)]
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(
                command, env=environment() | tool.environment, stdout=log, stderr=log, cwd=folder
            )
            # A loop that reads CPU time would delay what it measures.
            with ThreadPoolExecutor(1, initializer=run_idly) as watcher:
                meter = watcher.submit(_watch, process, url).result()
        result: dict[str, Any] = {"streams": streams, "rate": load.rate, "failed": ""}
        try:
            p50, p99 = tool.report(folder)
            result |= {"p50_error_ms": (p50 - TTFT) * 1e3, "p99_error_ms": (p99 - TTFT) * 1e3}
        except (OSError, KeyError, ValueError, TypeError) as error:
            words = (folder / "log").read_text(errors="replace").strip().splitlines()[-1:] or [""]
            result["failed"] = f"{type(error).__name__}: {words[0]}"[:200]
    result |= seen(ledger(url, 1_000_000)["entries"], load)
    cpu = meter.cpu_seconds
    result["peak_mb"] = meter.peak_mb
    result["cpu_seconds"] = cpu
    result["cpu_ms_per_request"] = None if cpu is None else 1e3 * cpu / meter.ended
    return result


def _watch(process: subprocess.Popen[bytes], url: str) -> Meter:
    """Measure a process until it ends. Ends it if it takes too long."""
    meter = Meter(process.pid)
    deadline = time.monotonic() + _LONGEST_SECONDS
    while process.poll() is None:
        meter.look(*totals(url))
        if time.monotonic() > deadline:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
        time.sleep(_POLL_SECONDS)
    return meter


def seen(entries: list[dict[str, Any]], load: Load) -> dict[str, Any]:
    """Return what the server's ledger says about a run."""
    received = sorted(entry["received_at"] for entry in entries)
    times = [entry["exactness"] for entry in entries]
    late = sorted(one["first_sent_at"] - one["first_due_at"] for one in times if one["first_sent_at"] is not None)
    gaps = [after - before for before, after in itertools.pairwise(received)]
    delivered = len(gaps) / (received[-1] - received[0]) if gaps else 0.0
    return {
        "received": len(received),
        "completed": sum(entry["outcome"] == "completed" for entry in entries),
        "delivered": delivered / load.rate,
        "gap_cv": statistics.pstdev(gaps) / statistics.fmean(gaps) if gaps else None,
        "in_flight_max": max((one["in_flight"] for one in times), default=0),
        "server_p50_ms": 1e3 * late[len(late) // 2] if late else None,
        "server_p99_ms": 1e3 * late[int(0.99 * (len(late) - 1))] if late else None,
    }


def run_idly() -> None:
    """Let this thread run only when its core has nothing else to do. It starts no programs, which would inherit that."""
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def enter_own_network() -> None:
    """Start this program again in a network namespace of its own, and set up its loopback interface there."""
    if os.environ.get(_INSIDE) is None:
        os.execvpe("unshare", ["unshare", "--net", sys.executable, *sys.argv], os.environ | {_INSIDE: "1"})
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def write(path: Path, document: dict[str, Any]) -> None:
    """Write what has been measured so far, so that a run that is stopped loses nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=6, help="seconds of load in each run")
    parser.add_argument("--streams", type=int, action="append", help="number of streams; repeatable")
    parser.add_argument("--peer", action="append", choices=PEERS, help="measure only this peer and ours; repeatable")
    parser.add_argument("--alone", action="store_true", help="measure only ours")
    parser.add_argument("--quick", action="store_true", help="one round of 4 s with 50 and 500 streams")
    parser.add_argument("--python", help="interpreter for the peers, 3.12 or newer")
    parser.add_argument("--environments", type=Path, default=ROOT / "build" / "loadgen", help="folder of the peers")
    parser.add_argument("--realtime", action="store_true", help="give server and load generators real-time priority "
                        "(chrt, needs root), for a machine that is not idle")  # fmt: skip
    parser.add_argument("--own-network", action="store_true", help="use a network namespace without the firewall rules "
                        "of this machine, such as those of Kubernetes, which take time for each packet (needs root)")  # fmt: skip
    parser.add_argument("--out", type=Path, help="write the results to this JSON file")
    options = parser.parse_args()
    if options.own_network:
        enter_own_network()
    if options.quick:
        options.rounds, options.seconds = 1, 4
    levels = options.streams or ([50, 500] if options.quick else [50, 200, 500, 1000])
    names = [] if options.alone else options.peer or list(PEERS)
    python = environments.find_python(options.python) if names else ""
    tokenizer = environments.write_tokenizer(options.environments / "tokenizer")
    tools = list(all_tools(lambda peer: environments.environment(options.environments, peer, python), tokenizer, names))
    results: dict[str, dict[str, list[dict[str, Any]]]] = {}
    priority = REALTIME if options.realtime else []
    load_before = os.getloadavg()[0]
    late = {core: harness.lateness_ms(core) for core in (SERVER_CORE, CLIENT_CORE)}
    machine = harness.machine() | {"load_average_before": f"{load_before:.1f}", "realtime": str(options.realtime)}
    machine |= {"own_network": str(options.own_network)}
    machine |= {f"woken_late_on_core_{core}": json.dumps(values) for core, values in late.items()}
    with server(priority) as url:
        for streams in levels:
            for number in range(options.rounds):
                for tool in tools:
                    print(f"{streams} streams, round {number + 1}: {tool.name}", file=sys.stderr, end="", flush=True)
                    load = Load(url, round(streams / ANSWER_SECONDS, 2), options.seconds, CHUNKS)
                    row = measure(tool, load, streams, priority)
                    print(f", {summary_of(row)}", file=sys.stderr)
                    results.setdefault(str(streams), {}).setdefault(tool.name, []).append(row)
                    if options.out:
                        write(options.out, {"machine": machine, "targets": verdicts(results), "results": results})
    for core, values in late.items():
        words = ", ".join(f"{name} {value:.1f} ms" for name, value in values.items())
        print(f"core {core}, before the load: a process that only waits is woken late by {words}")
    show(results)
    print("\ntargets")
    for one in verdicts(results):
        print(f"{'met   ' if one['met'] else 'MISSED'} {one['target']}: {one['measured']:g} (bound {one['bound']:g})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
