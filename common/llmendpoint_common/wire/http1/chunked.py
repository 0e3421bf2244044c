"""Chunked coding (RFC 9112, 7.1): finds the end of a body and its trailers, and recognizes reads that are one chunk.

llhttp reads the same bytes, and is stricter. The reader that uses both rejects bytes about which they disagree.

Model servers flush each token, so almost every read of a socket is one whole chunk. If it begins between two chunks, it
does not end a body, and its content can be taken out without llhttp.
"""

from __future__ import annotations

from llmendpoint_common.process.errors import BodyError

#: A chunk's size and extensions (RFC 9112, 7.1.1 asks for a limit), or one trailer. Go's net/http allows 4 KiB.
_MAX_LINE_BYTES = 16 * 1024
#: The same limit as for a head.
_MAX_TRAILER_BYTES = 64 * 1024
#: RFC 9112, 7.1 asks recipients to prevent overflows. Sizes are 64 bits wide in other implementations.
_MAX_CHUNK_BYTES = 2**63
_CRLF = b"\r\n"
#: Longest read that is recognized as one chunk.
_MAX_READ = 4096


class ChunkedFraming:
    """Framing of one body. `ended` is True after the last byte; `trailers` contains the trailer lines.

    `lines` is the number of lines that were read: one for each chunk, and the trailers.
    """

    __slots__ = ("_left", "_line", "_reads_trailers", "ended", "lines", "trailers")

    def __init__(self) -> None:
        self.ended = False
        self.trailers = b""
        self.lines = 0
        self._left = 0
        self._line = b""
        self._reads_trailers = False

    @property
    def is_between(self) -> bool:
        """Whether the next byte begins a chunk."""
        return not self._left and not self._line and not self._reads_trailers

    def feed(self, data: bytes, max_lines: int) -> int:
        """Read bytes, and return how many of them were read: at most `max_lines` lines, and none after the body."""
        at, size = 0, len(data)
        last = self.lines + max_lines
        while at < size and not self.ended:
            if self._left:
                step = min(self._left, size - at)
                self._left -= step
                at += step
                continue
            if self.lines == last:
                break
            end = data.find(b"\n", at)
            self._line += data[at : end if end >= 0 else size]
            if len(self._line) > _MAX_LINE_BYTES:
                raise BodyError("a line of the chunked framing is too long")
            if end < 0:
                return size
            at = end + 1
            line, self._line = self._line, b""
            self.lines += 1
            self._read_line(line.removesuffix(b"\r"))
        return at

    def _read_line(self, line: bytes) -> None:
        if not self._reads_trailers:
            self._begin_chunk(line)
        elif line:
            self.trailers += line + b"\r\n"
            if len(self.trailers) > _MAX_TRAILER_BYTES:
                raise BodyError("the trailers are too large")
        else:
            self.ended = True

    def _begin_chunk(self, line: bytes) -> None:
        try:
            size = int(line.partition(b";")[0], 16)
        except ValueError:
            raise BodyError("the size of a chunk is not a number") from None
        if not 0 <= size < _MAX_CHUNK_BYTES:
            raise BodyError("the size of a chunk is out of bounds")
        if size:
            # The data of a chunk is followed by a line end.
            self._left = size + 2
        else:
            self._reads_trailers = True


def _beginnings_of(length: int) -> tuple[bytes, ...]:
    """Return how a read of this length begins if it is one chunk: servers write the size in lower or in upper case."""
    for digits in range(1, 4):
        size = length - digits - 2 * len(_CRLF)
        if size > 0 and len(f"{size:x}") == digits:
            return b"%x\r\n" % size, b"%X\r\n" % size
    return ()


#: The possible beginnings of a read that is one chunk, by its length. To look one up takes a fifth of the time of
#: reading the size.
_BEGINNINGS = [_beginnings_of(length) for length in range(_MAX_READ + 1)]


def is_one_chunk(read: bytes) -> bool:
    """Return whether a read that begins between two chunks is exactly one chunk with content.

    A chunk that is longer than 4 KiB, or whose size is written with zeros before it or with extensions, is not
    recognized.
    """
    length = len(read)
    return length <= _MAX_READ and read.startswith(_BEGINNINGS[length]) and read.endswith(_CRLF)


def content_of(chunk: bytes) -> bytes:
    """Return the content of a read that `is_one_chunk`."""
    return chunk[chunk.index(b"\n") + 1 : -2]
