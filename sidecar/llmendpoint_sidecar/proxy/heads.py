"""Writes the heads that travel on: requests to the upstream, responses to the client.

Lines travel on as they came, except those that belong to one connection or are the proxy's own.
"""

from __future__ import annotations

import itertools
import secrets

from llmendpoint_common.contracts.sidecar import REQUEST_ID_HEADER
from llmendpoint_common.wire.http1 import heads
from llmendpoint_common.wire.http1.request_reader import RequestHead
from llmendpoint_common.wire.http1.response_reader import ResponseHead
from llmendpoint_sidecar.records.journal import is_plain_id

_VERSION = b"HTTP/1.1"
_CLOSE = b"Connection: close"
#: Dropped if the proxy itself asks for keys: they are none of the upstream's business.
_CREDENTIALS = frozenset({b"authorization", b"x-api-key"})
#: The upstream gets its own Host: Ollama on loopback refuses foreign names.
_REQUEST_DROPPED = heads.HOP_BY_HOP | {b"host"}
#: A request that is here as a whole waits for no 100 Continue.
_WHOLE_REQUEST_DROPPED = _REQUEST_DROPPED | {b"expect"}
#: HTTP/1.0 has no chunked coding (RFC 9112, 6.1).
_UNCHUNKED_DROPPED = heads.HOP_BY_HOP | {b"transfer-encoding", b"trailer"}

_ID_LINE = REQUEST_ID_HEADER.encode() + b": "
_ID_NAME = REQUEST_ID_HEADER.lower().encode()
#: Request IDs of this process: an unguessable prefix and a counter. A UUID for each costs as much as parsing the head.
_ID_PREFIX = secrets.token_hex(10)
_numbers = itertools.count(1)


def request_id_of(request: RequestHead) -> tuple[str, str]:
    """Return the ID of a request, and the same again if the proxy made it.

    The ID is the client's own if it is a plain word, and empty if it is anything else. The second one is empty if the
    client sent an ID.
    """
    given = request.head.fields.get(_ID_NAME)
    if given is None:
        made = f"{_ID_PREFIX}{next(_numbers):012x}"
        return made, made
    text = given.decode("latin-1")
    return (text if is_plain_id(text) else ""), ""


class RequestHeadWriter:
    """Writes the heads of forwarded requests. `drop_keys`: the proxy asks for keys, and they stay here."""

    __slots__ = ("_dropped", "_host_line", "_whole_dropped")

    def __init__(self, host_line: bytes, *, drop_keys: bool) -> None:
        self._host_line = host_line
        keys = _CREDENTIALS if drop_keys else frozenset[bytes]()
        self._dropped = _REQUEST_DROPPED | keys
        self._whole_dropped = _WHOLE_REQUEST_DROPPED | keys

    def write(self, request: RequestHead, made_id: str, whole: bool, length: int | None) -> bytes:
        """Return the head that the upstream gets.

        `whole`: the body is here as well. `length`: the size of the body if the proxy changed it, else None.
        """
        dropped = self._whole_dropped if whole else self._dropped
        if length is not None:
            dropped |= {b"content-length"}
        lines = heads.end_to_end(request.head, dropped)
        lines.insert(0, self._host_line)
        if length is not None and not request.chunked:
            lines.append(b"Content-Length: %d" % length)
        if made_id:
            lines.append(_ID_LINE + made_id.encode())
        target = request.target if request.target.startswith(b"/") else heads.origin_form(request.target)
        return heads.join_head(b"%b %b HTTP/1.1" % (request.method, target), lines)


def write_response_head(response: ResponseHead, close: bool, unchunked: bool) -> bytes:
    """Return the head that the client gets; `close` ends its connection, `unchunked` drops the chunked coding."""
    head = response.head
    dropped = _UNCHUNKED_DROPPED if unchunked else heads.HOP_BY_HOP
    if not close and dropped.isdisjoint(head.fields) and head.start.startswith(_VERSION):
        return response.raw
    lines = heads.end_to_end(head, dropped)
    if close:
        lines.append(_CLOSE)
    return heads.join_head(_VERSION + head.start[len(_VERSION) :], lines)
