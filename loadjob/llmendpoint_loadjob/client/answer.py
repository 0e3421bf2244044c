"""Reads a response into its sample: status, times, tokens, and the class and reason of an error."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import urlsplit

from llmendpoint_common.contracts.loadrun import (
    MAX_INPUT_TOKENS,
    MAX_OUTPUT_TOKENS_PER_SECOND,
    ErrorClass,
    error_of_status,
)
from llmendpoint_common.contracts.sidecar import Operation
from llmendpoint_common.process.errors import ProtocolError, UpstreamError
from llmendpoint_common.wire.dialects.reading import Dialect, Reading, Usage
from llmendpoint_common.wire.http1.chunked import ChunkedFraming, content_of, is_one_chunk
from llmendpoint_common.wire.http1.response_reader import ResponseHead
from llmendpoint_common.wire.routes import dialect_of, is_stream
from llmendpoint_loadjob.client.redaction import MAX_WORDS_BYTES, Redactor, words_of
from llmendpoint_loadjob.client.retry_after import seconds_of
from llmendpoint_loadjob.client.silences import SilenceWatch
from llmendpoint_loadjob.result.timings import Sample

#: What Go, nginx and Apache answer to a request without TLS at a port for TLS.
_EXPECTS_TLS = re.compile("https (?:server|port)|ssl-enabled server", re.IGNORECASE)
_TLS_ALERT = b"\x15\x03"
#: A response whose content comes within 1 ms, or faster than 20,000 chunks per second, was sent in one piece, which the
#: socket delivers in several reads. Reading and parsing a chunk takes 1 to 5 µs. No model is nearly as fast.
_MIN_SPREAD_SECONDS = 1e-3
_MIN_CHUNK_SECONDS = 5e-5
#: Bytes of a body that are kept before they are read.
_MAX_KEPT_BYTES = 32 * 1024
_NOT_CODED = (b"", b"identity")
#: Reasons with which a server ends an answer that it could not complete (vLLM, `FINISH_REASON_STRINGS`; OpenRouter), or
#: whose content it left out (OpenAI's API).
_INCOMPLETE = frozenset({"abort", "error", "content_filter"})


@dataclass(frozen=True)
class Reader:
    """What the answers of one run have in common."""

    clock: Callable[[], float]
    operation: Operation
    redactor: Redactor
    silences: SilenceWatch = field(default_factory=SilenceWatch)


class Answer:
    """Handler of one response for `ResponseReader`.

    It calls `on_end` once. The argument is whether the connection can be reused. What then remains to be done for a
    complete response takes as long as reading 50 chunks; `complete` does it.

    The clock is read for each read of the socket, before anything else is done with it. With many streams, content is
    kept with its times and decoded together, in less than half the time, and after the clock was read for the other
    streams of which something has arrived. `SilenceWatch` says how long it may be kept.
    """

    __slots__ = (
        "_bytes",
        "_clock",
        "_dialect",
        "_ended",
        "_framing",
        "_head",
        "_kept",
        "_kept_times",
        "_may_keep",
        "_now",
        "_prompts",
        "_read_at",
        "_reader",
        "_sample",
        "_silences",
        "_text",
        "_words",
        "had_interim",
        "on_end",
        "partial",
        "was_reset",
    )

    def __init__(self, reader: Reader, sample: Sample, prompts: Sequence[str] = (), *, keep_text: bool = False) -> None:
        #: Whether the connection ended without being closed in an orderly way, and the bytes of a head it cut off.
        self.was_reset = False
        self.partial = b""
        self.had_interim = False
        self.on_end: Callable[[bool], None] | None = None
        self._clock = reader.clock
        self._reader = reader
        self._sample = sample
        #: Texts that must not be in the description of an error.
        self._prompts = prompts
        #: The text of the response, if it is kept.
        self._text = "" if keep_text else None
        self._head: ResponseHead | None = None
        self._dialect: Dialect | None = None
        self._words = b""
        self._silences = reader.silences
        #: When the read that is handled now arrived, and whether its content may be kept.
        self._now = 0.0
        self._may_keep = False
        #: The end of a complete response that was not judged yet.
        self._ended: float | None = None
        #: The framing of a chunked body with content.
        self._framing: ChunkedFraming | None = None
        #: Size of the body so far, with its framing, and the size at which the kept content is read.
        self._bytes = 0
        self._read_at = _MAX_KEPT_BYTES
        self._kept: list[bytes] = []
        self._kept_times: list[float] = []

    @property
    def text(self) -> str | None:
        """The content of a response that has ended, without thinking, or None if it is not kept."""
        return self._text

    # ---- calls of the reader

    def interim(self, head: bytes) -> None:
        """Note a 1xx head, which the final response follows."""
        self.had_interim = True

    def response_head(self, head: ResponseHead) -> None:
        """Note the status, and choose the dialect for a successful response."""
        self._sample.status = status = head.status
        self._head = head
        if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES and status != HTTPStatus.NO_CONTENT:
            content_type = head.fields.get(b"content-type", b"")
            self._dialect = dialect = dialect_of(self._reader.operation, content_type, self._note_content)
            if self._text is not None:
                dialect.keep_text()
            self._framing = ChunkedFraming() if head.chunked else None
        elif status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
            self._sample.retry_after = seconds_of(head.fields.get(b"retry-after", b""))

    def response_head_alone(self) -> None:
        """Do nothing: only the body is measured."""

    def response_body(self, raw: bytes, pieces: list[bytes]) -> None:
        """Read content, or keep the beginning of an error message."""
        if self._dialect is None:
            if len(self._words) < MAX_WORDS_BYTES:
                self._words += b"".join(pieces)
            return
        self._bytes += len(raw)
        if self._framing is not None:
            self._framing.feed(raw, len(raw))
        if not self._may_keep:
            # What was kept may have ended a silence before this read.
            self.read_kept()
        self._kept += pieces
        self._kept_times += [self._now] * len(pieces)
        if not self._may_keep:
            self.read_kept()

    def response_end(self, *, reusable: bool) -> None:
        """Note the end of a complete response."""
        self._ended = self._clock()
        self._call_on_end(reusable)

    def response_failed(self, error: ProtocolError) -> None:
        """End the sample with an error, because the response is incomplete."""
        ended = self._clock()
        self.read_kept()
        of_status = error_of_status(self._sample.status)
        if of_status is not None:
            self._end(ended, of_status, self._words_of_status())
        elif not isinstance(error, UpstreamError):
            self._end(ended, ErrorClass.INVALID_BODY, str(error))
        elif self.partial.startswith(_TLS_ALERT):
            self._end(ended, ErrorClass.TLS, "the server answered with a TLS alert, so it expects https")
        elif self.partial and not b"HTTP/".startswith(self.partial[:5]):
            self._end(ended, ErrorClass.INVALID_BODY, "the answer is not HTTP")
        elif self._sample.status and not self.was_reset:
            self._end(ended, ErrorClass.TRUNCATED, "the connection was closed in the middle of the response")
        else:
            how = "reset" if self.was_reset else "closed"
            when = "in the middle of the response" if self._sample.status else "before a response"
            self._end(ended, ErrorClass.RESET, f"the connection was {how} {when}")

    # ---- calls of the connection

    def keep(self, read: bytes) -> bool:
        """Note the time of a read, and keep it if it is one chunk. Otherwise, the reader has to be called with it."""
        self._now = now = self._clock()
        self._may_keep = may_keep = now < self._silences.hold_until and self._bytes < self._read_at
        framing = self._framing
        if not may_keep or framing is None or not framing.is_between or not is_one_chunk(read):
            return False
        self._bytes += len(read)
        self._kept.append(content_of(read))
        self._kept_times.append(now)
        return True

    def fail(self, error: ErrorClass, detail: str) -> None:
        """End the sample with an error that the reader does not detect."""
        ended = self._clock()
        self.read_kept()
        self._end(ended, error, detail)

    def read_kept(self) -> None:
        """Read the content that was kept."""
        pieces, times, dialect = self._kept, self._kept_times, self._dialect
        if not pieces or dialect is None:
            return
        self._kept, self._kept_times = [], []
        self._read_at = self._bytes + _MAX_KEPT_BYTES
        # The last piece of a stream contains more than one event, which would keep all of them from being decoded
        # together.
        piece, now = pieces.pop(), times.pop()
        if pieces:
            dialect.feed_all(pieces, times)
        dialect.feed(piece, now)
        last = self._sample.last
        if last is not None and last >= (times[0] if times else now):
            self._silences.heard(last, self._sample)

    @property
    def is_complete(self) -> bool:
        """Whether a complete response has arrived, for which `complete` was not called."""
        return self._ended is not None

    def complete(self) -> None:
        """End the sample of a complete response. Its content can still be incomplete or an error."""
        ended, self._ended = self._ended, None
        if ended is not None:
            self.read_kept()
            self._end_sample(ended, *self._judge(ended))

    # ---- inside

    def _note_content(self, now: float) -> None:
        sample = self._sample
        last = sample.last
        if last is None:
            sample.first = now
        elif now != last:
            # All content of one read of the socket has the same time.
            sample.gaps.append(now - last)
        sample.last = now
        if sample.first_output is None:
            reading = self._dialect.reading  # type: ignore[union-attr]
            if reading.chunks > reading.thoughts:
                sample.first_output = now

    def _judge(self, ended: float) -> tuple[ErrorClass | None, str]:
        """Return the error of a response whose framing is complete."""
        dialect, head = self._dialect, self._head
        if dialect is None or head is None:
            words = self._words_of_status()
            if self._sample.status == HTTPStatus.BAD_REQUEST and _EXPECTS_TLS.search(words):
                return ErrorClass.TLS, words
            return error_of_status(self._sample.status) or ErrorClass.INVALID_BODY, words
        dialect.close(ended)
        if dialect.reading.is_whole and not is_stream(head.fields.get(b"content-type", b"")):
            self._forget_times()
        coding = head.fields.get(b"content-encoding", b"").lower()
        if coding not in _NOT_CODED:
            name = coding.decode("latin-1")
            return ErrorClass.INVALID_BODY, f"the response has the content coding {name}, which was not requested"
        error, detail = _error_of(dialect.reading)
        if error is ErrorClass.INVALID_BODY:
            media_type = head.fields.get(b"content-type", b"none").decode("latin-1")
            detail += f" (content type: {media_type})"
        return error, detail

    def _forget_times(self) -> None:
        """Remove the times of content that came in one object: the time of the first token is not known."""
        sample = self._sample
        sample.first = sample.last = sample.first_output = None
        sample.gaps.clear()

    def _words_of_status(self) -> str:
        head = self._head
        if head is None:
            return ""
        status = self._sample.status
        phrase = head.head.start.partition(b" ")[2].decode("latin-1")
        location = head.fields.get(b"location", b"")
        if 300 <= status < 400 and location:
            return f"HTTP {phrase}, to {_without_query(location)}"
        words = words_of(self._words[:MAX_WORDS_BYTES])
        return f"HTTP {status}: {words}" if words.strip() else f"HTTP {phrase}"

    def _end(self, ended: float, error: ErrorClass, detail: str) -> None:
        """End the sample of a response that has failed, unless it has ended before."""
        if self.on_end is not None:
            self._end_sample(ended, error, detail)
            self._call_on_end(False)

    def _call_on_end(self, reusable: bool) -> None:
        on_end, self.on_end = self.on_end, None
        if on_end is not None:
            on_end(reusable)

    def _end_sample(self, ended: float, error: ErrorClass | None, detail: str) -> None:
        sample = self._sample
        sample.ended = ended
        sample.error = error
        if self._dialect is not None:
            reading = self._dialect.reading
            _read_result(reading, sample, self._bytes)
            if reading.texts is not None:
                self._text = "".join(reading.texts)
        sample.is_spread = _is_spread(sample)
        if not sample.is_spread:
            sample.gaps.clear()
        if detail:
            sample.detail = self._reader.redactor.line(detail, self._prompts)
        # Break the reference cycle with the dialect. Otherwise, the garbage collector has to free each response.
        self._dialect = None


def _is_spread(sample: Sample) -> bool:
    """Return whether the content came over time, so that the time per token is that of the server."""
    if not sample.gaps or sample.first is None or sample.last is None:
        return False
    spread = sample.last - sample.first
    return spread >= _MIN_SPREAD_SECONDS and spread >= _MIN_CHUNK_SECONDS * (sample.chunks - 1)


def _error_of(reading: Reading) -> tuple[ErrorClass | None, str]:
    if reading.failed or reading.reason in _INCOMPLETE:
        return ErrorClass.STREAM_ERROR, words_of(reading.error) or _words_of_error(reading)
    if reading.unreadable:
        return ErrorClass.INVALID_BODY, reading.problem or "a line of the response is longer than 16 MiB"
    if not reading.finished:
        return ErrorClass.TRUNCATED, "the response ended without its last message"
    if not reading.chunks and reading.usage is None and not reading.reason:
        # Any JSON object can be read as a response that has none of the fields of the API.
        return ErrorClass.INVALID_BODY, "the response has neither content nor usage, so it is not of this API"
    if not reading.chunks:
        return ErrorClass.EMPTY, _words_of_empty(reading)
    return None, ""


def _words_of_error(reading: Reading) -> str:
    if reading.reason in _INCOMPLETE:
        return f"the server ended the response with the reason {reading.reason}"
    return "the response contains an error without a reason"


def _words_of_empty(reading: Reading) -> str:
    tokens = reading.usage.generation_tokens if reading.usage is not None else None
    counted = f", although the server counted {tokens} output tokens" if tokens else ""
    ended = f" (reason for its end: {reading.reason})" if reading.reason else ""
    return f"the response has no content, thinking or tool call{counted}{ended}"


def _read_result(reading: Reading, sample: Sample, body_bytes: int) -> None:
    sample.chunks = reading.chunks
    usage = reading.usage
    if usage is None:
        return
    if _is_plausible(usage, body_bytes, sample.request_latency):
        sample.input_tokens = usage.prompt_tokens or 0
        sample.output_tokens = usage.generation_tokens or 0
        # A response with content has at least one token. If the server says 0, or nothing, it has not counted them.
        sample.has_usage = usage.generation_tokens is not None and (usage.generation_tokens > 0 or not reading.chunks)
        sample.cached_tokens = usage.cached_tokens
    else:
        sample.has_implausible_usage = True
    if usage.total_seconds:
        sample.server_total = usage.total_seconds
        sample.server_load = usage.load_seconds
        sample.server_prefill = usage.prefill_seconds
        sample.server_decode = usage.decode_seconds


def _is_plausible(usage: Usage, body_bytes: int, seconds: float) -> bool:
    """Return whether token counts can be those of a response.

    A token can have no text: thinking that the server keeps to itself has none. So the bytes of the body alone do not
    bound the output tokens, but a server that hides text still needs time for its tokens. No bound follows from the
    prompt for the input tokens, to which a server can add a text of its own.
    """
    if (usage.generation_tokens or 0) > max(body_bytes, MAX_OUTPUT_TOKENS_PER_SECOND * seconds):
        return False
    return max(usage.prompt_tokens or 0, usage.cached_tokens or 0) <= MAX_INPUT_TOKENS


def _without_query(location: bytes) -> str:
    """Return where a redirect leads, without a query, which can contain a key, and without a user name."""
    try:
        parts = urlsplit(location.decode("latin-1"))
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "an address that is not a URL"
    return f"{parts.scheme}://{host}{parts.path}" if host else parts.path
