"""Collector for a whole JSON body, up to 16 MiB. A larger answer is forwarded, but not metered."""

from __future__ import annotations

MAX_BODY_BYTES = 16 * 1024 * 1024


class BoundedBody:
    """Collects the pieces of one body, and drops them if the body exceeds MAX_BODY_BYTES."""

    __slots__ = ("_parts", "_size")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> None:
        """Add the next piece."""
        self._size += len(data)
        if self._size > MAX_BODY_BYTES:
            self._parts.clear()
        else:
            self._parts.append(data)

    def finish(self) -> bytes | None:
        """Return the body and clear the collector. None if the body was too large."""
        parts, self._parts = self._parts, []
        return None if self._size > MAX_BODY_BYTES else b"".join(parts)
