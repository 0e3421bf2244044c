"""Rewrites response bodies that cannot be forwarded unchanged.

These are chunked bodies for HTTP/1.0 clients, which do not know chunks (RFC 9112, 6.1), and event streams with token
usage that the proxy requested and the client did not.
"""

from __future__ import annotations

import re

from llmendpoint_common.wire.http1 import heads
from llmendpoint_common.wire.usage_filter import UsageFilter

_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,8}")


class BodyRewriter:
    """Turns the pieces of a chunked body into the bytes for the client."""

    __slots__ = ("_chunked", "_usage_filter")

    def __init__(self, usage_filter: UsageFilter | None, *, chunked: bool) -> None:
        self._usage_filter = usage_filter
        #: Whether the bytes for the client are chunked.
        self._chunked = chunked

    def rewrite(self, pieces: list[bytes]) -> bytes:
        """Return the bytes for some pieces of the body. The result may be empty."""
        data = b"".join(pieces)
        if self._usage_filter is not None:
            data = self._usage_filter.feed(data)
        return self._framed(data)

    def finish(self) -> bytes:
        """Return the bytes for the end of the body."""
        rest = b"" if self._usage_filter is None else self._framed(self._usage_filter.flush())
        return rest + b"0\r\n\r\n" if self._chunked else rest

    def finish_with(self, data: bytes) -> bytes:
        """Return the bytes for a body that ends with `data`, which does not come from the upstream."""
        rest = b"" if self._usage_filter is None else self._framed(self._usage_filter.flush())
        return rest + self._framed(data) + (b"0\r\n\r\n" if self._chunked else b"")

    def _framed(self, data: bytes) -> bytes:
        return heads.chunk(data) if data and self._chunked else data


def is_between_chunks(raw: bytes) -> bool:
    """Return whether the last bytes of a chunked body end with a chunk. They must begin with one (RFC 9112, 7.1)."""
    at = 0
    while at < len(raw):
        line_end = raw.find(b"\r\n", at)
        size = _CHUNK_SIZE.match(raw, at, max(at, line_end))
        if line_end < 0 or size is None:
            return False
        at = line_end + 2 + int(size[0], 16) + 2
    return at == len(raw) and raw.endswith(b"\r\n")


def rewriter_for(content_type: bytes, usage_filter: UsageFilter | None, *, unchunked: bool) -> BodyRewriter | None:
    """Return the rewriter of a chunked body, or None if the body is forwarded unchanged.

    Usage is removed only from event streams. `unchunked`: the client does not know chunks.
    """
    if not content_type.startswith(b"text/event-stream"):
        usage_filter = None
    if usage_filter is None and not unchunked:
        return None
    return BodyRewriter(usage_filter, chunked=not unchunked)
