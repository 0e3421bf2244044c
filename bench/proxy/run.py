"""Compare the metering proxy with its peers, which are other proxies.

    python bench/proxy/run.py            # all installed peers, all scenarios, three rounds
    python bench/proxy/run.py --rounds 1 --scenario requests --peer nginx

The proxy has one core, and load generator and upstream share another. Each round measures all proxies in turn. Prints a
table per scenario; `--out` writes JSON. A ratio is the median over rounds of our value divided by the peer's value in
the same round, with the smallest and largest ratio.

Scenarios:
  paced           100 streams, which begin one after the other, evenly over the time that one stream takes
  1000-streams    the same with 1,000 streams
  2000-streams    the same with 2,000 streams
  burst           1,000 streams that all begin in the same moment, on connections of clients that are already open
  burst-connect   the same, but each client opens its connection in that moment
  requests        short responses on 64 connections, 3,000 per second for every proxy
  flood           short responses on 64 connections, as fast as possible

Our proxy is measured twice: without a configuration (`llmendpoint`), and with the configuration that the operator
writes for an endpoint without limits (`endpoint`): a bounded queue, and no model management.
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
from typing import Any, TypeAlias

import harness
from harness import ADMIN, HERE, PROXY, PROXY_CORE, UPSTREAM

OURS = "llmendpoint"
#: Our proxy with the configuration of an endpoint.
ENDPOINT = "endpoint"
#: Go's default transport keeps two idle connections per host (`go-default`). `go` keeps one for each client.
ADDRESSES = {
    "direct": UPSTREAM,
    "nginx": harness.address(2),
    "haproxy": harness.address(3),
    "go": harness.address(4),
    "go-default": harness.address(8),
    "aiohttp": harness.address(5),
    "uvloop-relay": harness.address(9),
    ENDPOINT: PROXY,
    OURS: PROXY,
}
GO = ("go", "go-default")

#: The measurements of each round, by proxy.
Results: TypeAlias = dict[str, list[dict[str, Any]]]

#: Arguments of the load generator (`load.c`).
SCENARIOS = {
    "paced": ("paced", 100, 100, 20_000, 3),
    "requests": ("requests", 64, 4, 3000),
    "flood": ("requests", 64, 4, 0),
    "1000-streams": ("paced", 1000, 100, 50_000, 2),
    "2000-streams": ("paced", 2000, 100, 50_000, 2),
    "burst": ("burst", 1000, 100, 50_000, 2),
    "burst-connect": ("connect", 1000, 100, 50_000, 2),
}
#: Upper bounds of the CPU time of our proxy divided by that of a peer, per chunk and per request.
_CHUNK = {"nginx": 1.4, "go": 0.85}
CPU_TARGETS = {
    "paced": _CHUNK,
    "requests": {"nginx": 1.5, "go": 0.3, "go-default": 0.3},
    "flood": {"nginx": 3.0, "go": 0.6, "go-default": 0.3},
    "1000-streams": _CHUNK,
    "2000-streams": _CHUNK,
}
#: The configuration that the operator writes for an endpoint that sets no limits, as far as it concerns requests.
_ENDPOINT_CONFIG = {"maxWaiting": 256, "modelManagement": "Forbidden"}


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

    config = folder / "endpoint.json"
    config.write_text(json.dumps(_ENDPOINT_CONFIG))
    return [
        Peer("direct", []),
        *configured(folder, "nginx", "nginx.conf", ["-e", "stderr", "-c"]),
        *configured(folder, "haproxy", "haproxy.cfg", ["-f"]),
        *go_peers(folder),
        script("aiohttp", "plain_aiohttp.py", f"http://{UPSTREAM}"),
        script("uvloop-relay", "uvloop_relay.py", UPSTREAM),
        # The upstream runs all requests at the same time. A request that waits for a slot is not part of a scenario.
        Peer(ENDPOINT, harness.sidecar("--config", str(config), "--parallel", "4096", python=python)),
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
        tokens = tokens_counted() if peer.name in (OURS, ENDPOINT) else 0
        result = harness.load(folder, address, *SCENARIOS[scenario])
        result["cpu_seconds"] = harness.cpu_seconds(pid) - before if pid else 0.0
        result["resident_mb"] = harness.megabytes(pid) if pid else 0.0
        if peer.name in (OURS, ENDPOINT):
            time.sleep(0.2)
            expected = result["chunks"] or result["requests"]
            result["tokens_exact"] = tokens_counted() - tokens == expected
    result["cpu_percent"] = 100 * result["cpu_seconds"] / result["seconds"]
    result["cpu_us_per_chunk"] = 1e6 * result["cpu_seconds"] / result["chunks"] if result["chunks"] else None
    result["cpu_us_per_request"] = 1e6 * result["cpu_seconds"] / result["requests"] if result["requests"] else None
    return result


def median(rows: list[dict[str, Any]], field: str) -> float:
    return statistics.median(row[field] for row in rows)


def ratio(results: Results, ours: str, peer: str, field: str) -> tuple[float, float, float] | None:
    """Return the ratio of our value to the peer's value in the same round: median, smallest and largest."""
    if peer not in results or ours not in results:
        return None
    pairs = zip(results[ours], results[peer], strict=True)
    ratios = [mine[field] / other[field] for mine, other in pairs if other[field]]
    return (statistics.median(ratios), min(ratios), max(ratios)) if ratios else None


def added(results: Results, name: str, field: str) -> float | None:
    """Return the time that a proxy adds to that of a direct connection in the same round: the median, in ms."""
    if "direct" not in results or name not in results or name == "direct":
        return None
    pairs = zip(results[name], results["direct"], strict=True)
    return statistics.median(row[field] - bare[field] for row, bare in pairs)


def unit_of(scenario: str) -> str:
    """Return what a scenario counts: `chunk` for streams, otherwise `request`."""
    return "request" if SCENARIOS[scenario][0] == "requests" else "chunk"


class Judge:
    """Compares measured values with their targets."""

    def __init__(self) -> None:
        #: For each target that was measured: its bound, the measured value, and whether it is met.
        self.verdicts: list[dict[str, Any]] = []

    def note(self, target: str, bound: float, measured: float | None) -> None:
        """Add a target. It was not measured if the value is None."""
        if measured is not None:
            met = measured <= bound
            self.verdicts.append({"target": target, "bound": bound, "measured": round(measured, 3), "met": met})

    def scenario(self, name: str, results: Results) -> None:
        """Add the targets of one scenario."""
        unit = unit_of(name)
        ours = [proxy for proxy in (OURS, ENDPOINT) if proxy in results]
        for proxy in ours:
            for peer, bound in CPU_TARGETS.get(name, {}).items():
                measured = ratio(results, proxy, peer, f"cpu_us_per_{unit}")
                self.note(f"{name}: CPU per {unit}, {proxy} / {peer}", bound, measured and measured[0])
            if name.startswith("burst"):
                self._burst(name, proxy, results)
        if unit == "chunk" and not name.startswith("burst"):
            self._streams(name, results)

    def _burst(self, name: str, proxy: str, results: Results) -> None:
        for peer in GO:
            for field, title in (("ttft_p50_ms", "TTFT p50"), ("lag_p99_ms", "chunk lag p99")):
                measured = ratio(results, proxy, peer, field)
                self.note(f"{name}: {title}, {proxy} / {peer}", 1.0, measured and measured[0])

    def _streams(self, name: str, results: Results) -> None:
        ours, nginx = added(results, OURS, "ttft_p50_ms"), added(results, "nginx", "ttft_p50_ms")
        self.note(f"{name}: added TTFT p50 / nginx", 1.5, ours / nginx if ours and nginx and nginx > 0 else None)
        if name == "1000-streams":
            self.note("1000-streams: chunk lag p99, ms", 10.0, median(results[OURS], "lag_p99_ms"))
            self.note("1000-streams: resident, MB", 64.0, median(results[OURS], "resident_mb"))
        if name == "2000-streams" and "go" in results:
            lags = median(results[OURS], "lag_p99_ms"), median(results["go"], "lag_p99_ms")
            self.note("2000-streams: chunk lag p99 / go", 1.0, lags[0] / lags[1])


def verdicts(everything: dict[str, Results]) -> list[dict[str, Any]]:
    """Return each target that was measured: its bound, the measured value, and whether it is met."""
    judge = Judge()
    for scenario, results in everything.items():
        judge.scenario(scenario, results)
    return judge.verdicts


def show(scenario: str, results: Results) -> None:
    """Print one table. `added` is the time that the proxy adds to that of a direct connection in the same round."""
    unit = unit_of(scenario)
    field, first = (f"cpu_us_per_{unit}", "ttft" if unit == "chunk" else "latency")
    print(f"\n{scenario}: CPU µs per {unit}, medians of {len(results[OURS])} rounds; times in ms")
    print(f"{'proxy':13} {'CPU µs':>7} {'CPU %':>6} {first + ' p50':>12} {'p99':>7} {'added p50':>10} {'lag p50':>8} {'p99':>7} {'MB':>6} {'errors':>6}  ours/this")  # fmt: skip
    for name, rows in results.items():
        errors = sum(row["errors"] for row in rows)
        one = None if name in (OURS, "direct") else ratio(results, OURS, name, field)
        shown = "" if one is None else "{:.2f} ({:.2f} to {:.2f})".format(*one)
        more = added(results, name, f"{first}_p50_ms")
        print(f"{name:13} {median(rows, field):7.1f} {median(rows, 'cpu_percent'):6.1f} {median(rows, f'{first}_p50_ms'):12.2f} "
              f"{median(rows, f'{first}_p99_ms'):7.2f} {'' if more is None else format(more, '.2f'):>10} {median(rows, 'lag_p50_ms'):8.2f} {median(rows, 'lag_p99_ms'):7.2f} "
              f"{median(rows, 'resident_mb'):6.1f} {errors:6d}  {shown}")  # fmt: skip
    for name in (OURS, ENDPOINT):
        if name in results:
            exact = all(row["tokens_exact"] for row in results[name])
            print(f"tokens of {name}: {'exact' if exact else 'NOT EXACT'}")


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
    everything: dict[str, Results] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        harness.build(folder)
        wanted = [p for p in peers(folder, options.python) if not options.peer or p.name in (*options.peer, OURS)]
        with harness.upstream(folder):
            for scenario in options.scenario or SCENARIOS:
                results: Results = {peer.name: [] for peer in wanted}
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
