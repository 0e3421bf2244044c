"""Dialect of Ollama's own API (api/types.go): NDJSON lines or one JSON object; the last one has `done: true`."""

from __future__ import annotations

import msgspec

from llmendpoint_common.wire.decoding import UNREADABLE, decode_together, decode_tolerantly
from llmendpoint_common.wire.dialects.base import ObjectReader, Reader
from llmendpoint_common.wire.dialects.reading import OnContent, Usage
from llmendpoint_common.wire.ndjson import LineSplitter

_NANOSECONDS = 1e-9
_MAX_PROGRESS_BYTES = 64 * 1024
_MAX_LAYERS = 1024
#: msgspec accepts nothing but null for `Raw | None`.
_NO_ERROR = msgspec.Raw()
#: Values of `error` that are not an error.
_NOT_ERRORS = frozenset({b"null", b'""', b"{}", b"[]", b"false"})


class _Message(msgspec.Struct, gc=False):
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[msgspec.Raw] | None = None


class _Line(msgspec.Struct, gc=False):
    """A JSON object of `/api/generate` or `/api/chat`. Ollama omits every count and duration that is zero.

    Servers that imitate Ollama also send null for what is absent.
    """

    model: str | None = None
    response: str | None = None
    thinking: str | None = None
    message: _Message | None = None
    tool_calls: list[msgspec.Raw] | None = None
    error: msgspec.Raw = _NO_ERROR
    done: bool | None = False
    done_reason: str | None = None
    total_duration: int | None = None
    load_duration: int | None = None
    prompt_eval_count: int | None = None
    prompt_eval_cached_count: int | None = None
    prompt_eval_duration: int | None = None
    eval_count: int | None = None
    eval_duration: int | None = None

    def usage(self) -> Usage:
        """Return the usage in the final object. A missing field means 0."""
        return Usage(
            prompt_tokens=self.prompt_eval_count or 0,
            generation_tokens=self.eval_count or 0,
            cached_tokens=self.prompt_eval_cached_count,
            total_seconds=(self.total_duration or 0) * _NANOSECONDS,
            load_seconds=(self.load_duration or 0) * _NANOSECONDS,
            prefill_seconds=(self.prompt_eval_duration or 0) * _NANOSECONDS,
            decode_seconds=(self.eval_duration or 0) * _NANOSECONDS,
        )


_decode = msgspec.json.Decoder(_Line).decode
_decode_list = msgspec.json.Decoder(list[_Line]).decode


class OllamaDialect(Reader):
    """Reads `/api/generate` and `/api/chat`, streamed or not: a JSON body is read as a stream of one line."""

    __slots__ = ("_first", "_lines")

    def __init__(self, on_content: OnContent) -> None:
        super().__init__(on_content)
        #: Usually, each piece is one line. Only otherwise, a splitter is created.
        self._first = b""
        self._lines: LineSplitter | None = None

    def feed(self, data: bytes, now: float) -> None:
        """Read the next bytes of the body."""
        self._now = now
        lines = self._lines
        if lines is None:
            if not self._first:
                end = data.find(b"\n")
                if end == len(data) - 1:
                    self._read(data)
                    return
                if end < 0:
                    self._first = data
                    return
            lines = self._lines = LineSplitter()
            data, self._first = self._first + data, b""
        elif lines.is_line(data):
            self._read(data)
            return
        for line in lines.feed(data):
            self._read(line)

    def feed_all(self, pieces: list[bytes], times: list[float]) -> None:
        """Read several pieces of the body. If each of them is one line, as usual, they are decoded together."""
        is_between = not self._first if self._lines is None else self._lines.is_between
        lines = decode_together(_decode_list, pieces, b"", b"\n") if is_between else None
        if lines is None:
            super().feed_all(pieces, times)
            return
        for line, now in zip(lines, times, strict=True):
            self._now = now
            self._read_line(line)

    def close(self, now: float) -> None:
        """Read a last line that has no line end."""
        self._now = now
        if self._lines is None:
            self._read(self._first)
        else:
            self._read(self._lines.flush())
            self.reading.unreadable += self._lines.overlong

    def _read(self, text: bytes) -> None:
        try:
            line = _decode(text)
        except UNREADABLE:
            self._read_odd(text)
        else:
            self._read_line(line)

    def _read_odd(self, text: bytes) -> None:
        """Read a line that is not strict JSON."""
        if not text or text.isspace():
            return
        try:
            self._read_line(decode_tolerantly(_decode, text))
        except UNREADABLE as error:
            self.reading.note_unreadable(error)

    def _read_line(self, line: _Line) -> None:
        reading = self.reading
        message = line.message
        has_content = True
        if line.response or line.tool_calls or (message is not None and (message.content or message.tool_calls)):
            self._content()
        elif line.thinking or (message is not None and message.thinking):
            reading.thoughts += 1
            self._content()
        else:
            has_content = False
        if reading.texts is not None:
            reading.texts.append(line.response or "")
            reading.texts.append((message.content if message is not None else "") or "")
        if line.error is not _NO_ERROR and bytes(line.error) not in _NOT_ERRORS:
            reading.fail(bytes(line.error))
        if line.model:
            reading.model = line.model
        if line.done:
            reading.is_whole = has_content and reading.chunks == 1
            reading.finished = True
            reading.reason = line.done_reason or ""
            reading.usage = line.usage()


class EmbedDialect(ObjectReader):
    """Reads `/api/embed` and `/api/embeddings`, which return one object. The latter reports no tokens and no model."""

    __slots__ = ()

    def _read_object(self, body: bytes) -> None:
        line = _decode(body)
        self.reading.model = line.model or ""
        if line.model:
            self.reading.usage = line.usage()


class _Progress(msgspec.Struct):
    status: str = ""
    digest: str = ""
    completed: int = 0
    error: str | None = None


_decode_progress = msgspec.json.Decoder(_Progress).decode


class ProgressDialect(Reader):
    """Reads the progress of `/api/pull`, `/api/push` and `/api/create`, streamed or not. It ends with `success`."""

    __slots__ = ("_completed", "_lines")

    def __init__(self, on_content: OnContent) -> None:
        super().__init__(on_content)
        self._lines = LineSplitter(_MAX_PROGRESS_BYTES)
        self._completed: dict[str, int] = {}

    def feed(self, data: bytes, now: float) -> None:
        """Read the next bytes of the body."""
        for line in self._lines.feed(data):
            self._read(line)

    def close(self, now: float) -> None:
        """Read a last line that has no line end."""
        self._read(self._lines.flush())

    def _read(self, text: bytes) -> None:
        if not text or text.isspace():
            return
        try:
            line = _decode_progress(text)
        except UNREADABLE:
            self.reading.unreadable += 1
            return
        if line.error is not None:
            self.reading.failed = True
        if line.status == "success":
            self.reading.finished = True
        if line.digest and (line.digest in self._completed or len(self._completed) < _MAX_LAYERS):
            before = self._completed.get(line.digest, 0)
            if line.completed > before:
                self._completed[line.digest] = line.completed
                self.reading.transferred += line.completed - before
