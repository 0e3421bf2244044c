"""Collector for a complete JSON body of up to 16 MiB. The tokens of a larger response are not counted."""

from __future__ import annotations

MAX_BODY_BYTES = 16 * 1024 * 1024


class BoundedBody:
    """Collects the pieces of a body, and discards them if the body exceeds MAX_BODY_BYTES."""

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
        """Return the body, or None if it was too large, and clear the collector."""
        parts, self._parts = self._parts, []
        return None if self._size > MAX_BODY_BYTES else b"".join(parts)
