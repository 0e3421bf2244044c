"""Request bodies that are received completely before anything is forwarded, because admission depends on their model.

Ollama decodes the complete body before it starts, so holding a body does not delay the response.

Memory: a body counts as what it takes in memory, from its second piece until the upstream has accepted it. Small pieces
are joined, because an object of two bytes takes 35 bytes and more. `HeldMemory` bounds all held bodies together.

Time: a body is read while it arrives. A compressed one, which can be a thousand times larger than what arrives, is
first received, and then read in slices by the `ReadingQueue`. The time in which a body has to arrive is proportional to
its size, so that a client cannot keep memory by sending slowly.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from llmendpoint_common.contracts.sidecar import Outcome, RefusalReason
from llmendpoint_common.process.errors import RequestBodyError
from llmendpoint_common.wire.http1 import heads
from llmendpoint_common.wire.http1.request_reader import RequestHead
from llmendpoint_common.wire.request_body import BodyReader, RequestFacts, read_request_body
from llmendpoint_common.wire.routes import form_of
from llmendpoint_common.wire.usage_filter import ask_for_usage
from llmendpoint_sidecar.policy.admission import Admission, Ticket
from llmendpoint_sidecar.policy.held_memory import BodyMemory
from llmendpoint_sidecar.policy.refusals import Refusal

_KIB = 1024
_MIB = 1024 * 1024

#: A first piece up to this size is not counted: the memory of a connection includes it. Most bodies are not larger.
_UNCOUNTED_BYTES = 4 * _KIB
#: Smaller pieces are joined to blocks, which then have this size at least.
_BLOCK_BYTES = 64 * _KIB
_JOINED_BYTES = 4 * _KIB
#: A block grows by an eighth more than is needed.
_SPARE_BLOCK_BYTES = _BLOCK_BYTES // 8
#: Memory is taken in steps, because small pieces can be many.
_STEP_BYTES = 4 * _KIB
#: Size of a `bytes` object besides its content, and of its place in a list, as allocated.
_OBJECT_BYTES = 64
#: A larger body is read while it arrives. Up to this size, reading takes less than a millisecond.
_READ_WHOLE_BYTES = 64 * _KIB
#: Number of decoded bytes that are read between two looks at the clock.
_READ_BYTES = 64 * _KIB
#: Time in which a body has to arrive: a constant, and the time that a connection with 1 Mbit/s needs for its size.
_ARRIVAL_SECONDS = 60.0
_ARRIVAL_BYTES_PER_SECOND = 128 * _KIB

_TOO_MANY = Refusal(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "server busy, please try again: too many large requests are being read",
    Outcome.REJECTED_QUEUE,
    retry_after=1,
    reason=RefusalReason.HELD_BODIES,
)
_LATE = Refusal(
    HTTPStatus.REQUEST_TIMEOUT,
    f"the body arrived too slowly: {_ARRIVAL_SECONDS:g} s, and 1 s for every {_ARRIVAL_BYTES_PER_SECOND // _KIB} KiB, "
    "are allowed",
    Outcome.REJECTED,
    reason=RefusalReason.SLOW_REQUEST,
)
_UNREAD = RequestFacts()
#: If one of these occurs twice, the upstream and the proxy could interpret the body differently.
_SINGLE = (b"content-type", b"content-encoding")


class HeldBody:
    """The body of one request.

    `release` must be called if it is not forwarded, so that its memory counts as free. If it is forwarded, `memory`
    must be released when the upstream has accepted the `pieces`.
    """

    __slots__ = (
        "_admission",
        "_block",
        "_coding",
        "_credit",
        "_done",
        "_fed",
        "_head",
        "_max_bytes",
        "_reader",
        "_ticket",
        "asks_for_usage",
        "began",
        "facts",
        "memory",
        "pieces",
        "size",
    )

    def __init__(self, admission: Admission, ticket: Ticket, head: RequestHead) -> None:
        self._admission = admission
        self._ticket = ticket
        self._head = head
        self._coding = head.head.fields.get(b"content-encoding", b"")
        self._max_bytes = admission.held_memory.body_bytes
        #: Time from which the body has to arrive. Before its turn, it may not have been received.
        self.began: float | None = None
        # The received bytes: pieces as they were received, and a block to which small ones are joined.
        self.size = 0
        self.pieces: list[bytes] = []
        self._block = bytearray()
        # Its memory, and how much of it is not used.
        self.memory: BodyMemory | None = None
        self._credit = 0
        #: What the body says, after `judge`.
        self.facts = _UNREAD
        #: Whether the proxy changed the body to request usage, so that the usage is removed from the response.
        self.asks_for_usage = False
        # Its reader, if it is not read as a whole; the number of pieces that were passed to it; and the call after it
        # was read in slices.
        self._reader: BodyReader | None = None
        self._fed = 0
        self._done: Callable[[bool], None] | None = None

    @property
    def tenant(self) -> str:
        """The tenant of the request."""
        return self._ticket.tenant

    # ---- while it arrives

    def refuse_length(self) -> Refusal | None:
        """Return a refusal if the announced length is too large, so that the client need not send the body."""
        length = self._announced
        return self._too_large() if length > self._max_bytes else None

    def add(self, data: bytes) -> Refusal | None:
        """Add a piece. Returns a refusal if the body becomes too large, or if there is no memory for it."""
        length = len(data)
        size = self.size = self.size + length
        if size == length <= _UNCOUNTED_BYTES:
            self.pieces.append(data)
            return None
        if size > self._max_bytes:
            return self._too_large()
        if length < _JOINED_BYTES:
            self._block += data
            self._credit -= length
            if self._credit >= 0 and len(self._block) < _BLOCK_BYTES:
                return None
        else:
            self._end_block()
            self.pieces.append(data)
            self._credit -= length + _OBJECT_BYTES
        if self._credit < 0 and not self._take_memory():
            return _TOO_MANY
        if len(self._block) >= _BLOCK_BYTES:
            self._end_block()
        if size > _READ_WHOLE_BYTES and len(self.pieces) > self._fed and not self._coding:
            self._read()
        return None

    def late(self, now: float) -> Refusal | None:
        """Return a refusal if the body has taken too much time to arrive."""
        if self.began is None:
            return None
        return _LATE if now - self.began > _ARRIVAL_SECONDS + self.size / _ARRIVAL_BYTES_PER_SECOND else None

    def release(self) -> None:
        """Discard the body."""
        self._admission.reading_queue.discard(self)
        if self.memory is not None:
            self.memory.release()
        self.pieces.clear()
        self._block.clear()
        self._reader = None

    # ---- when it is complete

    def finish(self, done: Callable[[bool], None]) -> bool:
        """Note that the body is complete. Returns whether it has been read.

        If it has not, `done` is called later: with True when it has been read, with False if reading failed.
        """
        if self._block:
            self._end_block()
        if not self._coding or self._is_ambiguous():
            return True
        # Most compressed bodies decode to less than this, so they do not wait.
        if not self.read_on():
            return True
        # Without its decoder, it takes no more memory while it waits.
        self._reader = None
        self._done = done
        self._admission.reading_queue.add(self)
        return False

    def read_on(self) -> bool:
        """Read a part of a compressed body. Returns whether there is more."""
        if self._reader is None:
            self._reader = self._new_reader()
            for piece in self.pieces:
                self._reader.feed(piece)
        return self._reader.work(_READ_BYTES)

    def read_done(self) -> None:
        """Continue the request."""
        if self._done is not None:
            self._done(True)

    def read_failed(self) -> None:
        """End the request."""
        if self._done is not None:
            self._done(False)

    def judge(self) -> Refusal | None:
        """Check the complete body by what it says. Returns a refusal, or None if it is admitted.

        If usage has to be injected and the client does not request it, the body is changed to request it.
        """
        try:
            facts = self.facts = self._read_facts()
        except RequestBodyError as error:
            self.release()
            return Refusal(HTTPStatus.BAD_REQUEST, str(error), Outcome.REJECTED, reason=RefusalReason.INVALID_BODY)
        reader = self._reader
        decoded_size = (reader is not None and reader.decompressed_bytes) or self.size
        refused = self._admission.at_body(self._ticket, facts, decoded_size)
        if refused is not None:
            self.release()
        elif facts.usage_offset >= 0:
            self.pieces = _with_usage(self.pieces, facts)
            self.asks_for_usage = True
        return refused

    # ---- inside

    def _take_memory(self) -> bool:
        """Take the memory that is missing, in steps. Returns False if there is not enough."""
        memory = self.memory
        if memory is None:
            memory = self.memory = BodyMemory(self._admission.held_memory, self._ticket.tenant, self._announced)
            # A first piece that was not counted counts now.
            self._credit -= _UNCOUNTED_BYTES + _SPARE_BLOCK_BYTES
        missing = max(-self._credit, _STEP_BYTES)
        self._credit += missing
        return memory.grow(missing)

    def _end_block(self) -> None:
        if self._block:
            self.pieces.append(bytes(self._block))
            self._block.clear()

    def _read(self) -> None:
        """Read the new pieces of a large body that is not compressed. A piece is at most one read of the socket."""
        reader = self._reader
        if reader is None:
            reader = self._reader = self._new_reader()
        for piece in self.pieces[self._fed :]:
            reader.feed(piece)
        self._fed = len(self.pieces)
        while reader.work(_READ_BYTES):
            pass

    def _new_reader(self) -> BodyReader:
        return BodyReader(
            self._content_type,
            self._coding,
            form=form_of(self._ticket.operation),
            query=self._query,
            usage=self._admission.injects_usage(self._ticket),
        )

    def _read_facts(self) -> RequestFacts:
        """Return what the complete body says. Raises RequestBodyError if it is in doubt."""
        if self._is_ambiguous():
            raise RequestBodyError("Content-Type and Content-Encoding must not occur twice")
        if self._reader is not None:
            if not self._coding:
                self._read()
            return self._reader.finish()
        pieces, ticket = self.pieces, self._ticket
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        usage = self._admission.injects_usage(ticket)
        form = form_of(ticket.operation)
        if form is False:
            return read_request_body(body, usage=usage)
        return read_request_body(body, self._content_type, form=form, query=self._query, usage=usage)

    @property
    def _announced(self) -> int:
        """The size of the body as its head says it, or 0 if it is chunked."""
        return int(self._head.head.fields.get(b"content-length", b"0"))

    @property
    def _content_type(self) -> bytes:
        return self._head.head.fields.get(b"content-type", b"")

    @property
    def _query(self) -> bytes:
        return self._head.target.partition(b"?")[2]

    def _is_ambiguous(self) -> bool:
        """Return whether a field occurs twice that determines how the body is read."""
        head = self._head.head
        return len(head.fields) != len(head.lines) and any(heads.count(head, name) > 1 for name in _SINGLE)

    def _too_large(self) -> Refusal:
        limit = self._max_bytes / _MIB
        return Refusal(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"the body is larger than {limit:.4g} MiB",
            Outcome.REJECTED,
            reason=RefusalReason.BODY_TOO_LARGE,
        )


def _with_usage(pieces: list[bytes], facts: RequestFacts) -> list[bytes]:
    """Return the pieces of a body that requests usage."""
    at, changed = facts.usage_offset, []
    for piece in pieces:
        inside = 0 <= at < len(piece)
        changed.append(ask_for_usage(piece, RequestFacts(usage_offset=at)) or piece if inside else piece)
        at -= len(piece)
    return changed
