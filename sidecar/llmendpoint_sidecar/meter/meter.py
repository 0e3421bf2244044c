"""Opens the notes of each exchange, knows what is in flight, and settles what has ended."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

from llmendpoint_common.contracts.sidecar import RequestRecord
from llmendpoint_common.wire.routes import operation_of
from llmendpoint_sidecar.meter.exchange import ExchangeMeter
from llmendpoint_sidecar.meter.metrics import Metrics
from llmendpoint_sidecar.meter.model_labels import ModelLabels
from llmendpoint_sidecar.meter.recorder import Recorder
from llmendpoint_sidecar.records.journal import Journal

#: Ended exchanges are accounted for this many at a time, after their bytes; and at the latest after this long.
_BATCH = 32
_SETTLE_SECONDS = 0.2


class Meter:
    """The meter of one process. Whoever reads its numbers sees every exchange that has ended."""

    def __init__(
        self, metrics: Metrics, model_labels: ModelLabels, clock: Callable[[], float], parallel: int = 1
    ) -> None:
        self.metrics = metrics
        self.model_labels = model_labels
        self.clock = clock
        self.in_flight: Counter[str] = Counter()
        self.journal = Journal(clock)
        self._recorder = Recorder(metrics, model_labels, self.journal)
        self._parallel = parallel
        self._ended: list[ExchangeMeter] = []
        metrics.before_read = self.settle

    def begin(self, method: bytes, target: bytes) -> ExchangeMeter:
        """Open the notes of a request whose head has just arrived."""
        return ExchangeMeter(self, operation_of(method, target))

    def add_ended(self, exchange: ExchangeMeter) -> None:
        """Take an exchange that has ended."""
        self._ended.append(exchange)
        if len(self._ended) >= _BATCH:
            self.settle()

    def settle(self) -> None:
        """Account for every exchange that has ended."""
        ended, self._ended = self._ended, []
        for exchange in ended:
            self._recorder.settle(exchange)

    async def run(self) -> None:
        """Settle again and again, for those who are told and do not ask: the access log, spans."""
        while True:
            await asyncio.sleep(_SETTLE_SECONDS)
            self.settle()

    def find(self, request_id: str) -> RequestRecord | None:
        """Return the record of a request that ended within the last two minutes."""
        self.settle()
        return self.journal.find(request_id)

    def running(self) -> dict[str, int]:
        """Requests that hold a slot, by model: Ollama runs `parallel` a model at once; remote models have no slots."""
        return {model: min(count, self._parallel) for model, count in self._local()}

    def waiting(self) -> dict[str, int]:
        """Requests that wait for a slot, by model: all others, since all traffic passes here."""
        return {model: max(0, count - self._parallel) for model, count in self._local()}

    def _local(self) -> list[tuple[str, int]]:
        return [item for item in self.in_flight.items() if item[0] not in self.model_labels.remote]
