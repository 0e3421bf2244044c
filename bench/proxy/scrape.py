"""Measure the duration of scrapes of thousands of series, and the delay that they add to the chunks of streams.

    python bench/proxy/scrape.py [--series 5000] [--rounds 3]

The same load (50 streams of 200 chunks, one every 20 ms) runs alternately without scrapes and with a scrape every half
second.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import harness

FORMATS = {"text": "text/plain", "OpenMetrics": "application/openmetrics-text; version=1.0.0"}


def scrape(accept: str) -> tuple[float, int]:
    """Scrape once. Return the duration in seconds, and the number of series."""
    request = urllib.request.Request(f"http://{harness.ADMIN}/metrics", headers={"Accept": accept})
    begin = time.monotonic()
    with urllib.request.urlopen(request, timeout=10) as response:
        body = response.read()
    return time.monotonic() - begin, sum(not line.startswith(b"#") for line in body.splitlines())


def make_series(wanted: int) -> int:
    """Send requests for up to 64 models, until there are `wanted` series. Return the number of series."""
    for index in range(64):
        body = json.dumps({"model": f"series-{index}", "messages": []}).encode()
        headers = {"X-Chunks": "3", "X-Interval-Us": "1000"}
        request = urllib.request.Request(f"http://{harness.PROXY}/api/chat", data=body, headers=headers)
        urllib.request.urlopen(request, timeout=10).read()
        if scrape("text/plain")[1] >= wanted:
            break
    return scrape("text/plain")[1]


def load(folder: Path) -> dict[str, Any]:
    return harness.load(folder, harness.PROXY, "paced", 50, 200, 20_000, 1)


def scraped_load(folder: Path, accept: str) -> tuple[dict[str, Any], list[float]]:
    """Run the load with a scrape every half second. Return its result, and the durations of the scrapes in seconds."""
    ended, seconds = threading.Event(), []

    def scrapes() -> None:
        while not ended.wait(0.5):
            seconds.append(scrape(accept)[0])

    thread = threading.Thread(target=scrapes)
    thread.start()
    try:
        return load(folder), seconds
    finally:
        ended.set()
        thread.join()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        folder = Path(directory)
        harness.build(folder)
        stack.enter_context(harness.upstream(folder))
        stack.enter_context(
            harness.running(harness.sidecar(), harness.PROXY_CORE, f"http://{harness.PROXY}/api/version")
        )
        time.sleep(3)
        print(f"{make_series(options.series)} series")
        rows: dict[str, list[tuple[dict[str, Any], list[float]]]] = {name: [] for name in ("none", *FORMATS)}
        for _ in range(options.rounds):
            rows["none"].append((load(folder), []))
            for name, accept in FORMATS.items():
                rows[name].append(scraped_load(folder, accept))
    print(f"{'scraped as':12} {'scrape p50':>11} {'max':>9} {'lag p50':>9} {'lag p99':>9} {'lag max':>9}   (ms)")
    for name, results in rows.items():
        taken = [1000 * value for _, seconds in results for value in seconds] or [0.0]
        lags = [
            statistics.median(result[field] for result, _ in results)
            for field in ("lag_p50_ms", "lag_p99_ms", "lag_max_ms")
        ]
        print(
            f"{name:12} {statistics.median(taken):11.1f} {max(taken):9.1f} " + " ".join(f"{lag:9.2f}" for lag in lags)
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
