"""Requests that run or wait at the model server at this moment, by model.

Ollama reports neither. With OLLAMA_NUM_PARALLEL = N it runs N requests per model at once and queues the others, and all
traffic passes the proxy, so running = min(in flight, N) and waiting = the rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from llmendpoint_sidecar.meter.model_labels import ModelLabels


class InFlight:
    """Requests whose model is known and that have not ended, by the model's label.

    `parallel` is the number of slots per model. Models that run elsewhere (`:cloud`) have none, so their requests are
    neither running nor waiting here.
    """

    __slots__ = ("_counts", "_model_labels", "_parallel")

    def __init__(self, model_labels: ModelLabels, parallel: int) -> None:
        # A dict: a Counter calls Python for each missing and each deleted key.
        self._counts: dict[str, int] = {}
        self._model_labels = model_labels
        self._parallel = parallel

    def enter(self, label: str) -> None:
        """Count a request that begins."""
        self._counts[label] = self._counts.get(label, 0) + 1

    def leave(self, label: str) -> None:
        """Count a request that has ended."""
        left = self._counts.pop(label, 1) - 1
        if left:
            self._counts[label] = left

    def has_room(self, model: str, max_waiting: int) -> bool:
        """Return whether one more request for a model, by its name, runs or is one of at most `max_waiting` waiting."""
        return self._counts.get(self._model_labels.label(model), 0) < self._parallel + max_waiting

    def running(self) -> dict[str, int]:
        """Return the requests that hold a slot, by model."""
        return {label: min(count, self._parallel) for label, count in self._local()}

    def waiting(self) -> dict[str, int]:
        """Return the requests that wait for a slot, by model."""
        return {label: max(0, count - self._parallel) for label, count in self._local()}

    def counts(self) -> dict[str, int]:
        """Return all requests in flight, by model."""
        return dict(self._counts)

    def replace(self, parts: Iterable[Mapping[str, int]]) -> None:
        """Become the sum of the counts of several processes."""
        total: Counter[str] = Counter()
        for part in parts:
            total.update(part)
        self._counts = dict(total)

    def _local(self) -> list[tuple[str, int]]:
        return [item for item in self._counts.items() if item[0] not in self._model_labels.remote]
