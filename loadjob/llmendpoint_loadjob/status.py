"""HTTP server with the progress of a run: `/status` for the operator, `/metrics` for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from llmendpoint_common.contracts.loadrun import Progress
from llmendpoint_common.process.exposition import PageServer
from llmendpoint_loadjob.barrier import Barrier

_PREFIX = "llmendpoint_loadtest_"


class RunMetrics(Collector):
    """Metrics of a run, computed from its progress when they are scraped."""

    def __init__(self, progress: Callable[[], Progress]) -> None:
        self._progress = progress

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics of the run."""
        now = self._progress()
        yield CounterMetricFamily(
            _PREFIX + "requests",
            "Number of requests that have ended, including failed requests and requests of the warm-up.",
            value=now.requests,
        )
        yield CounterMetricFamily(
            _PREFIX + "errors",
            "Number of requests that have failed, including requests of the warm-up.",
            value=now.errors,
        )
        yield CounterMetricFamily(
            _PREFIX + "output_tokens", "Number of output tokens, as reported by the server.", value=now.output_tokens
        )
        yield GaugeMetricFamily(_PREFIX + "in_flight", "Number of requests that are in flight.", value=now.in_flight)
        yield GaugeMetricFamily(
            _PREFIX + "progress_ratio", "Progress of the run, from 0 to 1.", value=now.percent / 100
        )


def status_server(progress: Callable[[], Progress], barrier: Barrier | None = None) -> PageServer:
    """Return a server of `/status` and `/metrics` for one run, and of `/start` if the run waits at a barrier."""

    def now() -> Progress:
        return progress() if barrier is None else msgspec.structs.replace(progress(), start=barrier.state)

    async def status(_: web.Request) -> web.Response:
        return web.Response(body=msgspec.json.encode(now()), content_type="application/json")

    registry = CollectorRegistry()
    registry.register(RunMetrics(progress))
    return PageServer(registry, [web.get("/status", status), *([] if barrier is None else [barrier.route()])])
