"""Notes on an exchange while it runs: times, and the bytes of the request and of the response.

The notes are read in batches, and turned into metrics after the exchange has ended (`recorder`), so that bytes are
forwarded first.
"""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Callable, Sequence
from http import HTTPStatus
from operator import sub
from typing import NamedTuple, Protocol

from llmendpoint_common.contracts.sidecar import Operation, Outcome, RefusalReason
from llmendpoint_common.process.errors import RequestBodyError
from llmendpoint_common.wire.dialects.reading import Dialect, Reading
from llmendpoint_common.wire.http1.request_reader import RequestHead
from llmendpoint_common.wire.request_body import BodyReader, RequestFacts
from llmendpoint_common.wire.routes import METERED, TRANSFERS, WITH_MODEL, dialect_of, form_of, is_stream
from llmendpoint_sidecar.meter.bodies import BodyQueue, LargeBody, model_of_ordinary
from llmendpoint_sidecar.meter.families import INTER_CHUNK_BOUNDS
from llmendpoint_sidecar.meter.histogram import Histogram
from llmendpoint_sidecar.meter.in_flight import InFlight
from llmendpoint_sidecar.meter.metrics import Metrics
from llmendpoint_sidecar.meter.model_labels import OTHER, ModelLabels

log = logging.getLogger(__name__)

#: Bodies up to this size are kept until they are complete, and then read in one step.
_SMALL_BYTES = 16 * 1024
#: Operations whose responses are text. Vectors and images are large, and are not made of tokens.
_TEXT = frozenset({
    Operation.GENERATE, Operation.CHAT, Operation.OPENAI_CHAT, Operation.OPENAI_COMPLETIONS,
    Operation.OPENAI_RESPONSES, Operation.ANTHROPIC_MESSAGES, Operation.OTHER,
})  # fmt: skip
#: Operations that take one slot of a model. Ollama runs the texts of one embedding request in all slots.
_ONE_SLOT = _TEXT - {Operation.OTHER}
#: Operations whose body can have options with which Ollama starts another runner. The other APIs have none.
_WITH_OPTIONS = frozenset({Operation.GENERATE, Operation.CHAT})
_RUNNER_OPTION = re.compile(rb'"(?:num_ctx|num_batch|num_gpu|main_gpu|use_mmap|num_thread)"', re.IGNORECASE)
#: Bytes of a piece besides its text, at most, and bytes of a token of text, on average.
_FRAMING_BYTES = 1024
_BYTES_PER_TOKEN = 4
#: Operations whose request is read for its model, and whose response is read.
_READ_OPERATIONS = WITH_MODEL | TRANSFERS
_JSON_OPERATIONS = frozenset(operation for operation in _READ_OPERATIONS if form_of(operation) is False)
#: Operations whose successful response is an object or a stream of a known shape.
_KNOWN_SHAPES = METERED | TRANSFERS
#: Pieces of a response are read in batches of this size, which halves the work, or as soon as a piece is large.
BATCH = 32
LARGE_BYTES = 4096


class Spent(NamedTuple):
    """What is known about the tokens of an exchange that has ended.

    counted:    prompt and generated tokens as reported by the server, or None if it did not report them
    generated:  estimate of the generated tokens: the pieces of the response that had content, or that could not be
                read, or a quarter of the bytes of a text beyond 1 KiB per piece, if that is more
    served:     whether the upstream has run the request, or may have: it was sent, and it was not refused
    """

    counted: int | None
    generated: int
    served: bool


class Meter(Protocol):
    """The part of the meter that an exchange uses."""

    metrics: Metrics
    model_labels: ModelLabels
    in_flight: InFlight
    bodies: BodyQueue
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
        "_large_body",
        "_meter",
        "_reading",
        "_reads",
        "_response_bytes",
        "_small_body",
        "_unread",
        "ended",
        "finished",
        "first",
        "gaps",
        "has_own_runner",
        "head",
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
        "runs_model",
        "sent",
        "started",
        "status",
        "stream",
        "tenant",
        "trace_parent",
    )

    def __init__(self, meter: Meter, operation: Operation, is_post: bool) -> None:
        self._meter = meter
        self.operation = operation
        # The request. `head` is None if it is not valid HTTP, and after the exchange has finished.
        self.head: RequestHead | None = None
        self.tenant = self.model = ""
        #: Whether the request runs a model. On an unknown route, this depends on its body and on the response.
        self.runs_model = operation in WITH_MODEL
        #: The client's ID if `is_plain_id` accepts it, or an ID that the proxy made. Empty if the client's is not
        #: accepted.
        self.request_id = ""
        #: The request ID if the proxy made it, for exemplars. A label, also of an exemplar, never contains a client's
        #: text.
        self.made_id = ""
        self.trace_parent = b""
        self.request_bytes = 0
        #: The pieces of a body that is not large. None if the body is not read, or not by the meter.
        is_read = operation in _READ_OPERATIONS or (operation is Operation.OTHER and is_post)
        #: Whether the request may need another runner of its model than a plain request does, or several slots.
        self.has_own_runner = operation not in _ONE_SLOT
        self._small_body: list[bytes] | None = [] if is_read else None
        self._large_body: LargeBody | None = None
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
        self.finished = self.stream = False
        self._reads = is_read
        self._response_bytes = 0
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

    @property
    def label(self) -> str | None:
        """The model's label while the request is in flight, otherwise None."""
        return None if self.finished else self._label

    def request_body(self, data: bytes) -> None:
        """Note a piece of the request body."""
        self.request_bytes += len(data)
        pieces = self._small_body
        if pieces is not None:
            if self.request_bytes <= _SMALL_BYTES:
                pieces.append(data)
            else:
                self._read_large(pieces, data)

    def request_read(self, facts: RequestFacts, size: int, pieces: Sequence[bytes] = ()) -> None:
        """Note a body that admission has read, so that the meter does not read it again. `size` is in bytes."""
        self._small_body = None
        if self.operation in _WITH_OPTIONS and not self.has_own_runner:
            self.has_own_runner = size > _SMALL_BYTES or names_runner_options(b"".join(pieces))
        self.request_bytes = size
        self._take_facts(facts)

    def request_end(self, now: float) -> None:
        """Note that the request is complete. It is in flight from the moment at which its model is known."""
        self.requested = now
        if self._small_body is not None:
            self._end_body(self._small_body)
        if self.runs_model and self._large_body is None and self._label is None:
            self._enter_flight()

    def body_read(self, facts: RequestFacts) -> None:
        """Take what a large body says. No more of it is read, also if it was given up and is not complete."""
        self._small_body = self._large_body = None
        self._take_facts(facts)
        if self.finished:
            self._meter.add_ended(self)
        elif self.runs_model and self.requested is not None:
            self._enter_flight()

    def request_sent(self) -> None:
        """Note that the complete request was written to the connection to the upstream."""
        if self.requested is not None and self.sent is None:
            self.sent = self._meter.clock()

    def response_head(self, status: int, content_type: bytes) -> None:
        """Note the final status. Only the body of a successful response is read."""
        self.status = status
        if self._reads:
            self._reads = 200 <= status < 300
            self.stream = is_stream(content_type)
            self._content_type = content_type

    def read_noted(self) -> None:
        """Read the noted pieces, or discard them if the response is not read."""
        noted = self.noted
        if self._is_unreadable:
            self._unread += len(noted)
        elif self._reads:
            try:
                if self._dialect is None:
                    # The time of content is that of a token only in a stream.
                    on_content = self._arrivals.append if self.stream else _ignore
                    self._dialect = dialect_of(self.operation, self._content_type, on_content)
                feed = self._dialect.feed
                for now, piece in noted:
                    feed(piece, now)
                    self._response_bytes += len(piece)
                self._fold()
            except Exception as error:
                self._is_unreadable = True
                self._unread += len(noted)
                self.fail(error)
        noted.clear()

    def finish(self, outcome: Outcome | None) -> None:
        """Close the notes, once. They are recorded with the next batch, or when metrics are read.

        A request whose large body is still being read is recorded after that.
        """
        if self.finished:
            return
        if self._small_body is not None:
            # The request was refused, or the client has left. The model may be in the part that has arrived.
            self._end_body(self._small_body)
        self.finished = True
        self.outcome = outcome
        self.ended = self._meter.clock()
        if self._label is not None:
            succeeded = outcome is None and is_success(self.status)
            self._meter.in_flight.leave(self._label, self.ended if succeeded else None)
        head, self.head = self.head, None
        if head is not None:
            self.trace_parent = head.head.fields.get(b"traceparent", b"")
        if self._large_body is None:
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
        return Spent(counted, self._generated(reading), served)

    def _generated(self, reading: Reading) -> int:
        """Return an estimate of the generated tokens. A tool call, and a whole answer, are one piece of any size."""
        pieces = int(reading.chunks + reading.unreadable)
        if self.operation not in _TEXT:
            return pieces
        beyond_framing = self._response_bytes - _FRAMING_BYTES * max(1, pieces)
        return max(pieces, beyond_framing // _BYTES_PER_TOKEN)

    def fail(self, error: Exception) -> None:
        """Count a failure of the meter itself. The stream continues, and the request is counted all the same.

        The message of the error is not logged, because it may contain text of a client.
        """
        self._meter.metrics.count("meter_failures", ())
        where = "".join(traceback.format_tb(error.__traceback__))
        log.error("a part of a request could not be metered: %s\n%s", type(error).__name__, where)

    # ---- inside

    def _end_body(self, pieces: list[bytes]) -> None:
        """Read what has arrived of the body, or what is left to read of it."""
        self._small_body = None
        if pieces:
            try:
                self._read_small(pieces[0] if len(pieces) == 1 else b"".join(pieces))
            except RequestBodyError:
                # The model is in doubt, so nothing is known.
                pass
            except Exception as error:
                self.fail(error)
        if self._large_body is not None:
            self._meter.bodies.end(self._large_body)

    def _read_small(self, body: bytes) -> None:
        """Read a body in one step, unless it is compressed. Raises RequestBodyError if its model is in doubt."""
        head = self.head
        if head is not None and b"content-encoding" in head.head.fields:
            # A small body can decompress to a large one.
            self._read_large([], body)
            return
        if self.operation in _WITH_OPTIONS and not self.has_own_runner:
            self.has_own_runner = names_runner_options(body)
        if self.operation in _JSON_OPERATIONS:
            model = model_of_ordinary(body)
            if model is not None:
                self.model = model
                return
        reader = self._body_reader()
        reader.feed(body)
        self._take_facts(reader.finish())

    def _read_large(self, pieces: list[bytes], data: bytes) -> None:
        body = self._large_body
        self.has_own_runner = self.has_own_runner or self.operation in _WITH_OPTIONS
        try:
            if body is None:
                body = self._large_body = LargeBody(self._body_reader(), self)
                data = b"".join((*pieces, data))
                pieces.clear()
            self._meter.bodies.feed(body, data)
        except Exception as error:
            self._small_body = self._large_body = None
            self.fail(error)

    def _body_reader(self) -> BodyReader:
        head = self.head
        if head is None:
            return BodyReader()
        fields = head.head.fields
        _, _, query = head.target.partition(b"?")
        return BodyReader(
            fields.get(b"content-type", b""),
            fields.get(b"content-encoding", b""),
            form=form_of(self.operation),
            query=query,
        )

    def _take_facts(self, facts: RequestFacts) -> None:
        self.model = facts.model
        if self.operation is Operation.OTHER:
            self.runs_model = facts.names_model

    def _enter_flight(self) -> None:
        try:
            self._label = self._meter.model_labels.label(self.model)
        except Exception as error:
            self.fail(error)
            self._label = OTHER
        self._meter.in_flight.enter(self._label)

    def _close_reading(self) -> Reading:
        """Read what waits for the end of the response, and return the reading."""
        dialect = self._dialect
        if dialect is None:
            return Reading(finished=self.outcome is None, unreadable=self._unread)
        reading = dialect.reading
        if not self._is_unreadable:
            try:
                if self.outcome is None:
                    dialect.close(self.ended)
                elif not self.stream:
                    self._close_cut(dialect)
                self._fold()
            except Exception as error:
                self._is_unreadable = True
                self._unread += 1
                self.fail(error)
        if reading.finished and not self._unread:
            return reading
        usage = reading.usage
        if usage is not None and not reading.finished and not (usage.prompt_tokens or usage.generation_tokens):
            # `/v1/completions` sends a usage of zero with each piece, and the true one last.
            reading.usage = None
        reading.unreadable += self._unread
        if self.outcome is None and (self._is_unreadable or (reading.unreadable and not self.stream)):
            # A response that cannot be read is complete if its framing is.
            reading.finished = True
        return reading

    def _close_cut(self, dialect: Dialect) -> None:
        """Read an object whose response was cut off. It may be complete, although its framing is not.

        A response of unknown shape can be a text or nothing at all, so only its usage shows that it is complete.
        """
        reading = dialect.reading
        unreadable, finished = reading.unreadable, reading.finished
        dialect.close(self.ended)
        if reading.unreadable > unreadable or (self.operation not in _KNOWN_SHAPES and reading.usage is None):
            reading.unreadable, reading.finished = unreadable, finished

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


def names_runner_options(body: bytes) -> bool:
    """Return whether a JSON body may have options with which Ollama starts another runner (api.Runner in its source).

    A body whose text only quotes such an option counts too.
    """
    return b"ptions" in body and _RUNNER_OPTION.search(body) is not None


def _ignore(now: float) -> None:
    """Ignore the time of content that is not part of a stream."""
