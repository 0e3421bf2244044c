"""Notes on an exchange while it runs: times, and the bytes of the request and of the response.

The notes are read in batches, and turned into metrics after the exchange has ended (`recorder`), so that bytes are
forwarded first.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from http import HTTPStatus
from operator import sub
from typing import NamedTuple, Protocol

import msgspec

from llmendpoint_common.contracts.sidecar import Operation, Outcome, RefusalReason
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
    chunks:   pieces of the response that had content, or that could not be read; each is at least one token
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


class ExchangeMeter:
    """Notes of one exchange. Times are readings of the meter's clock, in seconds."""

    __slots__ = (
        "_arrivals",
        "_content_type",
        "_dialect",
        "_is_unreadable",
        "_label",
        "_meter",
        "_reading",
        "_reads",
        "_request",
        "_unread",
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
        "refusal_reason",
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
        # The response. `outcome` is None if the response is complete. The content of a response determines its outcome
        # if it is complete, or if its terminal event has passed.
        self.status = 0
        self.outcome: Outcome | None = None
        #: Set if the proxy refused the request.
        self.refusal_reason: RefusalReason | None = None
        self.finished = self.stream = self._reads = False
        #: Pieces of the response with their times of arrival. The data path appends to this list without a call of
        #: ours.
        self.noted: list[tuple[float, bytes]] = []
        self._content_type = b""
        self._dialect: Dialect | None = None
        self._reading: Reading | None = None
        #: True if the meter failed while it read the response. `_unread` counts the pieces that were not read.
        self._is_unreadable = False
        self._unread = 0
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

    def request_end(self, now: float) -> None:
        """Read the name of the model. From now on, the request is in flight."""
        self.requested = now
        if self.operation not in _READ_OPERATIONS:
            return
        try:
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
        if is_success(status) and self.operation in _READ_OPERATIONS:
            self._reads = True
            self.stream = is_stream(content_type)
            self._content_type = content_type

    def read_noted(self) -> None:
        """Read the noted pieces, or discard them if the response is not read."""
        noted = self.noted
        if self._is_unreadable:
            self._unread += len(noted)
        elif self._reads:
            try:
                feed = (self._dialect or self._start_reading()).feed
                for now, piece in noted:
                    feed(piece, now)
                self._fold()
            except Exception as error:
                self._is_unreadable = True
                self._unread += len(noted)
                self.fail(error)
        noted.clear()

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

    def read(self) -> Reading | None:
        """Return what was read of the response of a finished exchange. None if the response is not of a kind that is
        read.

        If the meter fails, the reading has what was read before, and `unreadable` is greater than 0.
        """
        if self._reads and self._reading is None:
            self.read_noted()
            self._reading = self._close_reading()
        return self._reading

    def spent(self) -> Spent:
        """Return what is known about the tokens of a finished exchange."""
        # The proxy answers 504 for an upstream that is late, but may have run the request.
        refused = self.status >= HTTPStatus.BAD_REQUEST and self.outcome is not Outcome.UPSTREAM_TIMEOUT
        served = self.sent is not None and not refused
        reading = self.read()
        if reading is None:
            return Spent(None, 0, served)
        counted, usage = None, reading.usage
        # A stream that was cut off may have reported preliminary counts only.
        if usage is not None and reading.finished:
            counted = (usage.prompt_tokens or 0) + (usage.generation_tokens or 0)
        return Spent(counted, reading.chunks + reading.unreadable, served)

    def fail(self, error: Exception) -> None:
        """Count a failure of the meter itself. The stream continues, and the request is counted all the same.

        The message of the error is not logged, because it may contain text of a client.
        """
        self._meter.metrics.count("meter_failures", ())
        where = "".join(traceback.format_tb(error.__traceback__))
        log.error("a part of a request could not be metered: %s\n%s", type(error).__name__, where)

    # ---- inside

    def _model_of_request(self) -> str:
        body, self._request = b"".join(self._request), []
        try:
            if not self.coding and (name := _decode_request(body).model):
                return name
            return read_request_body(body, b"", self.coding).model
        except (*UNREADABLE, RequestBodyError):
            return ""

    def _start_reading(self) -> Dialect:
        # The time of content is that of a token only in a stream.
        on_content = self._arrivals.append if self.stream else _ignore
        self._dialect = dialect_of(self.operation, self._content_type, on_content)
        return self._dialect

    def _close_reading(self) -> Reading:
        """Read what waits for the end of the response, and return the reading."""
        reading = Reading() if self._dialect is None else self._dialect.reading
        if self._dialect is not None and not self._is_unreadable:
            try:
                self._close_dialect(self._dialect)
            except Exception as error:
                self._is_unreadable = True
                self._unread += 1
                self.fail(error)
        usage = reading.usage
        if usage is not None and not reading.finished and not (usage.prompt_tokens or usage.generation_tokens):
            # `/v1/completions` sends a usage of zero with each piece, and the true one last.
            reading.usage = None
        reading.unreadable += self._unread
        if self._is_unreadable and self.outcome is None:
            reading.finished = True
        return reading

    def _close_dialect(self, dialect: Dialect) -> None:
        reading = dialect.reading
        unreadable, finished = reading.unreadable, reading.finished
        dialect.close(self.ended)
        if self.outcome is not None and reading.unreadable > unreadable:
            # The last part was cut off, which is no fault of it.
            reading.unreadable, reading.finished = unreadable, finished
        self._fold()

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


def is_success(status: int) -> bool:
    """Return whether a status code is that of a successful response (RFC 9110, 15.3)."""
    return 200 <= status < 300


def _ignore(now: float) -> None:
    """Ignore the time of content that is not part of a stream."""
