"""Reads a response into its sample: status, times, tokens, and the class of an error."""

from __future__ import annotations

from collections.abc import Callable

from llmendpoint_common.contracts.sidecar import Operation
from llmendpoint_common.process.errors import ProtocolError, UpstreamError
from llmendpoint_common.wire.dialects.reading import Dialect
from llmendpoint_common.wire.http1.response_reader import ResponseHead
from llmendpoint_common.wire.routes import dialect_of
from llmendpoint_loadjob.result.timings import ErrorClass, Sample, error_of_status

_MAX_DETAIL = 200


class Answer:
    """Handler of one response for `ResponseReader`.

    It calls `on_end` once. The argument is whether the connection can be reused. The clock is read for each piece of
    the body before its content is parsed. Before that, the reader removes the framing, which takes 0.3 µs, or reads the
    head if it arrives together with the piece, which takes 4 µs.
    """

    __slots__ = ("_clock", "_detail", "_dialect", "_on_end", "_operation", "_sample", "was_reset")

    def __init__(
        self, clock: Callable[[], float], operation: Operation, sample: Sample, on_end: Callable[[bool], None]
    ) -> None:
        #: Whether the connection ended without being closed in an orderly way.
        self.was_reset = False
        self._clock = clock
        self._operation = operation
        self._sample = sample
        self._on_end: Callable[[bool], None] | None = on_end
        self._dialect: Dialect | None = None
        self._detail = b""

    # ---- calls of the reader

    def interim(self, head: bytes) -> None:
        """Ignore a 1xx head, because the final response follows."""

    def response_head(self, head: ResponseHead) -> None:
        """Note the status, and choose the dialect for a successful response."""
        self._sample.status = head.status
        if head.status == 200:
            content_type = head.fields.get(b"content-type", b"")
            self._dialect = dialect_of(self._operation, content_type, self._note_content)

    def response_head_alone(self) -> None:
        """Do nothing: only the body is measured."""

    def response_body(self, raw: bytes, pieces: list[bytes]) -> None:
        """Read content, or keep the beginning of an error message."""
        now = self._clock()
        dialect = self._dialect
        if dialect is not None:
            for piece in pieces:
                dialect.feed(piece, now)
        elif len(self._detail) < _MAX_DETAIL:
            self._detail += b"".join(pieces)

    def response_end(self, *, reusable: bool) -> None:
        """End the sample. The content of a complete response can still be incomplete or an error."""
        self._end(self._judge(), reusable=reusable)

    def response_failed(self, error: ProtocolError) -> None:
        """End the sample with an error, because the response is incomplete."""
        if not isinstance(error, UpstreamError):
            self._end(ErrorClass.INVALID_BODY)
        else:
            self._end(ErrorClass.TRUNCATED if self._sample.status and not self.was_reset else ErrorClass.RESET)

    # ---- calls of the connection

    def fail(self, error: ErrorClass) -> None:
        """End the sample with an error that the reader does not detect."""
        self._end(error)

    # ---- inside

    def _note_content(self, now: float) -> None:
        sample = self._sample
        if sample.first is None:
            sample.first = now
        sample.last = now
        sample.chunks += 1

    def _judge(self) -> ErrorClass | None:
        if self._dialect is None:
            return error_of_status(self._sample.status) or ErrorClass.INVALID_BODY
        self._dialect.close(self._clock())
        reading = self._dialect.reading
        if reading.failed:
            return ErrorClass.STREAM_ERROR
        if reading.unreadable:
            return ErrorClass.INVALID_BODY
        return None if reading.finished else ErrorClass.TRUNCATED

    def _end(self, error: ErrorClass | None, *, reusable: bool = False) -> None:
        on_end, self._on_end = self._on_end, None
        if on_end is None:
            return
        sample = self._sample
        sample.ended = self._clock()
        sample.error = error
        sample.detail = self._detail[:_MAX_DETAIL].decode(errors="replace")
        usage = self._dialect.reading.usage if self._dialect is not None else None
        if usage is not None:
            sample.input_tokens = usage.prompt_tokens or 0
            sample.output_tokens = usage.generation_tokens or 0
        # Break the reference cycle with the dialect. Otherwise, the garbage collector has to free each response.
        self._dialect = None
        on_end(reusable)
