"""Turns the notes of an ended exchange into metrics and a record."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from http import HTTPStatus

from llmendpoint_common.contracts.sidecar import Operation, Outcome, RequestRecord, UnmeteredReason
from llmendpoint_common.wire.dialects.reading import Reading, Usage
from llmendpoint_common.wire.routes import METERED
from llmendpoint_sidecar.meter.exchange import ExchangeMeter, is_success
from llmendpoint_sidecar.meter.metrics import Metrics, Series
from llmendpoint_sidecar.meter.model_labels import OTHER, ModelLabels
from llmendpoint_sidecar.records.journal import Journal, plain_trace_parent

_NO_USAGE = Usage()
_ENDINGS = {"length": Outcome.LENGTH, "load": Outcome.LOAD, "unload": Outcome.UNLOAD}
_WHOLE = frozenset({Outcome.OK, Outcome.LENGTH})
#: Status of a request whose client left before there was a response. nginx uses the same status.
_CLIENT_CLOSED = 499


class Recorder:
    """Records exchanges that have ended."""

    def __init__(
        self, metrics: Metrics, model_labels: ModelLabels, journal: Journal, clock: Callable[[], float]
    ) -> None:
        self._metrics = metrics
        self._model_labels = model_labels
        self._journal = journal
        self._clock = clock
        self._epoch = 0.0
        self.begin()

    def begin(self) -> None:
        """Read the clocks before exchanges are recorded. Exchanges are recorded some time after they have ended."""
        #: Unix time at which the clock would have been 0.
        self._epoch = time.time() - self._clock()

    def settle(self, exchange: ExchangeMeter) -> None:
        """Record one exchange: it is counted once and has one record, whatever fails.

        Exceptions are counted by `ExchangeMeter.fail` and not raised.
        """
        reading = exchange.read()
        if reading is not None and exchange.operation is Operation.OTHER and not exchange.runs_model:
            # An unknown route that reports usage runs a model, whatever its request contains.
            exchange.runs_model = reading.usage is not None
            if not exchange.runs_model:
                reading, exchange.first = None, None
        outcome = _outcome_of(exchange, reading)
        name = exchange.model or (reading.model if reading is not None else "")
        label = self._model_labels.known(name)
        if label is not None:
            self._record(exchange, label, outcome, reading)
        elif name and is_success(exchange.status):
            self._model_labels.when_listed(
                name, lambda: self._record(exchange, self._label(exchange, name), outcome, reading)
            )
        else:
            self._record(exchange, self._label(exchange, name), outcome, reading)

    def _label(self, exchange: ExchangeMeter, name: str) -> str:
        try:
            return self._model_labels.counted(name)
        except Exception as error:
            exchange.fail(error)
            return OTHER

    def _record(self, exchange: ExchangeMeter, model: str, outcome: Outcome, reading: Reading | None) -> None:
        """Count a request, measure it, and write its record. A failed step affects no other step. Raises nothing."""
        status = exchange.status or _CLIENT_CLOSED
        self._metrics.count("requests", (model, exchange.operation, _text(status), outcome, exchange.tenant))
        usage = _NO_USAGE if reading is None or reading.usage is None else reading.usage
        queue, overhead = usage.queue_seconds, _overhead(exchange)
        try:
            if not exchange.runs_model:
                self._count_transfer(exchange, reading)
            elif reading is not None:
                series = self._metrics.series(model, exchange.operation)
                self._count_tokens((model, exchange.operation, exchange.tenant), outcome, reading)
                _observe_times(series, exchange, overhead)
                if usage is not _NO_USAGE:
                    _observe_usage(series, exchange, usage, queue)
        except Exception as error:
            exchange.fail(error)
        try:
            record = self._record_of(exchange, model, outcome, usage, queue, overhead)
        except Exception as error:
            exchange.fail(error)
            record = self._short_record_of(exchange, model, outcome)
        try:
            self._journal.add(record, exchange.ended)
        except Exception as error:
            exchange.fail(error)

    def _count_transfer(self, exchange: ExchangeMeter, reading: Reading | None) -> None:
        if exchange.operation is Operation.BLOB:
            # If a blob already exists, the status is 200 and the body is not stored.
            moved = exchange.request_bytes if exchange.status == HTTPStatus.CREATED else 0
        else:
            moved = 0 if reading is None else reading.transferred
        if moved:
            self._metrics.count("transfer_bytes", (exchange.operation,), moved)

    def _count_tokens(self, labels: tuple[str, Operation, str], outcome: Outcome, reading: Reading) -> None:
        metrics, usage = self._metrics, reading.usage
        if usage is not None:
            metrics.count("prompt_tokens", labels, usage.prompt_tokens or 0)
            metrics.count("generation_tokens", labels, usage.generation_tokens or 0)
            if usage.cached_tokens:
                metrics.count("prompt_cached_tokens", labels, usage.cached_tokens)
        elif outcome in _WHOLE:
            metrics.count("unmetered_requests", (labels[1], _unmetered_reason(labels[1], reading)))
        elif reading.chunks:
            # The response was cut off, so each piece with content counts as one token.
            metrics.count("generation_tokens", labels, reading.chunks)

    def _record_of(
        self,
        exchange: ExchangeMeter,
        model: str,
        outcome: Outcome,
        usage: Usage,
        queue: float | None,
        overhead: float | None,
    ) -> RequestRecord:
        # Positional arguments take half the time of keyword arguments, and this runs for every request.
        return RequestRecord(
            self._epoch + exchange.ended,
            exchange.request_id,
            exchange.tenant,
            model,
            exchange.operation,
            exchange.status or _CLIENT_CLOSED,
            outcome,
            exchange.ended - exchange.started,
            None if exchange.first is None else exchange.first - exchange.started,
            overhead,
            usage.prompt_tokens,
            usage.generation_tokens,
            usage.cached_tokens,
            queue,
            usage.load_seconds,
            usage.prefill_seconds,
            usage.decode_seconds,
            plain_trace_parent(exchange.trace_parent) if exchange.trace_parent else "",
            None if exchange.first is None else _time_per_output_token(exchange, usage),
            exchange.refusal_reason,
        )

    def _short_record_of(self, exchange: ExchangeMeter, model: str, outcome: Outcome) -> RequestRecord:
        """Return a record of what is known of every request."""
        return RequestRecord(
            self._epoch + exchange.ended,
            exchange.request_id,
            exchange.tenant,
            model,
            exchange.operation,
            exchange.status or _CLIENT_CLOSED,
            outcome,
            exchange.ended - exchange.started,
            refusal_reason=exchange.refusal_reason,
        )


def _outcome_of(exchange: ExchangeMeter, reading: Reading | None) -> Outcome:
    """Return the outcome. If the terminal event of a response has passed, what happened after it does not count.

    Clients close on the terminal event, without waiting for the end of the framing.
    """
    if reading is not None and (reading.finished or reading.failed):
        return Outcome.STREAM_ERROR if reading.failed else _ENDINGS.get(reading.reason, Outcome.OK)
    if exchange.outcome is not None:
        return exchange.outcome
    if exchange.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Outcome.UPSTREAM_5XX
    if exchange.status >= HTTPStatus.BAD_REQUEST:
        return Outcome.UPSTREAM_4XX
    return Outcome.OK if reading is None else Outcome.TRUNCATED


def _unmetered_reason(operation: Operation, reading: Reading) -> UnmeteredReason:
    if operation is Operation.OTHER:
        return UnmeteredReason.UNKNOWN_ROUTE
    # A response that is not metered can be a text.
    is_unreadable = reading.unreadable and operation in METERED
    return UnmeteredReason.UNREADABLE if is_unreadable else UnmeteredReason.NO_USAGE


def _overhead(exchange: ExchangeMeter) -> float | None:
    if exchange.sent is None or exchange.requested is None:
        return None
    return exchange.sent - exchange.requested


def _time_per_output_token(exchange: ExchangeMeter, usage: Usage) -> float | None:
    """Return the average time between output tokens of a stream. None if it has no times or too few tokens."""
    generated = usage.generation_tokens or 0
    if exchange.first is None or generated < 2:
        return None
    return (exchange.last - exchange.first) / (generated - 1)


def _observe_times(series: Series, exchange: ExchangeMeter, overhead: float | None) -> None:
    series["e2e_request_latency_seconds"].observe(exchange.ended - exchange.started, exchange.made_id)
    if overhead is not None:
        series["overhead_seconds"].observe(overhead)
    if exchange.first is not None:
        series["time_to_first_token_seconds"].observe(exchange.first - exchange.started, exchange.made_id)
    if exchange.gaps is not None:
        series["inter_chunk_latency_seconds"].merge(exchange.gaps)


def _observe_usage(series: Series, exchange: ExchangeMeter, usage: Usage, queue: float | None) -> None:
    series["request_prompt_tokens"].observe(usage.prompt_tokens or 0)
    series["request_generation_tokens"].observe(usage.generation_tokens or 0)
    if exchange.first is not None:
        per_token = _time_per_output_token(exchange, usage)
        if per_token is not None:
            series["request_time_per_output_token_seconds"].observe(per_token)
    if queue is not None:
        series["request_queue_time_seconds"].observe(queue)
        series["request_prefill_time_seconds"].observe(usage.prefill_seconds or 0.0)
        series["request_decode_time_seconds"].observe(usage.decode_seconds or 0.0)
        series["model_load_seconds"].observe(usage.load_seconds or 0.0)


_text = functools.cache(str)
