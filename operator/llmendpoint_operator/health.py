"""The operator's HTTP server, which serves `/livez` and `/metrics`."""

from __future__ import annotations

from collections.abc import Iterable

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from llmendpoint_common.process.exposition import PageServer, alive
from llmendpoint_operator.reconcile.workqueue import WorkQueue

_PREFIX = "llmendpoint_operator_"


class _QueueMetrics(Collector):
    def __init__(self, queue: WorkQueue) -> None:
        self._queue = queue

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics of the work queue."""
        yield CounterMetricFamily(_PREFIX + "reconciles", "Number of reconciles.", value=self._queue.reconciles)
        yield CounterMetricFamily(
            _PREFIX + "reconcile_errors", "Number of reconciles that failed.", value=self._queue.errors
        )
        yield GaugeMetricFamily(
            _PREFIX + "queue_depth", "Number of resources that are waiting to be reconciled.", value=self._queue.depth
        )


def health_server(queue: WorkQueue) -> PageServer:
    """Return the server for the liveness probe and the metrics."""
    registry = CollectorRegistry()
    registry.register(_QueueMetrics(queue))
    return PageServer(registry, [web.get("/livez", alive)])
