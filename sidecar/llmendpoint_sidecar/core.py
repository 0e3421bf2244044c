"""What every process of the sidecar has: its numbers, and its look at Ollama."""

from __future__ import annotations

import time

from llmendpoint_sidecar.agent.ollama import Ollama
from llmendpoint_sidecar.agent.watch import UpstreamWatch
from llmendpoint_sidecar.meter.meter import Meter
from llmendpoint_sidecar.meter.metrics import Metrics
from llmendpoint_sidecar.meter.models import ModelDirectory
from llmendpoint_sidecar.settings import Settings

_WATCH_SECONDS = 2.0


class Core:
    """Metrics, the models that Ollama lists, the meter, and the watch over the upstream."""

    def __init__(self, settings: Settings) -> None:
        self.metrics = Metrics()
        self.directory = ModelDirectory(lambda: self.metrics.count("series_overflow", ()))
        self.meter = Meter(self.metrics, self.directory, time.monotonic, settings.parallel)
        self.ollama = Ollama(f"http://{settings.upstream}")
        self.watch = UpstreamWatch(self.ollama, self.directory, _WATCH_SECONDS)
