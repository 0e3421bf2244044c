"""Gauges that are read at the time of a scrape: requests in flight, models in memory, state of the upstream."""

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
    """Collects gauges from the meter, the upstream watch and the model agent."""

    def __init__(self, meter: Meter, watch: UpstreamWatch, agent: ModelAgent) -> None:
        self._meter = meter
        self._watch = watch
        self._agent = agent

    def collect(self) -> Iterable[Metric]:
        """Yield all gauge families."""
        running, waiting = self._meter.in_flight.running(), self._meter.in_flight.waiting()
        model = ("model_name",)
        yield gauge("num_requests_running", "Number of requests that run in Ollama.", (), [((), sum(running.values()))])
        yield gauge(
            "num_requests_waiting",
            "Number of requests that wait for a slot of Ollama.",
            (),
            [((), sum(waiting.values()))],
        )
        yield gauge(
            "model_requests_running", "Number of requests that run in Ollama, by model.", model, _by_model(running)
        )
        yield gauge(
            "model_requests_waiting",
            "Number of requests that wait for a slot of Ollama, by model.",
            model,
            _by_model(waiting),
        )
        yield from self._models()
        yield gauge("upstream_up", "1 if Ollama answers, else 0.", (), [((), float(self._watch.up))])
        versions = (VERSION, self._watch.version, platform.python_version())
        labels = ("version", "ollama_version", "python_version")
        yield gauge(
            "build_info",
            "Versions of sidecar, Ollama and Python as labels; the value is always 1.",
            labels,
            [(versions, 1.0)],
        )

    def _models(self) -> Iterable[Metric]:
        label = self._meter.model_labels.label
        loaded = {label(name): model for name, model in self._watch.loaded.items()}
        listed = {label(name): float(name in self._watch.loaded) for name in self._watch.listed}
        remote = {label(name): float(name in self._meter.model_labels.remote) for name in self._watch.listed}
        labels = ("model_name",)
        yield gauge("model_remote", "1 if the model runs on a remote host and not on this GPU, else 0.", labels,
                    _by_model(remote))  # fmt: skip
        yield gauge("model_loaded", "1 if the model is in memory, else 0.", labels, _by_model(listed))
        yield gauge("model_size_bytes", "Memory of the loaded model in bytes, CPU and GPU together.", labels,
                    (((name,), model.size) for name, model in loaded.items()))  # fmt: skip
        yield gauge("model_vram_bytes", "GPU memory of the loaded model in bytes.", labels,
                    (((name,), model.size_vram) for name, model in loaded.items()))  # fmt: skip
        yield gauge("model_context_length", "Context length of the loaded model in tokens.", labels,
                    (((name,), model.context_length) for name, model in loaded.items()))  # fmt: skip
        yield gauge("model_expires_timestamp_seconds", "Unix time at which the model will be unloaded.", labels,
                    (((name,), _unix(model.expires_at)) for name, model in loaded.items()))  # fmt: skip
        yield gauge("model_pull_progress_ratio", "Share of a declared model that has been pulled, from 0 to 1.", labels,
                    (((s.name,), s.progress_percent / 100) for s in self._agent.statuses()))  # fmt: skip


def _by_model(counts: dict[str, int] | dict[str, float]) -> Iterable[tuple[tuple[str, ...], float]]:
    return (((name,), value) for name, value in counts.items())


def _unix(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        return 0.0
