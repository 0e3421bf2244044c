"""The run's own window while it lasts: `/status` for the operator, `/metrics` for Prometheus."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from llmendpoint_loadjob.contract import Progress

_PREFIX = "llmendpoint_loadtest_"


class _Families(Collector):
    def __init__(self, progress: Callable[[], Progress]) -> None:
        self._progress = progress

    def collect(self) -> Iterable[Metric]:
        """Yield the run's numbers."""
        now = self._progress()
        yield CounterMetricFamily(_PREFIX + "requests", "Requests answered or failed.", value=now.requests)
        yield CounterMetricFamily(_PREFIX + "errors", "Requests that failed.", value=now.errors)
        yield CounterMetricFamily(_PREFIX + "output_tokens", "Output tokens received.", value=now.output_tokens)
        yield GaugeMetricFamily(_PREFIX + "in_flight", "Requests in flight.", value=now.in_flight)
        yield GaugeMetricFamily(_PREFIX + "progress_ratio", "How far the run is.", value=now.percent / 100)


class StatusServer:
    """Serves the progress of one run."""

    def __init__(self, progress: Callable[[], Progress]) -> None:
        self._progress = progress
        self._registry = CollectorRegistry()
        self._registry.register(_Families(progress))
        app = web.Application()
        app.add_routes([web.get("/status", self._status), web.get("/metrics", self._metrics)])
        self._runner = web.AppRunner(app, access_log=None)

    async def start(self, sockets: list[socket.socket]) -> None:
        """Serve on listening sockets."""
        await self._runner.setup()
        for sock in sockets:
            await web.SockSite(self._runner, sock).start()

    async def stop(self) -> None:
        """Stop serving."""
        await self._runner.cleanup()

    async def _status(self, _: web.Request) -> web.Response:
        return web.Response(body=msgspec.json.encode(self._progress()), content_type="application/json")

    async def _metrics(self, request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(self._registry), headers={"Content-Type": content_type})
