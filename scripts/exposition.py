"""Print an exposition with all counters and histograms of the sidecar, for `promtool check metrics`."""

from __future__ import annotations

import sys

from prometheus_client import generate_latest

from llmendpoint_sidecar.meter.metrics import COUNTERS, HISTOGRAMS, Metrics


def main() -> None:
    metrics = Metrics()
    for name, (_, labels) in COUNTERS.items():
        metrics.count(name, tuple("x" for _ in labels))
    for name in HISTOGRAMS:
        metrics.series("x", "x")[name].observe(1.0)
    sys.stdout.buffer.write(generate_latest(metrics.registry))
    sys.stdout.buffer.write(b"".join(metrics.histograms(openmetrics=False)))


if __name__ == "__main__":
    main()
