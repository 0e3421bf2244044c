"""Print an exposition with all counters and histograms of the sidecar, for `promtool check metrics`."""

from __future__ import annotations

import sys

from prometheus_client import generate_latest

from llmendpoint_sidecar.meter.families import COUNTERS, HISTOGRAMS
from llmendpoint_sidecar.meter.metrics import Metrics


def main() -> None:
    metrics = Metrics()
    for name, family in COUNTERS.items():
        metrics.count(name, tuple("x" for _ in family.labels))
    for name in HISTOGRAMS:
        metrics.series("x", "x")[name].observe(1.0)
    sys.stdout.buffer.write(generate_latest(metrics.registry))
    sys.stdout.buffer.write(b"".join(metrics.histograms(openmetrics=False)))


if __name__ == "__main__":
    main()
