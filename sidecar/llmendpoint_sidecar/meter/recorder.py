"""Turns the notes of an ended exchange into metrics and a record."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from http import HTTPStatus

from llmendpoint_common.contracts.sidecar import Outcome, RequestRecord
from llmendpoint_common.wire.dialects.reading import Reading, Usage
from llmendpoint_common.wire.routes import METERED
from llmendpoint_sidecar.meter.exchange import ExchangeMeter
from llmendpoint_sidecar.meter.metrics import Labels, Metrics, Series
from llmendpoint_sidecar.meter.model_labels import ModelLabels
from llmendpoint_sidecar.records.journal import Journal, plain_trace_parent

_NO_USAGE = Usage()
_NO_READING = Reading()
_ENDINGS = {"length": Outcome.LENGTH, "load": Outcome.LOAD, "unload": Outcome.UNLOAD}
#: Outcomes of responses that were cut off. Without usage, each piece with content counts as one token.
_CUT = frozenset({Outcome.CLIENT_CANCELLED, Outcome.TRUNCATED, Outcome.STREAM_ERROR})
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

    def settle(self, exchange: ExchangeMeter) -> None:
        """Record one exchange. Exceptions are counted by `ExchangeMeter.fail` and not raised."""
        try:
            self._settle(exchange)
        except Exception as error:
            exchange.fail(error)

    def _settle(self, exchange: ExchangeMeter) -> None:
        reading = exchange.read()
        if exchange.broken:
            return
        outcome = exchange.outcome or _outcome_of(exchange.status, reading)
        name = exchange.model or (reading.model if reading is not None else "")
        model_labels = self._model_labels
        if exchange.status != 200 or not name:
            self._record(exchange, model_labels.label(name), outcome, reading)
        elif (label := model_labels.known(name)) is not None:
            self._record(exchange, label, outcome, reading)
        else:
            model_labels.when_listed(name, lambda label: self._record_later(exchange, label, outcome, reading))

    def _record_later(self, exchange: ExchangeMeter, model: str, outcome: Outcome, reading: Reading | None) -> None:
        try:
            self._record(exchange, model, outcome, reading)
        except Exception as error:
            exchange.fail(error)

    def _record(self, exchange: ExchangeMeter, model: str, outcome: Outcome, reading: Reading | None) -> None:
        metrics, operation = self._metrics, exchange.operation
        status = exchange.status or _CLIENT_CLOSED
        metrics.count("requests", (model, operation, _text(status), outcome, exchange.tenant))
        usage = _NO_USAGE if reading is None or reading.usage is None else reading.usage
        queue, overhead = usage.queue_seconds, _overhead(exchange)
        self._write_journal(exchange, model, outcome, usage, queue, overhead)
        if operation not in METERED:
            # If a blob already exists, the status is 200 and the body is not stored.
            moved = exchange.request_bytes if status == HTTPStatus.CREATED else (reading or _NO_READING).transferred
            if moved:
                metrics.count("transfer_bytes", (operation,), moved)
            return
        if reading is None:
            return
        series = metrics.series(model, operation)
        _record_times(series, exchange, overhead)
        if reading.usage is not None:
            self._record_usage(series, (model, operation, exchange.tenant), exchange, usage)
            if queue is not None:
                _record_durations(series, usage, queue)
        elif reading.chunks and outcome in _CUT:
            metrics.count("generation_tokens", (model, operation, exchange.tenant), reading.chunks)
        elif outcome in _WHOLE:
            reason = "unreadable" if reading.unreadable else "no_usage"
            metrics.count("unmetered_requests", (operation, reason))

    def _write_journal(
        self,
        exchange: ExchangeMeter,
        model: str,
        outcome: Outcome,
        usage: Usage,
        queue: float | None,
        overhead: float | None,
    ) -> None:
        # Positional arguments take half the time of keyword arguments, and this runs for every request.
        record = RequestRecord(
            # Exchanges are recorded some time after they have ended.
            time.time() - (self._clock() - exchange.ended),
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
        )
        self._journal.add(record, exchange.ended)

    def _record_usage(self, series: Series, labels: Labels, exchange: ExchangeMeter, usage: Usage) -> None:
        metrics = self._metrics
        prompt, generated = usage.prompt_tokens or 0, usage.generation_tokens or 0
        metrics.count("prompt_tokens", labels, prompt)
        metrics.count("generation_tokens", labels, generated)
        series["request_prompt_tokens"].observe(prompt)
        series["request_generation_tokens"].observe(generated)
        if usage.cached_tokens:
            metrics.count("prompt_cached_tokens", labels, usage.cached_tokens)
        if exchange.stream and exchange.first is not None and generated >= 2:
            per_token = (exchange.last - exchange.first) / (generated - 1)
            series["request_time_per_output_token_seconds"].observe(per_token)


def _record_durations(series: Series, usage: Usage, queue: float) -> None:
    series["request_queue_time_seconds"].observe(queue)
    series["request_prefill_time_seconds"].observe(usage.prefill_seconds or 0.0)
    series["request_decode_time_seconds"].observe(usage.decode_seconds or 0.0)
    series["model_load_seconds"].observe(usage.load_seconds or 0.0)


def _outcome_of(status: int, reading: Reading | None) -> Outcome:
    if status >= 500:
        return Outcome.UPSTREAM_5XX
    if status >= 400:
        return Outcome.UPSTREAM_4XX
    if reading is None:
        return Outcome.OK
    if reading.failed:
        return Outcome.STREAM_ERROR
    if not reading.finished:
        return Outcome.TRUNCATED
    return _ENDINGS.get(reading.reason, Outcome.OK)


def _overhead(exchange: ExchangeMeter) -> float | None:
    if exchange.sent is None or exchange.requested is None:
        return None
    return exchange.sent - exchange.requested


def _record_times(series: Series, exchange: ExchangeMeter, overhead: float | None) -> None:
    series["e2e_request_latency_seconds"].observe(exchange.ended - exchange.started, exchange.made_id)
    if overhead is not None:
        series["overhead_seconds"].observe(overhead)
    if exchange.stream and exchange.first is not None:
        series["time_to_first_token_seconds"].observe(exchange.first - exchange.started, exchange.made_id)
    if exchange.gaps is not None:
        series["inter_chunk_latency_seconds"].merge(exchange.gaps)


_text = functools.cache(str)
