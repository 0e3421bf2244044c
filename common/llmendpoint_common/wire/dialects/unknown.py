"""Dialect of routes that are not known: finds a model, content and usage in the shapes that the known routes have.

A stream is read by lines, which are NDJSON or the `data` of server-sent events. A field of another type than expected
is ignored.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from llmendpoint_common.wire.decoding import UNREADABLE
from llmendpoint_common.wire.dialects.base import ObjectReader, Reader
from llmendpoint_common.wire.dialects.reading import OnContent, Usage
from llmendpoint_common.wire.ndjson import LineSplitter

T = TypeVar("T")
D = TypeVar("D")

_DONE = b"[DONE]"
_NANOSECONDS = 1e-9
_TERMINAL = frozenset({"message_stop", "response.completed", "response.incomplete"})
_FAILED = frozenset({"error", "response.failed"})
_EMPTY = frozenset({b"", b"null", b'""', b"[]", b"{}"})
_NOTHING = msgspec.Raw(b"")


class _Item(msgspec.Struct):
    """A response, a line or the data of an event, of Ollama's, OpenAI's or Anthropic's API."""

    model: msgspec.Raw = _NOTHING
    type: msgspec.Raw = _NOTHING
    error: msgspec.Raw = _NOTHING
    usage: msgspec.Raw = _NOTHING
    #: A text in Ollama's API, and an object in the Responses API.
    response: msgspec.Raw = _NOTHING
    message: msgspec.Raw = _NOTHING
    thinking: msgspec.Raw = _NOTHING
    tool_calls: msgspec.Raw = _NOTHING
    choices: msgspec.Raw = _NOTHING
    delta: msgspec.Raw = _NOTHING
    stop_reason: msgspec.Raw = _NOTHING
    done: msgspec.Raw = _NOTHING
    done_reason: msgspec.Raw = _NOTHING
    total_duration: msgspec.Raw = _NOTHING
    load_duration: msgspec.Raw = _NOTHING
    prompt_eval_count: msgspec.Raw = _NOTHING
    prompt_eval_duration: msgspec.Raw = _NOTHING
    eval_count: msgspec.Raw = _NOTHING
    eval_duration: msgspec.Raw = _NOTHING


class _Part(msgspec.Struct):
    """A message, or a difference of one."""

    model: msgspec.Raw = _NOTHING
    usage: msgspec.Raw = _NOTHING
    content: msgspec.Raw = _NOTHING
    text: msgspec.Raw = _NOTHING
    thinking: msgspec.Raw = _NOTHING
    reasoning: msgspec.Raw = _NOTHING
    partial_json: msgspec.Raw = _NOTHING
    tool_calls: msgspec.Raw = _NOTHING
    stop_reason: msgspec.Raw = _NOTHING

    def has_content(self) -> bool:
        fields = (self.content, self.text, self.thinking, self.reasoning, self.partial_json, self.tool_calls)
        return any(bytes(field) not in _EMPTY for field in fields)


class _Choice(msgspec.Struct):
    message: msgspec.Raw = _NOTHING
    delta: msgspec.Raw = _NOTHING
    text: msgspec.Raw = _NOTHING
    finish_reason: msgspec.Raw = _NOTHING

    def has_content(self) -> bool:
        parts = (_read(part, _Part, _NO_PART) for part in (self.message, self.delta))
        return bytes(self.text) not in _EMPTY or any(part.has_content() for part in parts)


class _Details(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: _Details | None = None
    cache_read_input_tokens: int | None = None


_NO_PART = _Part()
_decode = msgspec.json.Decoder(_Item).decode


class _UnknownReader(Reader):
    """Reads one object of a response."""

    __slots__ = ()

    def _read_item(self, text: bytes) -> bool:
        """Add an object to the reading. Returns whether streams of its shape end with a terminal event."""
        item = _decode(text)
        reading = self.reading
        kind = _read(item.type, str, "")
        reading.model = _read(item.model, str, "") or reading.model
        reading.failed |= bytes(item.error) not in _EMPTY or kind in _FAILED
        if _read(item.done, bool, False) or kind in _TERMINAL:
            reading.finished = True
        parts = [_read(part, _Part, _NO_PART) for part in (item.message, item.response, item.delta)]
        choices = _read(item.choices, list[_Choice], [])
        self._read_ollama_usage(item)
        for usage in (item.usage, *(part.usage for part in parts)):
            self._read_usage(usage)
        for part in parts:
            reading.model = _read(part.model, str, "") or reading.model
        reasons = [item.done_reason, item.stop_reason, *(part.stop_reason for part in parts)]
        for reason in (*reasons, *(choice.finish_reason for choice in choices)):
            self._read_reason(_read(reason, str, ""))
        if (
            any(_read(text, str, "") for text in (item.response, item.thinking, item.delta))
            or bytes(item.tool_calls) not in _EMPTY
            or any(part.has_content() for part in parts)
            or any(choice.has_content() for choice in choices)
        ):
            self._content()
        return bool(bytes(item.done) or bytes(item.choices) or kind)

    def _read_ollama_usage(self, item: _Item) -> None:
        if not bytes(item.prompt_eval_count) and not bytes(item.eval_count):
            return
        usage = self.reading.usage = self.reading.usage or Usage()
        usage.prompt_tokens = _read(item.prompt_eval_count, int, 0)
        usage.generation_tokens = _read(item.eval_count, int, 0)
        if bytes(item.total_duration):
            usage.total_seconds = _read(item.total_duration, int, 0) * _NANOSECONDS
            usage.load_seconds = _read(item.load_duration, int, 0) * _NANOSECONDS
            usage.prefill_seconds = _read(item.prompt_eval_duration, int, 0) * _NANOSECONDS
            usage.decode_seconds = _read(item.eval_duration, int, 0) * _NANOSECONDS

    def _read_usage(self, raw: msgspec.Raw) -> None:
        """Add a usage. In Anthropic's API, the last one contains only what has changed."""
        given = _read(raw, _Usage, None)
        if given is None:
            return
        usage = self.reading.usage = self.reading.usage or Usage()
        details = given.prompt_tokens_details or given.input_tokens_details
        cached = details.cached_tokens if details else given.cache_read_input_tokens
        usage.prompt_tokens = _first(given.prompt_tokens, given.input_tokens, usage.prompt_tokens)
        usage.generation_tokens = _first(given.completion_tokens, given.output_tokens, usage.generation_tokens)
        usage.cached_tokens = _first(cached, usage.cached_tokens)

    def _read_reason(self, reason: str) -> None:
        if reason:
            self.reading.reason = "length" if reason == "max_tokens" else reason


class UnknownStreamDialect(_UnknownReader):
    """Reads a stream, which is complete if it has its terminal event, or if its shape has none."""

    __slots__ = ("_expects_end", "_lines")

    def __init__(self, on_content: OnContent) -> None:
        super().__init__(on_content)
        self._lines = LineSplitter()
        #: Whether the stream has a shape that ends with a terminal event.
        self._expects_end = False

    def feed(self, data: bytes, now: float) -> None:
        """Read the next bytes of the body."""
        self._now = now
        for line in self._lines.feed(data):
            self._read_line(line)

    def close(self, now: float) -> None:
        """Read a last line that has no line end."""
        self._now = now
        self._read_line(self._lines.flush())
        self.reading.unreadable += self._lines.overlong
        self.reading.finished |= not self._expects_end

    def _read_line(self, line: bytes) -> None:
        text = line.removeprefix(b"data:").strip()
        if text == _DONE:
            self.reading.finished = True
        elif text.startswith(b"{"):
            try:
                self._expects_end |= self._read_item(text)
            except UNREADABLE as error:
                self.reading.note_unreadable(error)


class UnknownObjectDialect(_UnknownReader, ObjectReader):
    """Reads one object. A response that is not an object, such as a text or a file, has no usage."""

    __slots__ = ()

    def _read_object(self, body: bytes) -> None:
        if body.lstrip().startswith(b"{"):
            self._read_item(body)


def _read(raw: msgspec.Raw, kind: type[T], default: D) -> T | D:
    """Return a value, or the default if it is absent or has another type."""
    if not bytes(raw):
        return default
    try:
        return msgspec.json.decode(raw, type=kind)
    except UNREADABLE:
        return default


def _first(*counts: int | None) -> int | None:
    return next((count for count in counts if count is not None), None)
