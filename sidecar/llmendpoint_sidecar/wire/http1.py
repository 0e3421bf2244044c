"""HTTP/1.1 heads: what a proxy may pass on, and how the head it sends is written (RFC 9110, 9112)."""

from __future__ import annotations

from collections.abc import Collection
from typing import TypeAlias
from urllib.parse import unquote_to_bytes

Headers: TypeAlias = list[tuple[bytes, bytes]]

HEAD_END = b"\r\n\r\n"
MAX_HEAD_BYTES = 64 * 1024

#: RFC 9110, 7.6.1, with the two that old clients still send.
HOP_BY_HOP = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"te", b"upgrade", b"proxy-authenticate"})


_NEVER_NAMED = frozenset({b"content-length", b"transfer-encoding", b"host", b"close", b"keep-alive", b""})


def end_to_end(headers: Headers, dropped: Collection[bytes] = ()) -> Headers:
    """Return the headers that travel on, in order and spelling; `dropped` holds more lower-case names to leave."""
    kept: Headers = []
    options: list[bytes] = []
    for pair in headers:
        name = pair[0].lower()
        if name in HOP_BY_HOP:
            if name == b"connection":
                options.append(pair[1])
        elif name not in dropped:
            kept.append(pair)
    if not options:
        return kept
    # Framing and Host are never a hop's to name: "Connection: content-length" must not strip them.
    named = {token.strip() for token in b",".join(options).lower().split(b",")} - _NEVER_NAMED
    return [pair for pair in kept if pair[0].lower() not in named] if named else kept


def header(headers: Headers, wanted: bytes) -> bytes | None:
    """Return the first value of a header, by its lower-case name."""
    for name, value in headers:
        if name.lower() == wanted:
            return value
    return None


def count(headers: Headers, wanted: bytes) -> int:
    """Return how many headers have a lower-case name."""
    return sum(name.lower() == wanted for name, _ in headers)


def head_size(target: bytes, headers: Headers) -> int:
    """Return about how many bytes a head took."""
    return len(target) + sum(len(name) + len(value) + 4 for name, value in headers)


def write_head(start_line: bytes, headers: Headers) -> bytes:
    """Return a head with its empty line."""
    lines = [start_line]
    lines += [name + b": " + value for name, value in headers]
    return b"\r\n".join(lines) + HEAD_END


def origin_form(target: bytes) -> bytes:
    """Return the path and query of a request target; an absolute-form target loses its authority (RFC 9112, 3.2.2)."""
    if target.startswith(b"/") or target == b"*":
        return target
    _, separator, rest = target.partition(b"://")
    if not separator:
        return target
    authority, slash, path = rest.partition(b"/")
    if slash:
        return b"/" + path
    return b"/?" + authority.partition(b"?")[2] if b"?" in authority else b"/"


def path_of(target: bytes) -> bytes:
    """Return a target's path as Ollama's router compares it: without query, percent-decoded (Go's URL.Path)."""
    path = target.partition(b"?")[0]
    if path.startswith(b"/") and b"%" not in path:
        return path
    return unquote_to_bytes(origin_form(target).partition(b"?")[0])


def chunk(data: bytes) -> bytes:
    """Return `data` as one chunk of the chunked coding (RFC 9112, 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)
