"""The operator's own window: `/livez` and `/metrics`."""

from __future__ import annotations

import socket
from collections.abc import Iterable

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from llmendpoint_operator.workqueue import WorkQueue

_PREFIX = "llmendpoint_operator_"


class _QueueMetrics(Collector):
    def __init__(self, queue: WorkQueue) -> None:
        self._queue = queue

    def collect(self) -> Iterable[Metric]:
        """Yield the queue's numbers."""
        yield CounterMetricFamily(_PREFIX + "reconciles", "Reconciliations.", value=self._queue.reconciles)
        yield CounterMetricFamily(
            _PREFIX + "reconcile_errors", "Reconciliations that failed.", value=self._queue.errors
        )
        yield GaugeMetricFamily(_PREFIX + "queue_depth", "Objects that wait.", value=self._queue.depth)


class HealthServer:
    """Serves probes and metrics."""

    def __init__(self, queue: WorkQueue) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_QueueMetrics(queue))
        app = web.Application()
        app.add_routes([web.get("/livez", self._live), web.get("/metrics", self._metrics)])
        self._runner = web.AppRunner(app, access_log=None)

    async def start(self, sockets: list[socket.socket]) -> None:
        """Serve on listening sockets."""
        await self._runner.setup()
        for sock in sockets:
            await web.SockSite(self._runner, sock).start()

    async def stop(self) -> None:
        """Stop serving."""
        await self._runner.cleanup()

    async def _live(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _metrics(self, request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(self._registry), headers={"Content-Type": content_type})
