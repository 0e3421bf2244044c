"""Parts that every process of the sidecar has: metrics, meter, and the poller of Ollama."""

from __future__ import annotations

import gc
import time

from llmendpoint_sidecar.budget import process_budget
from llmendpoint_sidecar.meter.meter import Meter
from llmendpoint_sidecar.meter.metrics import Metrics
from llmendpoint_sidecar.meter.model_labels import ModelLabels
from llmendpoint_sidecar.ollama.client import Ollama
from llmendpoint_sidecar.ollama.watch import UpstreamWatch
from llmendpoint_sidecar.records.journal import Journal
from llmendpoint_sidecar.settings import Settings

_POLL_SECONDS = 2.0


class Runtime:
    """Budget, metrics, model labels, meter, and client and poller of Ollama of one process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.budget = process_budget(settings.workers, tls=settings.tls_cert is not None)
        self.metrics = Metrics()
        self.model_labels = ModelLabels(lambda: self.metrics.count("series_overflow", ()))
        journal = Journal(time.monotonic, self.budget.records)
        self.meter = Meter(self.metrics, self.model_labels, time.monotonic, settings.parallel, journal)
        self.ollama = Ollama(f"http://{settings.upstream}")
        self.watch = UpstreamWatch(self.ollama, self.model_labels, _POLL_SECONDS)


def tune_garbage_collector() -> None:
    """Reduce garbage collections: modules stay loaded, and the data path creates few reference cycles."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)
