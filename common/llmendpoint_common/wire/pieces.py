"""Queue of bytes that arrive in pieces of any size and are taken in pieces of a chosen size."""

from __future__ import annotations

from collections import deque

#: Smaller pieces are joined, so that a body of tiny pieces takes no more memory than its bytes.
_JOINED_BYTES = 16 * 1024


class Pieces:
    """The bytes that were added and not taken yet. A large piece is kept as a reference; it is not copied."""

    __slots__ = ("_first", "_pieces", "size")

    def __init__(self) -> None:
        self._pieces: deque[bytes | bytearray] = deque()
        #: Number of bytes of the first piece that are taken.
        self._first = 0
        self.size = 0

    def add(self, data: bytes) -> None:
        """Add a piece, in constant time."""
        pieces = self._pieces
        self.size += len(data)
        if pieces and len(data) < _JOINED_BYTES:
            last = pieces[-1]
            if isinstance(last, bytearray) and len(last) < _JOINED_BYTES:
                last += data
                return
            pieces.append(bytearray(data))
            return
        pieces.append(data)

    def take(self, limit_bytes: int) -> bytes:
        """Return the next bytes: at most so many, and at most the rest of one piece. Empty if there are none."""
        if not self._pieces:
            return b""
        piece, start = self._pieces[0], self._first
        stop = min(start + limit_bytes, len(piece))
        if stop == len(piece):
            self._pieces.popleft()
            self._first = 0
        else:
            self._first = stop
        self.size -= stop - start
        return piece if type(piece) is bytes and stop - start == len(piece) else bytes(piece[start:stop])

    def take_all(self) -> bytes:
        """Return all bytes."""
        if len(self._pieces) == 1 and not self._first:
            taken = bytes(self._pieces[0])
        else:
            taken = b"".join(self._pieces)[self._first :]
        self.clear()
        return taken

    def clear(self) -> None:
        """Discard all bytes."""
        self._pieces.clear()
        self._first = self.size = 0
