"""A whole JSON body, kept up to a bound; past it the answer is not metered, and still passed on."""

from __future__ import annotations

MAX_BODY_BYTES = 16 * 1024 * 1024


class BoundedBody:
    """Collects the pieces of one body; `finish` returns None where it grew past the bound."""

    __slots__ = ("_parts", "_size")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        self._size += len(data)
        if self._size > MAX_BODY_BYTES:
            self._parts.clear()
        else:
            self._parts.append(data)

    def finish(self) -> bytes | None:
        """Return the body and forget it."""
        parts, self._parts = self._parts, []
        return None if self._size > MAX_BODY_BYTES else b"".join(parts)
