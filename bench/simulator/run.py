"""Measure how many chunks per second the simulator sends on one core, beside the C program that is the proxy's upstream.

    python bench/simulator/run.py              # 500 to 2,000 streams, three rounds (about four minutes)
    python bench/simulator/run.py --quick      # 1,000 streams, one round (half a minute)
    python bench/simulator/run.py --streams 1200 --rounds 5

Each stream has 100 chunks, one every 20 ms, so N streams are 50 N chunks per second. The server has one core, and the
load generator the other. Rounds are interleaved. Prints a table of medians; `--out` writes JSON.

The servers are the C program (`c`), the simulator (`simulator`), and its known-latency mode (`known`). `per core` is the
number of chunks that one second of CPU time is enough for: the largest rate of one core. A server or load generator that
is late sends or reads several chunks at once, which costs less, so a figure counts only if `chunks/read` is close to 1. The
time to first token is that of a server that does not wait before it, so it is the delay of the server and of the load.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "proxy"))

import harness  # noqa: E402
from harness import PROXY, PROXY_CORE, UPSTREAM  # noqa: E402

SERVER_CORE = PROXY_CORE
CHUNKS, INTERVAL_US, ROUNDS_OF_STREAMS = 100, 20_000, 3
#: Chunks per second and core that the simulator must reach.
TARGET = 50_000

Row = dict[str, Any]


def servers(folder: Path, python: str) -> dict[str, tuple[list[str], str]]:
    """Return the command and the address of each server."""
    simulator = [python, "-m", "llmendpoint_simulator", "--listen", PROXY, "--model", "bench:latest", "--ttft", "0",
                 "--inter-token", f"{INTERVAL_US // 1000}ms", "--tokens", str(CHUNKS), "--parallel", "100000",
                 "--log-level", "error"]  # fmt: skip
    return {
        "c": ([str(folder / "upstream"), UPSTREAM], UPSTREAM),
        "simulator": (simulator, PROXY),
        "known": ([*simulator, "--known-latency"], PROXY),
    }


def measure(folder: Path, server: tuple[list[str], str], streams: int) -> Row:
    """Run one server and the load once."""
    command, address = server
    with harness.running(command, SERVER_CORE, f"http://{address}/api/version") as pid:
        time.sleep(0.5)
        before = harness.cpu_seconds(pid)
        result = harness.load(folder, address, "lines", streams, CHUNKS, INTERVAL_US, ROUNDS_OF_STREAMS)
        seconds = harness.cpu_seconds(pid) - before
        if result["errors"]:
            raise SystemExit(f"{command[0]}: {result['errors']} errors, the last one: {result['last_error']}")
        return {
            "delivered": result["chunks"] / result["seconds"],
            "cpu_us": seconds / result["chunks"] * 1e6,
            "per_core": result["chunks"] / seconds,
            "per_read": result["chunks"] / result["reads"],
            "ttft_p50_ms": result["ttft_p50_ms"],
            "ttft_p99_ms": result["ttft_p99_ms"],
            "megabytes": harness.megabytes(pid),
        }


@contextmanager
def built() -> Iterator[Path]:
    """Yield a folder with the C programs."""
    with tempfile.TemporaryDirectory() as directory:
        harness.build(Path(directory))
        yield Path(directory)


def medians(rows: list[Row]) -> Row:
    """Return the median of each column."""
    return {name: statistics.median(row[name] for row in rows) for name in rows[0]}


def show(results: dict[str, list[Row]]) -> None:
    """Print the table, and whether the target is reached."""
    print(f"{'server':10} {'streams':>8} {'offered/s':>10} {'delivered/s':>12} {'CPU us/chunk':>13} {'per core':>9} "
          f"{'chunks/read':>12} {'TTFT p50':>9} {'p99':>8} (ms) {'MB':>6}")  # fmt: skip
    best = 0.0
    for key, rows in results.items():
        name, streams = key.split("/")
        row = medians(rows)
        offered = int(streams) * 1_000_000 // INTERVAL_US
        print(f"{name:10} {streams:>8} {offered:10,} {row['delivered']:12,.0f} {row['cpu_us']:13.1f} "
              f"{row['per_core']:9,.0f} {row['per_read']:12.2f} {row['ttft_p50_ms']:9.2f} {row['ttft_p99_ms']:8.2f}      {row['megabytes']:6.1f}")  # fmt: skip
        best = max(best, row["per_core"]) if name == "simulator" else best
    word = "reached" if best >= TARGET else "missed"
    print(f"target of {TARGET:,} chunks per second on one core: {word} ({best:,.0f})")


def main() -> int:
    """Measure, and print the table. Exits with 1 if the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--streams", type=int, action="append", help="number of streams (repeatable)")
    parser.add_argument("--server", action="append", choices=["c", "simulator", "known"], help="default: all")
    parser.add_argument("--quick", action="store_true", help="1,000 streams, one round")
    parser.add_argument("--python", default=sys.executable, help="interpreter of the simulator")
    parser.add_argument("--out", type=Path, help="JSON file with all measurements")
    options = parser.parse_args()
    streams = options.streams or ([1000] if options.quick else [500, 1000, 2000])
    results: dict[str, list[Row]] = {}
    with built() as folder:
        every = servers(folder, options.python)
        for _ in range(1 if options.quick else options.rounds):
            for count in streams:
                for name in options.server or every:
                    results.setdefault(f"{name}/{count}", []).append(measure(folder, every[name], count))
    show(results)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps({"machine": harness.machine(), "results": results}, indent=1))
    best = max((row["per_core"] for key, rows in results.items() if key.startswith("simulator/") for row in rows),
               default=float(TARGET))  # fmt: skip
    return 0 if best >= TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
