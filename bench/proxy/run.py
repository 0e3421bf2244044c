"""Measure the metering proxy beside its peers: one core for the proxy, another for load and upstream, interleaved.

    python bench/proxy/run.py            # all peers that are here, all scenarios, three rounds
    python bench/proxy/run.py --rounds 1 --scenario requests --peer nginx

Prints a table and writes JSON. Ratios are medians over rounds of (ours / peer in the same round), with their spread.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
UPSTREAM = "127.0.0.1:21434"
OURS = "llmendpoint"
PORTS = {"direct": 21434, "nginx": 21436, "haproxy": 21437, "go": 21438, "aiohttp": 21439, OURS: 21440}
ADMIN_PORT = 21441
PROXY_CORE, LOAD_CORE = "1", "0"

SCENARIOS = {
    "paced": ["--mode", "paced", "--streams", "100", "--chunks", "100", "--interval", "20ms", "--rounds", "2"],
    "requests": ["--mode", "requests", "--streams", "64", "--seconds", "4"],
    "1000-streams": ["--mode", "paced", "--streams", "1000", "--chunks", "100", "--interval", "50ms"],
    "2000-streams": ["--mode", "paced", "--streams", "2000", "--chunks", "100", "--interval", "50ms"],
}
_TICK = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Peer:
    """A proxy that can be started here."""

    name: str
    command: list[str]


def build(folder: Path) -> None:
    """Build the Go programs."""
    for name in ("upstream", "load", "relay"):
        subprocess.run(["go", "build", "-o", str(folder / name), f"./{name}"], cwd=HERE, check=True)


def peers(folder: Path) -> list[Peer]:
    """Return the proxies that are present, ours last."""
    found = [Peer("direct", [])]
    for name, template in (("nginx", "nginx.conf"), ("haproxy", "haproxy.cfg")):
        binary = shutil.which(name)
        if binary is None:
            print(f"!! {name} is not installed: left out", file=sys.stderr)
            continue
        text = (HERE / template).read_text().replace("FOLDER", str(folder)).replace("UPSTREAM", UPSTREAM)
        path = folder / template
        path.write_text(text.replace("LISTEN", f"127.0.0.1:{PORTS[name]}"))
        arguments = ["-e", "stderr", "-c", str(path)] if name == "nginx" else ["-f", str(path)]
        found.append(Peer(name, [binary, *arguments]))
    found.append(
        Peer("go", [str(folder / "relay"), "-listen", f"127.0.0.1:{PORTS['go']}", "-upstream", f"http://{UPSTREAM}"])
    )
    found.append(
        Peer("aiohttp", [sys.executable, str(HERE / "plain_aiohttp.py"), str(PORTS["aiohttp"]), f"http://{UPSTREAM}"])
    )
    ours = ["-m", "llmendpoint_sidecar", "--listen", f"127.0.0.1:{PORTS[OURS]}", "--upstream", f"http://{UPSTREAM}",
            "--admin-listen", f"127.0.0.1:{ADMIN_PORT}", "--drain-delay", "0", "--log-level", "warning"]  # fmt: skip
    found.append(Peer(OURS, [sys.executable, *ours]))
    return found


@contextmanager
def running(command: list[str], core: str, url: str) -> Iterator[int]:
    """Run a pinned process until the block ends; yields its pid."""
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


def tree(pid: int) -> list[int]:
    """Return a process and its children (nginx works in one)."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(grandchild for child in children for grandchild in tree(int(child)))]


def cpu_seconds(pid: int) -> float:
    total = 0
    for member in tree(pid):
        fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total * _TICK


def resident_megabytes(pid: int) -> float:
    pages = sum(int(Path(f"/proc/{member}/statm").read_text().split()[1]) for member in tree(pid))
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def tokens_counted() -> int:
    """Return what our meter counted."""
    text = urllib.request.urlopen(f"http://127.0.0.1:{ADMIN_PORT}/metrics", timeout=5).read().decode()
    lines = [line for line in text.splitlines() if line.startswith("llmendpoint_generation_tokens_total{")]
    return int(sum(float(line.rpartition(" ")[2]) for line in lines))


def measure(peer: Peer, scenario: str, folder: Path) -> dict[str, Any]:
    """Run one scenario through one proxy."""
    url = f"http://127.0.0.1:{PORTS[peer.name]}"
    with ExitStack() as stack:
        pid = stack.enter_context(running(peer.command, PROXY_CORE, f"{url}/api/version")) if peer.command else 0
        before = cpu_seconds(pid) if pid else 0.0
        tokens = tokens_counted() if peer.name == OURS else 0
        command = ["taskset", "-c", LOAD_CORE, str(folder / "load"), "--url", url, *SCENARIOS[scenario]]
        environment = os.environ | {"GOMAXPROCS": "1"}
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
        result: dict[str, Any] = json.loads(done.stdout)
        result["cpu_seconds"] = cpu_seconds(pid) - before if pid else 0.0
        result["resident_mb"] = resident_megabytes(pid) if pid else 0.0
        if peer.name == OURS:
            time.sleep(0.2)
            expected = result["chunks"] or result["requests"]
            result["tokens_exact"] = tokens_counted() - tokens == expected
    result["cpu_percent"] = 100 * result["cpu_seconds"] / result["seconds"]
    result["cpu_us_per_chunk"] = 1e6 * result["cpu_seconds"] / result["chunks"] if result["chunks"] else None
    result["cpu_us_per_request"] = 1e6 * result["cpu_seconds"] / result["requests"] if result["requests"] else None
    return result


def median(rows: list[dict[str, Any]], field: str) -> float:
    return statistics.median(row[field] for row in rows)


def ratio(results: dict[str, list[dict[str, Any]]], peer: str, field: str) -> str:
    """Return ours / peer, round by round: median and spread."""
    if peer not in results:
        return "-"
    ratios = [
        mine[field] / other[field] for mine, other in zip(results[OURS], results[peer], strict=True) if other[field]
    ]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})" if ratios else "-"


def show(scenario: str, results: dict[str, list[dict[str, Any]]]) -> None:
    """Print one table."""
    field = "cpu_us_per_request" if scenario == "requests" else "cpu_us_per_chunk"
    print(
        f"\n{scenario}: CPU µs per {'request' if scenario == 'requests' else 'chunk'}, medians of {len(results[OURS])}"
    )
    print(
        f"{'proxy':12} {'CPU µs':>8} {'CPU %':>6} {'TTFT p50':>9} {'p99':>8} {'lag p99':>8} {'MB':>6} {'errors':>6}  ours/this"
    )
    for name, rows in results.items():
        errors = sum(row["errors"] for row in rows)
        shown = "" if name in (OURS, "direct") else ratio(results, name, field)
        print(f"{name:12} {median(rows, field):8.1f} {median(rows, 'cpu_percent'):6.1f} {median(rows, 'ttft_p50_ms'):9.2f} "
              f"{median(rows, 'ttft_p99_ms'):8.2f} {median(rows, 'lag_p99_ms'):8.2f} {median(rows, 'resident_mb'):6.1f} {errors:6d}  {shown}")  # fmt: skip
    exact = all(row["tokens_exact"] for row in results[OURS])
    print(f"tokens of {OURS}: {'exact' if exact else 'NOT EXACT'}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scenario", action="append", choices=SCENARIOS, help="only this one; repeatable")
    parser.add_argument("--peer", action="append", choices=PORTS, help="only this peer beside ours; repeatable")
    parser.add_argument("--out", type=Path, help="JSON file")
    options = parser.parse_args()
    everything: dict[str, Any] = {
        "machine": platform.processor() or platform.machine(),
        "python": platform.python_version(),
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build(folder)
        wanted = [p for p in peers(folder) if not options.peer or p.name in (*options.peer, OURS)]
        with running([str(folder / "upstream")], LOAD_CORE, f"http://{UPSTREAM}/api/version"):
            for scenario in options.scenario or SCENARIOS:
                results: dict[str, list[dict[str, Any]]] = {peer.name: [] for peer in wanted}
                for round_ in range(options.rounds):
                    for peer in wanted:
                        print(f"round {round_ + 1}: {scenario} through {peer.name}", file=sys.stderr)
                        results[peer.name].append(measure(peer, scenario, folder))
                show(scenario, results)
                everything[scenario] = results
    if options.out:
        options.out.write_text(json.dumps(everything, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
