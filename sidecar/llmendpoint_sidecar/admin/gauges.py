"""Gauges that are read at the scrape: what is in flight, what is in memory, whether the upstream is up."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from datetime import datetime

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from llmendpoint_common.process.version import VERSION
from llmendpoint_sidecar.agent.model_agent import ModelAgent
from llmendpoint_sidecar.meter.meter import Meter
from llmendpoint_sidecar.meter.metrics import gauge
from llmendpoint_sidecar.ollama.watch import UpstreamWatch


class Gauges(Collector):
    """Reads the meter, the watch and the agent when a scrape asks."""

    def __init__(self, meter: Meter, watch: UpstreamWatch, agent: ModelAgent) -> None:
        self._meter = meter
        self._watch = watch
        self._agent = agent

    def collect(self) -> Iterable[Metric]:
        """Yield every gauge family."""
        running, waiting = self._meter.in_flight.running(), self._meter.in_flight.waiting()
        model = ("model_name",)
        yield gauge("num_requests_running", "Requests that hold a slot.", (), [((), sum(running.values()))])
        yield gauge("num_requests_waiting", "Requests that wait for a slot.", (), [((), sum(waiting.values()))])
        yield gauge("model_requests_running", "The same by model.", model, _by_model(running))
        yield gauge("model_requests_waiting", "The same by model.", model, _by_model(waiting))
        yield from self._models()
        yield gauge("upstream_up", "1 while Ollama answers.", (), [((), float(self._watch.up))])
        versions = (VERSION, self._watch.version, platform.python_version())
        labels = ("version", "ollama_version", "python_version")
        yield gauge("build_info", "Versions; always 1.", labels, [(versions, 1.0)])

    def _models(self) -> Iterable[Metric]:
        label = self._meter.model_labels.label
        loaded = {label(name): model for name, model in self._watch.loaded.items()}
        listed = {label(name): float(name in self._watch.loaded) for name in self._watch.listed}
        remote = {label(name): float(name in self._meter.model_labels.remote) for name in self._watch.listed}
        labels = ("model_name",)
        yield gauge("model_remote", "1 where the model runs elsewhere: its tokens are not this GPU's.", labels,
                    _by_model(remote))  # fmt: skip
        yield gauge("model_loaded", "1 while the model is in memory.", labels, _by_model(listed))
        yield gauge("model_size_bytes", "Memory that the model takes in all.", labels,
                    (((name,), model.size) for name, model in loaded.items()))  # fmt: skip
        yield gauge("model_vram_bytes", "GPU memory that the model takes.", labels,
                    (((name,), model.size_vram) for name, model in loaded.items()))  # fmt: skip
        yield gauge("model_context_length", "Context length in tokens.", labels,
                    (((name,), model.context_length) for name, model in loaded.items()))  # fmt: skip
        yield gauge("model_expires_timestamp_seconds", "When the model will be unloaded (Unix time).", labels,
                    (((name,), _unix(model.expires_at)) for name, model in loaded.items()))  # fmt: skip
        yield gauge("model_pull_progress_ratio", "How much of a declared model is pulled.", labels,
                    (((s.name,), s.progress_percent / 100) for s in self._agent.statuses()))  # fmt: skip


def _by_model(counts: dict[str, int] | dict[str, float]) -> Iterable[tuple[tuple[str, ...], float]]:
    return (((name,), value) for name, value in counts.items())


def _unix(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        return 0.0
