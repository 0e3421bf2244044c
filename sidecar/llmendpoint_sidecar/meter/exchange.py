"""Notes on an exchange while it runs: times, and the bytes of the request and of the response.

The notes are read in batches, and turned into metrics after the exchange has ended (`recorder`), so that bytes are
forwarded first.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from operator import sub
from typing import NamedTuple, Protocol

import msgspec

from llmendpoint_common.contracts.sidecar import Operation, Outcome
from llmendpoint_common.process.errors import RequestBodyError
from llmendpoint_common.wire.decoding import UNREADABLE
from llmendpoint_common.wire.dialects.reading import Dialect, Reading
from llmendpoint_common.wire.request_body import read_request_body
from llmendpoint_common.wire.routes import METERED, TRANSFERS, dialect_of, is_stream
from llmendpoint_sidecar.meter.families import INTER_CHUNK_BOUNDS
from llmendpoint_sidecar.meter.histogram import Histogram
from llmendpoint_sidecar.meter.in_flight import InFlight
from llmendpoint_sidecar.meter.metrics import Metrics
from llmendpoint_sidecar.meter.model_labels import ModelLabels

log = logging.getLogger(__name__)

#: Longer requests are not kept; their model is taken from the response. Prompts with images have several MiB.
_MAX_REQUEST_BYTES = 32 * 1024 * 1024
#: Operations whose request names a model and whose response is read.
_READ_OPERATIONS = METERED | TRANSFERS
#: Pieces of a response are read in batches of this size, which halves the work, or as soon as a piece is large.
BATCH = 32
LARGE_BYTES = 4096


class Spent(NamedTuple):
    """What is known about the tokens of an exchange that has ended.

    counted:  prompt and generated tokens as reported by the server, or None if it did not report them
    chunks:   pieces of the response that had content; each is at least one token
    served:   whether the upstream has run the request, or may have: it was sent, and it was not refused
    """

    counted: int | None
    chunks: int
    served: bool


class _Request(msgspec.Struct):
    """The field of a request body that the meter reads."""

    model: str = ""


_decode_request = msgspec.json.Decoder(_Request).decode


class Meter(Protocol):
    """The part of the meter that an exchange uses."""

    metrics: Metrics
    model_labels: ModelLabels
    in_flight: InFlight
    clock: Callable[[], float]

    def add_ended(self, exchange: ExchangeMeter) -> None:
        """Keep an exchange that has ended until it is recorded."""

    def settle(self) -> None:
        """Record every exchange that has ended."""


class ExchangeMeter:
    """Notes of one exchange. Times are readings of the meter's clock, in seconds."""

    __slots__ = (
        "_arrivals",
        "_chunks",
        "_content_type",
        "_counted",
        "_dialect",
        "_label",
        "_meter",
        "_reads",
        "_request",
        "broken",
        "coding",
        "ended",
        "finished",
        "first",
        "gaps",
        "last",
        "made_id",
        "model",
        "noted",
        "operation",
        "outcome",
        "request_bytes",
        "request_id",
        "requested",
        "sent",
        "started",
        "status",
        "stream",
        "tenant",
        "trace_parent",
    )

    def __init__(self, meter: Meter, operation: Operation) -> None:
        self._meter = meter
        self.operation = operation
        # The request.
        self.tenant = self.model = ""
        #: The client's ID if `is_plain_id` accepts it, or an ID that the proxy made. Empty if the client's is not
        #: accepted.
        self.request_id = ""
        #: The request ID if the proxy made it, for exemplars. A label, also of an exemplar, never contains a client's
        #: text.
        self.made_id = ""
        self.trace_parent = b""
        #: The request's Content-Encoding.
        self.coding = b""
        self.request_bytes = 0
        self._request: list[bytes] = []
        #: The model's label while the request is in flight.
        self._label: str | None = None
        # Times: arrival of the head, of the whole request, its hand-over to the upstream, and the end.
        self.started = meter.clock()
        self.requested: float | None = None
        self.sent: float | None = None
        self.ended = 0.0
        # The response. `outcome` is None if the response is complete; then its content determines the outcome.
        self.status = 0
        self.outcome: Outcome | None = None
        self.broken = self.finished = self.stream = self._reads = False
        #: Pieces of the response with their times of arrival. The data path appends to this list without a call of
        #: ours.
        self.noted: list[tuple[float, bytes]] = []
        self._content_type = b""
        self._dialect: Dialect | None = None
        self._chunks = 0
        self._counted: int | None = None
        #: Arrivals of content that are not counted yet; the first and the last arrival; the gaps between arrivals.
        self._arrivals: list[float] = []
        self.first: float | None = None
        self.last = 0.0
        self.gaps: Histogram | None = None

    def request_body(self, data: bytes) -> None:
        """Note a piece of the request body."""
        operation = self.operation
        if operation in _READ_OPERATIONS:
            self.request_bytes += len(data)
            self._request.append(data)
            if self.request_bytes > _MAX_REQUEST_BYTES:
                self._request.clear()
        elif operation is Operation.BLOB:
            self.request_bytes += len(data)

    def request_read(self, model: str, size: int) -> None:
        """Note a request body that admission has read: the model in it, and its size in bytes."""
        self.model = model
        self.request_bytes = size

    def request_end(self, now: float) -> None:
        """Read the name of the model. From now on, the request is in flight."""
        self.requested = now
        if self.operation not in _READ_OPERATIONS:
            return
        try:
            if self._request:
                self.model = self._model_of_request()
            if self.operation not in TRANSFERS:
                self._label = self._meter.model_labels.label(self.model)
                self._meter.in_flight.enter(self._label)
        except Exception as error:
            self.fail(error)

    def request_sent(self) -> None:
        """Note that the complete request was written to the connection to the upstream."""
        if self.requested is not None and self.sent is None:
            self.sent = self._meter.clock()

    def response_head(self, status: int, content_type: bytes) -> None:
        """Note the final status. Only the body of a successful response is read."""
        self.status = status
        if status == 200 and self.operation in _READ_OPERATIONS:
            self._reads = True
            self.stream = is_stream(content_type)
            self._content_type = content_type

    def read_noted(self) -> None:
        """Read the noted pieces, or discard them if the response is not read."""
        if not self._reads:
            self.noted.clear()
            return
        try:
            if self._dialect is None:
                self._dialect = dialect_of(self.operation, self._content_type, self._arrivals.append)
            feed = self._dialect.feed
            for now, piece in self.noted:
                feed(piece, now)
            self._fold()
        except Exception as error:
            self.fail(error)
        self.noted.clear()

    def finish(self, outcome: Outcome | None) -> None:
        """Close the notes, once. They are recorded with the next batch, or when metrics are read."""
        if self.finished:
            return
        self.finished = True
        self.outcome = outcome
        self.ended = self._meter.clock()
        if self._label is not None:
            self._meter.in_flight.leave(self._label)
        self._meter.add_ended(self)

    def spent(self) -> Spent:
        """Return what is known about the tokens of a finished exchange."""
        self._meter.settle()
        # The proxy answers 504 for an upstream that is late, but may have run the request.
        refused = self.status >= 400 and self.outcome is not Outcome.UPSTREAM_TIMEOUT
        return Spent(self._counted, self._chunks, self.sent is not None and not refused)

    def fail(self, error: Exception) -> None:
        """Count a failure of the meter itself, and stop metering this exchange. The stream continues."""
        self.broken = True
        self._reads = False
        self._meter.metrics.count("meter_failures", ())
        log.error("metering of a request failed; the request itself continues", exc_info=error)

    def read(self) -> Reading | None:
        """Return the reading of the response of a finished exchange, or None if the response was not read."""
        if not self._reads:
            return None
        self.read_noted()
        dialect = self._dialect
        if dialect is None or self.broken:
            return None
        if self.outcome is None:
            dialect.close(self.ended)
            self._fold()
        reading = dialect.reading
        self._chunks = reading.chunks
        # A stream that was cut off may have reported preliminary counts only, for example zeros.
        if reading.usage is not None and reading.finished:
            self._counted = (reading.usage.prompt_tokens or 0) + (reading.usage.generation_tokens or 0)
        return reading

    # ---- inside

    def _model_of_request(self) -> str:
        body, self._request = b"".join(self._request), []
        try:
            if not self.coding and (name := _decode_request(body).model):
                return name
            return read_request_body(body, b"", self.coding).model
        except (*UNREADABLE, RequestBodyError):
            return ""

    def _fold(self) -> None:
        """Turn arrivals of content into the gaps between them."""
        arrivals = self._arrivals
        if not arrivals:
            return
        if self.first is None:
            self.first = arrivals[0]
        else:
            arrivals.insert(0, self.last)
        self.last = arrivals[-1]
        if len(arrivals) > 1:
            if self.gaps is None:
                self.gaps = Histogram(INTER_CHUNK_BOUNDS)
            self.gaps.observe_all(map(sub, arrivals[1:], arrivals))
        arrivals.clear()
