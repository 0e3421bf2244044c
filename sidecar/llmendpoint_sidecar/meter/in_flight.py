"""Number of requests that Ollama is running, or that are waiting for it, by model.

Ollama does not report these numbers. With OLLAMA_NUM_PARALLEL = N it runs N requests per model and queues the others.
All requests pass through the proxy, so running = min(in flight, N) and waiting = the rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from llmendpoint_sidecar.meter.model_labels import ModelLabels


class InFlight:
    """Counts of the requests that were received completely and have not ended, by the label of their model.

    `parallel` is the number of slots per model. Requests for models on another host (`:cloud`) count neither as running
    nor as waiting.
    """

    __slots__ = ("_counts", "_model_labels", "_parallel", "answered", "given_up")

    def __init__(self, model_labels: ModelLabels, parallel: int) -> None:
        # A dict, because a Counter calls a Python function for each missing and each deleted key.
        self._counts: dict[str, int] = {}
        self._model_labels = model_labels
        self._parallel = parallel
        #: Time at which the last successful response of each model ended.
        self.answered: dict[str, float] = {}
        #: Number of requests of each model that ended in another way.
        self.given_up: dict[str, int] = {}

    def enter(self, label: str) -> None:
        """Count a request that has been received."""
        self._counts[label] = self._counts.get(label, 0) + 1

    def leave(self, label: str, answered: float | None = None) -> None:
        """Count a request that has ended. `answered` is the time of its end if it was answered successfully."""
        if answered is not None:
            self.answered[label] = answered
        else:
            self.given_up[label] = self.given_up.get(label, 0) + 1
        left = self._counts.pop(label, 1) - 1
        if left:
            self._counts[label] = left

    def label(self, model: str) -> str:
        """Return the label of a model's name."""
        return self._model_labels.label(model)

    def has_room(self, model: str, max_waiting: int) -> bool:
        """Return whether another request for a model could run, or wait as one of at most `max_waiting`."""
        return self._counts.get(self._model_labels.label(model), 0) < self._parallel + max_waiting

    def running(self) -> dict[str, int]:
        """Return the number of requests that use a slot, by model."""
        return {label: min(count, self._parallel) for label, count in self._local()}

    def waiting(self) -> dict[str, int]:
        """Return the number of requests that wait for a slot, by model."""
        return {label: max(0, count - self._parallel) for label, count in self._local()}

    def counts(self) -> dict[str, int]:
        """Return the number of all requests in flight, by model."""
        return dict(self._counts)

    def replace(self, parts: Iterable[Mapping[str, int]]) -> None:
        """Replace the counts by the sum of those of several processes."""
        total: Counter[str] = Counter()
        for part in parts:
            total.update(part)
        self._counts = dict(total)

    def _local(self) -> list[tuple[str, int]]:
        return [item for item in self._counts.items() if item[0] not in self._model_labels.remote]
