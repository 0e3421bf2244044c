"""Compare the metering proxy with its peers, which are other proxies.

    python bench/proxy/run.py            # all installed peers, all scenarios, three rounds
    python bench/proxy/run.py --rounds 1 --scenario requests --peer nginx

The proxy has one core, and load generator and upstream share another. Each round measures all proxies in turn. Prints a
table per scenario; `--out` writes JSON. A ratio is the median over rounds of our value divided by the peer's value in
the same round, with the smallest and largest ratio.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import harness
from harness import ADMIN, HERE, PROXY, PROXY_CORE, UPSTREAM

OURS = "llmendpoint"
#: Go's default transport keeps two idle connections per host (`go-default`). `go` keeps one for each client.
ADDRESSES = {
    "direct": UPSTREAM,
    "nginx": "127.0.0.1:21436",
    "haproxy": "127.0.0.1:21437",
    "go": "127.0.0.1:21438",
    "go-default": "127.0.0.1:21442",
    "aiohttp": "127.0.0.1:21439",
    "uvloop-relay": "127.0.0.1:21443",
    OURS: PROXY,
}

SCENARIOS = {
    "paced": ("paced", 100, 100, 20_000, 3),
    "requests": ("requests", 64, 4, 3000),
    "flood": ("requests", 64, 4, 0),
    "1000-streams": ("paced", 1000, 100, 50_000, 2),
    "2000-streams": ("paced", 2000, 100, 50_000, 2),
}
#: Upper bounds of the CPU time of our proxy divided by that of a peer, per chunk and per request.
TARGETS = {"chunk": {"nginx": 1.4, "go": 0.85}, "request": {"nginx": 1.5, "go": 0.3, "go-default": 0.3}}


@dataclass(frozen=True)
class Peer:
    """A proxy that is installed. An empty command means a direct connection to the upstream."""

    name: str
    command: list[str]


def configured(folder: Path, name: str, template: str, arguments: list[str]) -> list[Peer]:
    """Write the configuration of a proxy from a Debian package, and return the proxy. Empty if it is not installed."""
    binary = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    if binary is None:
        print(f"!! {name} is not installed: skipped", file=sys.stderr)
        return []
    text = (HERE / template).read_text().replace("FOLDER", str(folder)).replace("UPSTREAM", UPSTREAM)
    (folder / template).write_text(text.replace("LISTEN", ADDRESSES[name]))
    return [Peer(name, [binary, *arguments, str(folder / template)])]


def go_peers(folder: Path) -> list[Peer]:
    """Build Go's reverse proxy, and return it in two variants. Empty if Go is not installed."""
    if shutil.which("go") is None:
        print("!! go is not installed: skipped", file=sys.stderr)
        return []
    relay = str(folder / "relay")
    subprocess.run(["go", "build", "-o", relay, "./relay"], cwd=HERE, check=True)
    return [
        Peer(name, [relay, "-listen", ADDRESSES[name], "-upstream", f"http://{UPSTREAM}", "-idle", idle])
        for name, idle in (("go", "4096"), ("go-default", "2"))
    ]


def peers(folder: Path, python: str) -> list[Peer]:
    """Return the installed proxies, ours last."""

    def script(name: str, file: str, upstream: str) -> Peer:
        return Peer(name, [python, str(HERE / file), ADDRESSES[name].rpartition(":")[2], upstream])

    return [
        Peer("direct", []),
        *configured(folder, "nginx", "nginx.conf", ["-e", "stderr", "-c"]),
        *configured(folder, "haproxy", "haproxy.cfg", ["-f"]),
        *go_peers(folder),
        script("aiohttp", "plain_aiohttp.py", f"http://{UPSTREAM}"),
        script("uvloop-relay", "uvloop_relay.py", UPSTREAM),
        Peer(OURS, harness.sidecar(python=python)),
    ]


def tokens_counted() -> int:
    """Return the number of generated tokens that our meter has counted."""
    text = urllib.request.urlopen(f"http://{ADMIN}/metrics", timeout=5).read().decode()
    lines = [line for line in text.splitlines() if line.startswith("llmendpoint_generation_tokens_total{")]
    return int(sum(float(line.rpartition(" ")[2]) for line in lines))


def measure(peer: Peer, scenario: str, folder: Path) -> dict[str, Any]:
    """Run one scenario through one proxy."""
    address = ADDRESSES[peer.name]
    with ExitStack() as stack:
        pid = 0
        if peer.command:
            pid = stack.enter_context(harness.running(peer.command, PROXY_CORE, f"http://{address}/api/version"))
        before = harness.cpu_seconds(pid) if pid else 0.0
        tokens = tokens_counted() if peer.name == OURS else 0
        result = harness.load(folder, address, *SCENARIOS[scenario])
        result["cpu_seconds"] = harness.cpu_seconds(pid) - before if pid else 0.0
        result["resident_mb"] = harness.megabytes(pid) if pid else 0.0
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


def ratio(results: dict[str, list[dict[str, Any]]], peer: str, field: str) -> tuple[float, float, float] | None:
    """Return the ratio of our value to the peer's value in the same round: median, smallest and largest."""
    ratios = [
        mine[field] / other[field] for mine, other in zip(results[OURS], results[peer], strict=True) if other[field]
    ]
    return (statistics.median(ratios), min(ratios), max(ratios)) if ratios else None


def added(results: dict[str, list[dict[str, Any]]], name: str, field: str) -> float | None:
    """Return the time that a proxy adds to that of a direct connection in the same round: the median, in ms."""
    if "direct" not in results or name == "direct":
        return None
    pairs = zip(results[name], results["direct"], strict=True)
    return statistics.median(row[field] - bare[field] for row, bare in pairs)


def verdicts(everything: dict[str, Any]) -> list[dict[str, Any]]:
    """Return each target that was measured: its bound, the measured value, and whether it is met."""
    found: list[dict[str, Any]] = []

    def judge(target: str, bound: float, measured: float | None) -> None:
        if measured is not None:
            found.append({"target": target, "bound": bound, "measured": round(measured, 3), "met": measured <= bound})

    for scenario, results in everything.items():
        unit = "chunk" if SCENARIOS[scenario][0] == "paced" else "request"
        for peer, bound in TARGETS[unit].items():
            if peer in results and (one := ratio(results, peer, f"cpu_us_per_{unit}")):
                judge(f"{scenario}: CPU per {unit} / {peer}", bound, one[0])
        if unit == "request":
            continue
        ours, nginx = (
            added(results, OURS, "ttft_p50_ms"),
            added(results, "nginx", "ttft_p50_ms") if "nginx" in results else None,
        )
        judge(f"{scenario}: added TTFT p50 / nginx", 1.5, ours / nginx if ours and nginx and nginx > 0 else None)
        if scenario == "1000-streams":
            judge("1000-streams: chunk lag p99, ms", 10.0, median(results[OURS], "lag_p99_ms"))
            judge("1000-streams: resident, MB", 64.0, median(results[OURS], "resident_mb"))
        if scenario == "2000-streams" and "go" in results:
            judge(
                "2000-streams: chunk lag p99 / go",
                1.0,
                median(results[OURS], "lag_p99_ms") / median(results["go"], "lag_p99_ms"),
            )
    return found


def show(scenario: str, results: dict[str, list[dict[str, Any]]]) -> None:
    """Print one table. `added` is the time that the proxy adds to that of a direct connection in the same round."""
    unit = "chunk" if SCENARIOS[scenario][0] == "paced" else "request"
    field, first = (f"cpu_us_per_{unit}", "ttft" if unit == "chunk" else "latency")
    print(f"\n{scenario}: CPU µs per {unit}, medians of {len(results[OURS])} rounds; times in ms")
    print(f"{'proxy':13} {'CPU µs':>7} {'CPU %':>6} {first + ' p50':>12} {'p99':>7} {'added p50':>10} {'lag p50':>8} {'p99':>7} {'MB':>6} {'errors':>6}  ours/this")  # fmt: skip
    for name, rows in results.items():
        errors = sum(row["errors"] for row in rows)
        one = None if name in (OURS, "direct") else ratio(results, name, field)
        shown = "" if one is None else "{:.2f} ({:.2f} to {:.2f})".format(*one)
        more = added(results, name, f"{first}_p50_ms")
        print(f"{name:13} {median(rows, field):7.1f} {median(rows, 'cpu_percent'):6.1f} {median(rows, f'{first}_p50_ms'):12.2f} "
              f"{median(rows, f'{first}_p99_ms'):7.2f} {'' if more is None else format(more, '.2f'):>10} {median(rows, 'lag_p50_ms'):8.2f} {median(rows, 'lag_p99_ms'):7.2f} "
              f"{median(rows, 'resident_mb'):6.1f} {errors:6d}  {shown}")  # fmt: skip
    exact = all(row["tokens_exact"] for row in results[OURS])
    print(f"tokens of {OURS}: {'exact' if exact else 'NOT EXACT'}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scenario", action="append", choices=SCENARIOS, help="run only this scenario; repeatable")
    parser.add_argument(
        "--peer", action="append", choices=ADDRESSES, help="measure only this peer and our proxy; repeatable"
    )
    parser.add_argument("--python", default=sys.executable, help="interpreter for the Python proxies")
    parser.add_argument("--out", type=Path, help="write the results to this JSON file")
    options = parser.parse_args()
    everything: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        harness.build(folder)
        wanted = [p for p in peers(folder, options.python) if not options.peer or p.name in (*options.peer, OURS)]
        with harness.upstream(folder):
            for scenario in options.scenario or SCENARIOS:
                results: dict[str, list[dict[str, Any]]] = {peer.name: [] for peer in wanted}
                for round_ in range(options.rounds):
                    for peer in wanted:
                        print(f"round {round_ + 1}: {scenario} through {peer.name}", file=sys.stderr)
                        results[peer.name].append(measure(peer, scenario, folder))
                show(scenario, results)
                everything[scenario] = results
    print("\ntargets")
    for one in verdicts(everything):
        print(f"{'met   ' if one['met'] else 'MISSED'} {one['target']}: {one['measured']} (bound {one['bound']})")
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        whole = {"machine": harness.machine(), "python": options.python, "targets": verdicts(everything), **everything}
        options.out.write_text(json.dumps(whole, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
