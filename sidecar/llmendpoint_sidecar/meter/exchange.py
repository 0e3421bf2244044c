"""The account of one exchange, and the one place where a failure of metering is swallowed."""

from __future__ import annotations

import functools
import logging
import time
from collections import Counter
from collections.abc import Callable
from http import HTTPStatus
from typing import Concatenate, ParamSpec

import msgspec

from llmendpoint_sidecar.contract import Operation, Outcome, RequestRecord
from llmendpoint_sidecar.meter.distributions import Distribution
from llmendpoint_sidecar.meter.journal import Journal, plain_trace_parent
from llmendpoint_sidecar.meter.metrics import INTER_CHUNK_BOUNDS, Labels, Metrics, Series
from llmendpoint_sidecar.meter.models import ModelDirectory
from llmendpoint_sidecar.meter.operations import METERED, TRANSFERS, dialect_of, is_stream, operation_of
from llmendpoint_sidecar.wire.asked import UnreadableRequestError, read_asked
from llmendpoint_sidecar.wire.events import Dialect, Reading, Usage

log = logging.getLogger(__name__)

_MAX_REQUEST_BYTES = 32 * 1024 * 1024
_BODIES = METERED | TRANSFERS
_NO_USAGE = Usage()
_ENDINGS = {"length": Outcome.LENGTH, "load": Outcome.LOAD, "unload": Outcome.UNLOAD}

P = ParamSpec("P")


class _Request(msgspec.Struct):
    """All that the meter wants of a request's body."""

    model: str = ""


_decode_request = msgspec.json.Decoder(_Request).decode


def _swallowed(
    method: Callable[Concatenate[ExchangeMeter, P], None],
) -> Callable[Concatenate[ExchangeMeter, P], None]:
    """Count a failure and stop metering this exchange: the stream goes on."""

    @functools.wraps(method)
    def guarded(self: ExchangeMeter, *args: P.args, **kwargs: P.kwargs) -> None:
        if self.broken:
            return
        try:
            method(self, *args, **kwargs)
        except Exception:
            self.broken = True
            self.meter.metrics.count("meter_failures", ())
            log.exception("metering failed; the stream goes on")

    return guarded  # type: ignore[return-value]


class Meter:
    """Opens the account of each exchange, and knows how many are in flight."""

    def __init__(
        self, metrics: Metrics, directory: ModelDirectory, clock: Callable[[], float], parallel: int = 1
    ) -> None:
        self.metrics = metrics
        self.directory = directory
        self.clock = clock
        self.in_flight: Counter[str] = Counter()
        self.journal = Journal(clock)
        self._parallel = parallel

    def begin(self, method: bytes, target: bytes) -> ExchangeMeter:
        """Open the account of a request whose head has just arrived."""
        return ExchangeMeter(self, operation_of(method, target))

    def running(self) -> dict[str, int]:
        """Requests that hold a slot, by model: Ollama runs `parallel` a model at once; remote models have no slots."""
        return {model: min(count, self._parallel) for model, count in self._local()}

    def waiting(self) -> dict[str, int]:
        """Requests that wait for a slot, by model: all others, since all traffic passes here."""
        return {model: max(0, count - self._parallel) for model, count in self._local()}

    def _local(self) -> list[tuple[str, int]]:
        return [item for item in self.in_flight.items() if item[0] not in self.directory.remote]


class ExchangeMeter:
    """The account of one exchange. Times are the meter's clock, in seconds."""

    __slots__ = (
        "_dialect",
        "_finished",
        "_first",
        "_flying",
        "_gaps",
        "_last",
        "_model",
        "_now",
        "_request",
        "_request_bytes",
        "_requested",
        "_sent",
        "_started",
        "_status",
        "_stream",
        "broken",
        "coding",
        "made_id",
        "meter",
        "operation",
        "request_id",
        "tenant",
        "tokens",
        "trace_parent",
    )

    def __init__(self, meter: Meter, operation: Operation) -> None:
        self.meter = meter
        self.operation = operation
        self.broken = False
        self.tenant = ""
        #: The client's own where it is a plain word, else one that the proxy made; empty where there is none.
        self.request_id = ""
        #: The same only where the proxy made it: what a client wrote is in no label, not even an exemplar's.
        self.made_id = ""
        self.trace_parent = b""
        #: The request's Content-Encoding.
        self.coding = b""
        #: Prompt and generated tokens, once the exchange is over.
        self.tokens = 0
        self._started = self._now = meter.clock()
        self._request: list[bytes] = []
        self._request_bytes = 0
        self._model = ""
        self._requested: float | None = None
        self._sent: float | None = None
        self._flying: str | None = None
        self._status = 0
        self._stream = False
        self._dialect: Dialect | None = None
        self._first: float | None = None
        self._last = 0.0
        self._gaps: Distribution | None = None
        self._finished = False

    @_swallowed
    def request_body(self, data: bytes) -> None:
        """See a piece of the request; past 32 MiB the model is learnt from the answer."""
        if self.operation is Operation.BLOB:
            self._request_bytes += len(data)
        elif self.operation in _BODIES:
            self._request_bytes += len(data)
            if self._request_bytes <= _MAX_REQUEST_BYTES:
                self._request.append(data)
            else:
                self._request.clear()

    @_swallowed
    def request_end(self, now: float) -> None:
        """Learn which model is asked for: from now on the request is in flight."""
        self._requested = now
        if self.operation not in _BODIES:
            return
        body, self._request = b"".join(self._request), []
        self._model = self._asked_model(body)
        if self.operation in TRANSFERS:
            return
        self._flying = self.meter.directory.label(self._model)
        self.meter.in_flight[self._flying] += 1

    def request_sent(self) -> None:
        """The request was handed to the upstream's connection; only the time of the whole request counts."""
        if self._requested is not None and self._sent is None:
            self._sent = self.meter.clock()

    def _asked_model(self, body: bytes) -> str:
        try:
            if not self.coding and (name := _decode_request(body).model):
                return name
            return read_asked(body, b"", self.coding).model
        except (msgspec.MsgspecError, UnreadableRequestError):
            return ""

    @_swallowed
    def response_head(self, status: int, content_type: bytes) -> None:
        """See the final status; only a success is read further."""
        self._status = status
        if status == 200 and self.operation in _BODIES:
            self._stream = is_stream(content_type)
            self._dialect = dialect_of(self.operation, content_type, self._on_content)

    @_swallowed
    def response_body(self, pieces: list[bytes], now: float) -> None:
        """See body bytes that arrived at `now`."""
        dialect = self._dialect
        if dialect is not None:
            self._now = now
            for piece in pieces:
                dialect.feed(piece)

    def finish(self, outcome: Outcome | None) -> None:
        """Close the account, once; None where the response came whole and says itself how it ended."""
        if self._finished:
            return
        self._finished = True
        self._land()
        self._account(outcome)

    def _land(self) -> None:
        if self._flying is not None:
            self.meter.in_flight[self._flying] -= 1
            if not self.meter.in_flight[self._flying]:
                del self.meter.in_flight[self._flying]

    @_swallowed
    def _account(self, outcome: Outcome | None) -> None:
        ended = self.meter.clock()
        reading = Reading()
        if self._dialect is not None:
            if outcome is None:
                self._now = ended
                self._dialect.close()
            reading = self._dialect.reading
        final = outcome or self._outcome_of(reading)
        self.tokens = _tokens_of(reading)
        name = self._model or reading.model
        if self._status == 200 and name:
            self.meter.directory.when_listed(name, lambda label: self._record(label, final, reading, ended))
        else:
            self._record(self.meter.directory.label(name), final, reading, ended)

    def _outcome_of(self, reading: Reading) -> Outcome:
        if self._status >= 500:
            return Outcome.UPSTREAM_5XX
        if self._status >= 400:
            return Outcome.UPSTREAM_4XX
        if self._dialect is None:
            return Outcome.OK
        if reading.failed:
            return Outcome.STREAM_ERROR
        if not reading.finished:
            return Outcome.TRUNCATED
        return _ENDINGS.get(reading.reason, Outcome.OK)

    @_swallowed
    def _record(self, model: str, outcome: Outcome, reading: Reading, ended: float) -> None:
        metrics, operation = self.meter.metrics, self.operation.value
        metrics.count("requests", (model, operation, str(self._status or 499), outcome.value, self.tenant))
        self._write_journal(model, outcome, reading, ended)
        if self.operation not in METERED:
            # A blob that was there already is answered 200, and its body is of no use.
            moved = self._request_bytes if self._status == HTTPStatus.CREATED else reading.transferred
            if moved:
                metrics.count("transfer_bytes", (operation,), moved)
            return
        if self._dialect is None:
            return
        series = metrics.series(model, operation)
        self._record_times(series, ended)
        if reading.usage is not None:
            self._record_usage(series, (model, operation, self.tenant), reading.usage)
        elif reading.chunks and outcome in (Outcome.CLIENT_CANCELLED, Outcome.TRUNCATED, Outcome.STREAM_ERROR):
            metrics.count("generation_tokens", (model, operation, self.tenant), reading.chunks)
        elif outcome in (Outcome.OK, Outcome.LENGTH):
            reason = "unreadable" if reading.unreadable else "no_usage"
            metrics.count("unmetered_requests", (operation, reason))

    def _write_journal(self, model: str, outcome: Outcome, reading: Reading, ended: float) -> None:
        usage = reading.usage or _NO_USAGE
        # By position: half the time of names, and this is done for every request.
        record = RequestRecord(
            time.time(),
            self.request_id,
            self.tenant,
            model,
            self.operation,
            self._status or 499,
            outcome,
            ended - self._started,
            None if self._first is None else self._first - self._started,
            self._overhead(),
            usage.prompt_tokens,
            usage.generation_tokens,
            usage.cached_tokens,
            usage.queue_seconds,
            usage.load_seconds,
            usage.prefill_seconds,
            usage.decode_seconds,
            plain_trace_parent(self.trace_parent) if self.trace_parent else "",
        )
        self.meter.journal.add(record, ended)

    def _overhead(self) -> float | None:
        if self._sent is None or self._requested is None:
            return None
        return self._sent - self._requested

    def _record_times(self, series: Series, ended: float) -> None:
        series["e2e_request_latency_seconds"].observe(ended - self._started, self.made_id)
        overhead = self._overhead()
        if overhead is not None:
            series["overhead_seconds"].observe(overhead)
        if self._stream and self._first is not None:
            series["time_to_first_token_seconds"].observe(self._first - self._started, self.made_id)
        if self._gaps is not None:
            series["inter_chunk_latency_seconds"].merge(self._gaps)

    def _record_usage(self, series: Series, labels: Labels, usage: Usage) -> None:
        metrics = self.meter.metrics
        prompt, generated = usage.prompt_tokens or 0, usage.generation_tokens or 0
        metrics.count("prompt_tokens", labels, prompt)
        metrics.count("generation_tokens", labels, generated)
        series["request_prompt_tokens"].observe(prompt)
        series["request_generation_tokens"].observe(generated)
        if usage.cached_tokens:
            metrics.count("prompt_cached_tokens", labels, usage.cached_tokens)
        if self._stream and self._first is not None and generated >= 2:
            per_token = (self._last - self._first) / (generated - 1)
            series["request_time_per_output_token_seconds"].observe(per_token)
        queue = usage.queue_seconds
        if queue is None:
            return
        series["request_queue_time_seconds"].observe(queue)
        series["request_prefill_time_seconds"].observe(usage.prefill_seconds or 0.0)
        series["request_decode_time_seconds"].observe(usage.decode_seconds or 0.0)
        series["model_load_seconds"].observe(usage.load_seconds or 0.0)

    def _on_content(self) -> None:
        if self._first is None:
            self._first = self._now
        else:
            if self._gaps is None:
                self._gaps = Distribution(INTER_CHUNK_BOUNDS)
            self._gaps.observe(self._now - self._last)
        self._last = self._now


def _tokens_of(reading: Reading) -> int:
    """Return prompt and generated tokens as counted; of a stream that was cut, the pieces seen."""
    if reading.usage is None:
        return reading.chunks
    return (reading.usage.prompt_tokens or 0) + (reading.usage.generation_tokens or 0)
