"""What is noted of one exchange while it runs. Reading the notes is left for later (`account`): bytes go first."""

from __future__ import annotations

import logging
from operator import sub
from typing import TYPE_CHECKING

import msgspec

from llmendpoint_common.contracts.sidecar import Operation, Outcome
from llmendpoint_common.process.errors import RequestBodyError
from llmendpoint_common.wire.decoding import UNREADABLE
from llmendpoint_common.wire.dialects.reading import Dialect, Reading
from llmendpoint_common.wire.request_body import read_request_body
from llmendpoint_common.wire.routes import METERED, TRANSFERS, dialect_of, is_stream
from llmendpoint_sidecar.meter.histogram import Histogram
from llmendpoint_sidecar.meter.metrics import INTER_CHUNK_BOUNDS

if TYPE_CHECKING:
    from llmendpoint_sidecar.meter.meter import Meter

log = logging.getLogger(__name__)

_MAX_REQUEST_BYTES = 32 * 1024 * 1024
_BODIES = METERED | TRANSFERS
#: Pieces of an answer are read this many at a time, which halves the work; a large one is read at once.
BATCH = 32
LARGE_BYTES = 4096


class _Request(msgspec.Struct):
    """All that the meter wants of a request's body."""

    model: str = ""


_decode_request = msgspec.json.Decoder(_Request).decode


class ExchangeMeter:
    """The notes of one exchange. Times are the meter's clock, in seconds."""

    __slots__ = (
        "_arrivals",
        "_content_type",
        "_dialect",
        "_flying",
        "_reads",
        "_request",
        "_tokens",
        "broken",
        "coding",
        "ended",
        "finished",
        "first",
        "gaps",
        "last",
        "made_id",
        "meter",
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
        self.meter = meter
        self.operation = operation
        self.broken = self.finished = self.stream = self._reads = False
        self.tenant = self.model = ""
        #: The client's own where it is a plain word, else one that the proxy made; empty where there is none.
        self.request_id = ""
        #: The same only where the proxy made it: what a client wrote is in no label, not even an exemplar's.
        self.made_id = ""
        self.trace_parent = b""
        #: The request's Content-Encoding.
        self.coding = b""
        self.started = meter.clock()
        self.requested: float | None = None
        self.sent: float | None = None
        self.ended = 0.0
        #: None where the response came whole and says itself how it ended.
        self.outcome: Outcome | None = None
        self.status = 0
        self.request_bytes = 0
        #: First and last piece of content, and the gaps between them all.
        self.first: float | None = None
        self.last = 0.0
        self.gaps: Histogram | None = None
        self._request: list[bytes] = []
        self._flying: str | None = None
        #: Where the data path leaves the pieces of an answer and the times when they came: one append, no call.
        self.noted: list[tuple[float, bytes]] = []
        self._tokens: int | None = None

    def request_body(self, data: bytes) -> None:
        """Note a piece of the request; past 32 MiB the model is learnt from the answer."""
        operation = self.operation
        if operation in _BODIES:
            self.request_bytes += len(data)
            self._request.append(data)
            if self.request_bytes > _MAX_REQUEST_BYTES:
                self._request.clear()
        elif operation is Operation.BLOB:
            self.request_bytes += len(data)

    def request_end(self, now: float) -> None:
        """Learn which model is asked for: from now on the request is in flight."""
        self.requested = now
        if self.operation not in _BODIES:
            return
        try:
            self.model = self._asked_model()
            if self.operation not in TRANSFERS:
                self._flying = flying = self.meter.model_labels.label(self.model)
                self.meter.in_flight[flying] += 1
        except Exception as error:
            self.fail(error)

    def request_sent(self) -> None:
        """The request was handed to the upstream's connection; only the time of the whole request counts."""
        if self.requested is not None and self.sent is None:
            self.sent = self.meter.clock()

    def response_head(self, status: int, content_type: bytes) -> None:
        """Note the final status; only a success is read further."""
        self.status = status
        if status == 200 and self.operation in _BODIES:
            self._reads = True
            self.stream = is_stream(content_type)
            self._dialect: Dialect | None = None
            self._content_type = content_type

    def read_noted(self) -> None:
        """Read the pieces that were noted, or forget them where there is nothing to learn."""
        if not self._reads:
            self.noted.clear()
            return
        try:
            if self._dialect is None:
                self._arrivals: list[float] = []
                self._dialect = dialect_of(self.operation, self._content_type, self._arrivals.append)
            feed = self._dialect.feed
            for now, piece in self.noted:
                feed(piece, now)
            self._fold()
        except Exception as error:
            self.fail(error)
        self.noted.clear()

    def finish(self, outcome: Outcome | None) -> None:
        """Close the notes, once; they are accounted for with others, or when somebody looks."""
        if self.finished:
            return
        self.finished = True
        self.outcome = outcome
        self.ended = self.meter.clock()
        if self._flying is not None:
            in_flight = self.meter.in_flight
            in_flight[self._flying] -= 1
            if not in_flight[self._flying]:
                del in_flight[self._flying]
        self.meter.add_ended(self)

    @property
    def tokens(self) -> int:
        """Prompt and generated tokens of a finished exchange, as they are counted."""
        if self._tokens is None:
            self.meter.settle()
        return self._tokens or 0

    def fail(self, error: Exception) -> None:
        """Count a failure of the meter itself and stop metering this exchange: the stream goes on."""
        self.broken = True
        self._reads = False
        self.meter.metrics.count("meter_failures", ())
        log.error("metering failed; the stream goes on", exc_info=error)

    def read(self) -> Reading | None:
        """Return what a finished exchange's answer told; None where there was nothing to read."""
        if not self._reads:
            return None
        self.read_noted()
        dialect = self._dialect
        if dialect is None or self.broken:
            return None
        if self.outcome is None:
            dialect.close(self.ended)
            self._fold()
        self._tokens = _tokens_of(dialect.reading)
        return dialect.reading

    # ---- inside

    def _asked_model(self) -> str:
        body, self._request = b"".join(self._request), []
        try:
            if not self.coding and (name := _decode_request(body).model):
                return name
            return read_request_body(body, b"", self.coding).model
        except (*UNREADABLE, RequestBodyError):
            return ""

    def _fold(self) -> None:
        """Turn times of content into gaps between them."""
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


def _tokens_of(reading: Reading) -> int:
    """Return prompt and generated tokens as counted; of a stream that was cut, the pieces seen."""
    if reading.usage is None:
        return reading.chunks
    return (reading.usage.prompt_tokens or 0) + (reading.usage.generation_tokens or 0)
