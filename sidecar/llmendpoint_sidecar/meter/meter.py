"""The meter of one process. It creates the notes of each exchange, and records the exchanges that have ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from llmendpoint_common.contracts.sidecar import RequestRecord
from llmendpoint_common.wire.routes import operation_of
from llmendpoint_sidecar.meter.bodies import BodyQueue
from llmendpoint_sidecar.meter.exchange import ExchangeMeter
from llmendpoint_sidecar.meter.in_flight import InFlight
from llmendpoint_sidecar.meter.metrics import Metrics
from llmendpoint_sidecar.meter.model_labels import ModelLabels
from llmendpoint_sidecar.meter.recorder import Recorder
from llmendpoint_sidecar.records.journal import Journal

#: Ended exchanges are recorded in batches of this size, or after this time, when their bytes have been sent.
_BATCH = 32
_SETTLE_SECONDS = 0.2


class Meter:
    """The meter of one process. Reading metrics or records first records all ended exchanges (`settle`)."""

    def __init__(
        self,
        metrics: Metrics,
        model_labels: ModelLabels,
        clock: Callable[[], float],
        parallel: int = 1,
        journal: Journal | None = None,
    ) -> None:
        self.metrics = metrics
        self.model_labels = model_labels
        self.in_flight = InFlight(model_labels, parallel)
        self.bodies = BodyQueue()
        self.clock = clock
        self.journal = journal or Journal(clock)
        self._recorder = Recorder(metrics, model_labels, self.journal, clock)
        self._ended: list[ExchangeMeter] = []
        metrics.before_read = self.settle

    def begin(self, method: bytes, target: bytes) -> ExchangeMeter:
        """Return the notes of a request whose head has just been received."""
        return ExchangeMeter(self, operation_of(method, target), method == b"POST")

    def add_ended(self, exchange: ExchangeMeter) -> None:
        """Keep an exchange that has ended until it is recorded."""
        self._ended.append(exchange)
        if len(self._ended) >= _BATCH:
            self.settle()

    def settle(self) -> None:
        """Record every exchange that has ended."""
        if not self._ended:
            return
        ended, self._ended = self._ended, []
        self._recorder.begin()
        for exchange in ended:
            self._recorder.settle(exchange)

    def close(self) -> None:
        """Record every exchange that has ended, also those that wait for a poll or for their request's body."""
        self.bodies.give_up_all()
        self.settle()
        self.model_labels.settle()

    async def run(self) -> None:
        """Call `settle` at an interval, for the access log and OTLP, which do not read by themselves."""
        while True:
            await asyncio.sleep(_SETTLE_SECONDS)
            self.settle()

    def find(self, request_id: str, tenant: str | None = None) -> list[RequestRecord]:
        """Return the records of requests that ended within the last two minutes, at most one for each tenant."""
        self.settle()
        return self.journal.find(request_id, tenant)

    def last(self, after: float, limit: int) -> list[RequestRecord]:
        """Return the last records of requests that ended after a Unix time, at most `limit`, in order of their ends."""
        self.settle()
        return self.journal.last(after, limit)
