"""Sums of the metrics of all workers, those that have ended included."""

from __future__ import annotations

from collections.abc import Iterable

from llmendpoint_sidecar.meter.meter import Meter
from llmendpoint_sidecar.meter.metrics import Labels, Metrics
from llmendpoint_sidecar.meter.model_labels import MAX_MODELS, OTHER
from llmendpoint_sidecar.workers.channel import WorkerMetrics


class Totals:
    """Writes the sums into the metrics and the requests in flight of the supervisor's meter."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        #: Last metrics of the workers that have ended. They stay part of the sum, so that counters never decrease.
        self._past = Metrics()
        self._labels: set[str] = set()

    def update(self, known: Iterable[WorkerMetrics]) -> None:
        """Set the sums to those of the workers that have ended and of the last metrics of the others."""
        latest = tuple(known)
        metrics = self._meter.metrics
        metrics.clear()
        for snapshot in (self._past.snapshot(), *(one.metrics for one in latest)):
            metrics.add(snapshot, self._label)
        self._meter.in_flight.replace(one.in_flight for one in latest)

    def keep(self, last: WorkerMetrics | None, reason: str | None) -> None:
        """Keep the last metrics of a worker that has ended. If it is replaced, count the reason."""
        if last is not None:
            self._past.add(last.metrics, self._label)
        if reason is not None:
            self._past.count("worker_restarts", (reason,))

    def count(self, name: str, labels: Labels) -> None:
        """Add 1 to a counter of the supervisor itself."""
        self._past.count(name, labels)

    def _label(self, model: str) -> str:
        """Return a worker's model label, or `other` if the workers together have more than MAX_MODELS labels."""
        if model not in self._labels:
            if len(self._labels) >= MAX_MODELS:
                return OTHER
            self._labels.add(model)
        return model
