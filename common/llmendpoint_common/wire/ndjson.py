"""Splitter for the lines of a stream (NDJSON). Bytes may be split anywhere; memory is bounded by the longest line."""

from __future__ import annotations

#: The last line of `/api/generate` contains `context`, which can take several megabytes.
MAX_LINE_BYTES = 16 * 1024 * 1024


class LineSplitter:
    """Turns pieces of bytes into lines without their line end.

    A line longer than `limit` bytes is discarded and counted in `overlong`.
    """

    __slots__ = ("_dropping", "_limit", "_parts", "_size", "overlong")

    def __init__(self, limit: int = MAX_LINE_BYTES) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0
        self._dropping = False
        self.overlong = 0

    @property
    def is_between(self) -> bool:
        """Whether all bytes so far belong to lines that have ended."""
        return not self._parts and not self._dropping

    def is_line(self, data: bytes) -> bool:
        """Return whether `data` is exactly one complete line, so that it does not have to be fed. Most pieces are."""
        return not self._parts and not self._dropping and data.find(b"\n") == len(data) - 1 and len(data) <= self._limit

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that `data` completes."""
        if not self._parts and not self._dropping and data.endswith(b"\n"):
            lines = data.split(b"\n")
            lines.pop()
            return lines
        return self._feed_partial(data)

    def flush(self) -> bytes:
        """Return the bytes after the last line end, and clear them."""
        rest = b"".join(self._parts)
        self._parts.clear()
        self._size = 0
        return rest

    def _feed_partial(self, data: bytes) -> list[bytes]:
        *ended, rest = data.split(b"\n")
        lines: list[bytes] = []
        for line in ended:
            self._append(line)
            if self._dropping:
                self._dropping = False
            else:
                lines.append(self.flush())
        self._append(rest)
        return lines

    def _append(self, part: bytes) -> None:
        if self._dropping or not part:
            return
        self._size += len(part)
        if self._size > self._limit:
            self.flush()
            self._dropping = True
            self.overlong += 1
        else:
            self._parts.append(part)
