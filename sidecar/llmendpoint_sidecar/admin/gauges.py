"""Gauges that are read when Prometheus scrapes: requests in flight, models in memory, state of the upstream."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable
from datetime import datetime

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from llmendpoint_common.contracts.sidecar import Stall
from llmendpoint_common.process.version import VERSION
from llmendpoint_sidecar.agent.model_agent import ModelAgent
from llmendpoint_sidecar.meter.meter import Meter
from llmendpoint_sidecar.meter.metrics import gauge
from llmendpoint_sidecar.ollama.watch import UpstreamWatch


class Gauges(Collector):
    """Collects gauges from the meter, the poller of Ollama, the model agent and the detection of a hung Ollama."""

    def __init__(
        self, meter: Meter, watch: UpstreamWatch, agent: ModelAgent, stalled: Callable[[], Stall | None]
    ) -> None:
        self._meter = meter
        self._watch = watch
        self._agent = agent
        self._stalled = stalled

    def collect(self) -> Iterable[Metric]:
        """Yield all gauge families."""
        running, waiting = self._meter.in_flight.running(), self._meter.in_flight.waiting()
        yield gauge("num_requests_running", [((), sum(running.values()))])
        yield gauge("num_requests_waiting", [((), sum(waiting.values()))])
        yield gauge("model_requests_running", _by_model(running))
        yield gauge("model_requests_waiting", _by_model(waiting))
        yield from self._models()
        yield gauge("upstream_up", [((), float(self._watch.up))])
        yield gauge("upstream_stalled", [((), float(self._stalled() is not None))])
        yield gauge("build_info", [((VERSION, self._watch.version, platform.python_version()), 1.0)])

    def _models(self) -> Iterable[Metric]:
        label = self._meter.model_labels.label
        loaded = {label(name): model for name, model in self._watch.loaded.items()}
        listed = {name: float(name in loaded) for name in map(label, self._watch.listed)}
        remote = {label(name): float(name in self._meter.model_labels.remote) for name in self._watch.listed}
        yield gauge("model_remote", _by_model(remote))
        yield gauge("model_loaded", _by_model(listed))
        yield gauge("model_size_bytes", (((name,), model.size) for name, model in loaded.items()))
        yield gauge("model_vram_bytes", (((name,), model.size_vram) for name, model in loaded.items()))
        yield gauge("model_context_length", (((name,), model.context_length) for name, model in loaded.items()))
        yield gauge(
            "model_expires_timestamp_seconds", (((name,), _unix(model.expires_at)) for name, model in loaded.items())
        )
        yield gauge(
            "model_pull_progress_ratio", (((s.name,), s.progress_percent / 100) for s in self._agent.statuses())
        )


def _by_model(counts: dict[str, int] | dict[str, float]) -> Iterable[tuple[tuple[str, ...], float]]:
    return (((name,), value) for name, value in counts.items())


def _unix(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        return 0.0
