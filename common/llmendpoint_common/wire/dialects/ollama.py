"""Dialect of Ollama's own API (api/types.go): NDJSON lines or one JSON object; the last one has `done: true`."""

from __future__ import annotations

import msgspec

from llmendpoint_common.wire.decoding import UNREADABLE
from llmendpoint_common.wire.dialects.base import ObjectReader, Reader
from llmendpoint_common.wire.dialects.reading import OnContent, Usage
from llmendpoint_common.wire.ndjson import LineSplitter

_NANOSECONDS = 1e-9
_MAX_PROGRESS_BYTES = 64 * 1024
_MAX_LAYERS = 1024


class _Message(msgspec.Struct, gc=False):
    content: str = ""
    thinking: str = ""
    tool_calls: list[msgspec.Raw] | None = None

    def has_content(self) -> bool:
        return bool(self.content or self.thinking or self.tool_calls)


class _Line(msgspec.Struct, gc=False):
    """A JSON object of `/api/generate` or `/api/chat`. Ollama omits every count and duration that is zero."""

    model: str = ""
    response: str = ""
    thinking: str = ""
    message: _Message | None = None
    tool_calls: list[msgspec.Raw] | None = None
    error: str | None = None
    done: bool = False
    done_reason: str = ""
    total_duration: int = 0
    load_duration: int = 0
    prompt_eval_count: int = 0
    prompt_eval_cached_count: int | None = None
    prompt_eval_duration: int = 0
    eval_count: int = 0
    eval_duration: int = 0

    def usage(self) -> Usage:
        """Return the usage in the final object. A missing field means 0."""
        return Usage(
            prompt_tokens=self.prompt_eval_count,
            generation_tokens=self.eval_count,
            cached_tokens=self.prompt_eval_cached_count,
            total_seconds=self.total_duration * _NANOSECONDS,
            load_seconds=self.load_duration * _NANOSECONDS,
            prefill_seconds=self.prompt_eval_duration * _NANOSECONDS,
            decode_seconds=self.eval_duration * _NANOSECONDS,
        )


_decode = msgspec.json.Decoder(_Line).decode


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
            self.reading.unreadable += bool(text) and not text.isspace()
            return
        reading = self.reading
        message = line.message
        if line.response or line.thinking or line.tool_calls or (message is not None and message.has_content()):
            self._content()
        if line.error is not None:
            reading.failed = True
        if line.model:
            reading.model = line.model
        if line.done:
            reading.finished = True
            reading.reason = line.done_reason
            reading.usage = line.usage()


class EmbedDialect(ObjectReader):
    """Reads `/api/embed` and `/api/embeddings`, which return one object. The latter reports no tokens and no model."""

    __slots__ = ()

    def _read_object(self, body: bytes) -> None:
        line = _decode(body)
        self.reading.model = line.model
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
