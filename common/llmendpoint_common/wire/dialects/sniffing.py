"""Chooses the reader of a response whose media type is missing or unusual, by the first byte of its body.

Clients of model servers do not look at the media type: they read the form that they have requested. Some servers send
none, or `text/plain`, in front of an event stream.
"""

from __future__ import annotations

from llmendpoint_common.wire.dialects.reading import Dialect, DialectFactory, OnContent, Reading

_SPACE = b" \t\r\n\xef\xbb\xbf"
#: First letters of `data`, `event`, `id`, `retry` and of a comment.
_STREAM = frozenset(b"deir:")


class SniffingDialect:
    """Reads an event stream if the body begins like one, and otherwise one object."""

    __slots__ = ("_dialect", "_keeps_text", "_on_content", "_stream", "_whole")

    def __init__(self, on_content: OnContent, stream: DialectFactory, whole: DialectFactory) -> None:
        self._on_content = on_content
        self._stream = stream
        self._whole = whole
        self._dialect: Dialect | None = None
        self._keeps_text = False

    @property
    def reading(self) -> Reading:
        """What was read so far."""
        return Reading() if self._dialect is None else self._dialect.reading

    def keep_text(self) -> None:
        """Keep the text of the content."""
        self._keeps_text = True

    def feed(self, data: bytes, now: float) -> None:
        """Read the next bytes of the body."""
        if self._dialect is None:
            begin = data.lstrip(_SPACE)
            if not begin:
                return
            self._dialect = (self._stream if begin[0] in _STREAM else self._whole)(self._on_content)
            if self._keeps_text:
                self._dialect.keep_text()
        self._dialect.feed(data, now)

    def feed_all(self, pieces: list[bytes], times: list[float]) -> None:
        """Read several pieces of the body, each with the time at which it arrived."""
        for piece, now in zip(pieces, times, strict=True):
            self.feed(piece, now)

    def close(self, now: float) -> None:
        """Read the rest after the end of the body."""
        if self._dialect is None:
            self._dialect = self._whole(self._on_content)
        self._dialect.close(now)
