"""Reads and writes HTTP/1.1 heads, and selects the lines that a proxy may forward (RFC 9110, RFC 9112).

llhttp decides whether bytes are HTTP. A head that it accepts is split into lines here. Lines are forwarded as they were
received.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TypeAlias
from urllib.parse import unquote_to_bytes

import msgspec

from llmendpoint_common.process.errors import HeadError

Headers: TypeAlias = list[tuple[bytes, bytes]]
#: The last value of each header by its lower-case name, in the order of their first lines.
Fields: TypeAlias = dict[bytes, bytes]

HEAD_END = b"\r\n\r\n"
#: llhttp has no limit, so memory use would be unbounded. The readers' modules list the limits of other servers.
MAX_HEAD_BYTES = 64 * 1024
#: Maximum number of header lines of a request. A line of four bytes takes more than 200 once it is read, and is kept
#: while the request runs. Apache's httpd allows 100, browsers and SDKs send fewer than 40.
MAX_HEAD_LINES = 256
_LINE_END = b"\r\n"

#: Lines that belong to one connection (RFC 9110, 7.6.1), with two that old clients still send.
HOP_BY_HOP = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"te", b"upgrade", b"proxy-authenticate"})

#: Connection cannot name these: "Connection: content-length" must not strip framing or Host.
_NEVER_NAMED = frozenset({b"content-length", b"transfer-encoding", b"host", b"close", b"keep-alive", b""})
#: Values of Connection that name no header.
_PLAIN_OPTIONS = frozenset({b"keep-alive", b"Keep-Alive", b"close", b"Close"})
#: Limits of the cache of lines, so that a client cannot fill the memory with them.
_MAX_KNOWN_LINES = 1024
_MAX_KNOWN_BYTES = 256
#: Names that clients and Ollama send in every head. Other lines may contain a key and are not cached.
_WORTH_KEEPING = frozenset(
    b"accept accept-encoding accept-language cache-control connection content-length content-type date host "
    b"transfer-encoding user-agent".split()
)


class Head(msgspec.Struct, frozen=True, gc=False):
    """A head as it was received: its start line, its header lines without line ends, and their names and values."""

    start: bytes
    lines: list[bytes]
    fields: Fields


class _KnownLines(dict[bytes, tuple[bytes, bytes]]):
    """Cache of name and value by header line. Clients repeat the same lines, so each is parsed once."""

    def __missing__(self, line: bytes) -> tuple[bytes, bytes]:
        name, colon, value = line.partition(b":")
        if not colon:
            raise HeadError("a header line has no colon")
        read = name.lower(), value.strip(b" \t")
        if read[0] in _WORTH_KEEPING and len(line) <= _MAX_KNOWN_BYTES:
            if len(self) >= _MAX_KNOWN_LINES:
                self.clear()
            self[line] = read
        return read


_known = _KnownLines()
_read_line = _known.__getitem__


def read_head(raw: bytes) -> Head:
    """Parse a complete head, including its empty line.

    Raises HeadError if a line does not end with CRLF, or a header line has no colon.
    """
    start, *lines = raw[:-4].split(_LINE_END)
    ends = len(lines) + 2
    if raw.count(b"\n") != ends or raw.count(b"\r") != ends:
        raise HeadError("a line end is bare")
    return Head(start, lines, dict(map(_read_line, lines)))


def end_to_end(head: Head, dropped: Collection[bytes] = HOP_BY_HOP) -> list[bytes]:
    """Return the lines to forward, as they were received. `dropped` contains the lower-case names of lines to omit."""
    lines, fields = head.lines, head.fields
    unique = len(fields) == len(lines)
    names = fields if unique else [_read_line(line)[0] for line in lines]
    kept = [line for line, name in zip(lines, names, strict=True) if name not in dropped]
    options = fields.get(b"connection")
    if options is None or (unique and options in _PLAIN_OPTIONS):
        return kept
    listed = b",".join(value for name, value in map(_read_line, lines) if name == b"connection")
    named = {token.strip() for token in listed.lower().split(b",")} - _NEVER_NAMED
    return [line for line in kept if _read_line(line)[0] not in named]


def count(head: Head, wanted: bytes) -> int:
    """Return the number of lines with a lower-case name."""
    return sum(_read_line(line)[0] == wanted for line in head.lines)


def join_head(start: bytes, lines: list[bytes]) -> bytes:
    """Return a head made of lines, with its empty line."""
    return _LINE_END.join((start, *lines)) + HEAD_END


def write_head(start_line: bytes, headers: Headers) -> bytes:
    """Return a head made of names and values, with its empty line."""
    lines = [start_line]
    lines += [name + b": " + value for name, value in headers]
    return b"\r\n".join(lines) + HEAD_END


def origin_form(target: bytes) -> bytes:
    """Return the path and query of a request target, without the authority of an absolute form (RFC 9112, 3.2.2)."""
    if target.startswith(b"/") or target == b"*":
        return target
    _, separator, rest = target.partition(b"://")
    if not separator:
        return target
    before_query, question, query = rest.partition(b"?")
    _, _, path = before_query.partition(b"/")
    return b"/" + path + question + query


def path_of(target: bytes) -> bytes:
    """Return a target's path as Ollama's router compares it: without query, percent-decoded (Go's URL.Path)."""
    path = target.partition(b"?")[0]
    if path.startswith(b"/") and b"%" not in path:
        return path
    return unquote_to_bytes(origin_form(target).partition(b"?")[0])


def chunk(data: bytes) -> bytes:
    """Return `data` as one chunk of the chunked coding (RFC 9112, 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def chunk_of(pieces: list[bytes], size: int) -> list[bytes]:
    """Return pieces of `size` bytes together as one chunk of the chunked coding, without copying large ones."""
    if len(pieces) == 1:
        return [chunk(pieces[0])]
    return [b"%x\r\n" % size, *pieces, b"\r\n"]
