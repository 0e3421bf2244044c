"""Writes the heads that are forwarded: requests to the upstream, responses to the client.

Lines are forwarded as received, except lines that belong to one connection or that the proxy sets itself. Each request
gets a line Via with a name of this proxy, by which the proxy recognizes a request that it has forwarded before
(RFC 9110, 7.6.3). If several workers serve the port, each has its own name, so a loop ends at the latest when a request
has passed all of them.
"""

from __future__ import annotations

import itertools
import secrets
from http import HTTPStatus

from llmendpoint_common.contracts.sidecar import REQUEST_ID_HEADER
from llmendpoint_common.wire.http1 import heads
from llmendpoint_common.wire.http1.request_reader import Fault, RequestHead
from llmendpoint_common.wire.http1.response_reader import ResponseHead
from llmendpoint_sidecar.proxy.cors import own_origin
from llmendpoint_sidecar.records.journal import is_plain_id

_VERSION = b"HTTP/1.1"
_CLOSE = b"Connection: close"
#: Not forwarded if the proxy checks keys, because the upstream does not need them.
_CREDENTIALS = frozenset({b"authorization", b"x-api-key"})
#: The upstream gets a Host with its own address, because Ollama on loopback rejects other names. Trailer announces
#: trailers, which are not forwarded.
_REQUEST_DROPPED = heads.HOP_BY_HOP | {b"host", b"trailer"}
#: A request that has been received completely does not wait for 100 Continue.
_WHOLE_REQUEST_DROPPED = _REQUEST_DROPPED | {b"expect"}
#: HTTP/1.0 has no chunked coding (RFC 9112, 6.1).
_UNCHUNKED_DROPPED = heads.HOP_BY_HOP | {b"transfer-encoding", b"trailer"}

_ID_LINE = REQUEST_ID_HEADER.encode() + b": "
_ID_NAME = REQUEST_ID_HEADER.lower().encode()
#: Request IDs have an unguessable prefix per process and a counter. A UUID per request takes as long as parsing a head.
_ID_PREFIX = secrets.token_hex(10)
_numbers = itertools.count(1)
_LOOP = Fault(
    HTTPStatus.LOOP_DETECTED,
    "the request has passed this proxy before, because its upstream is an address that leads back to the proxy; set "
    "the upstream to the address of Ollama",
)


def request_id_of(request: RequestHead) -> tuple[str, str]:
    """Return the ID of a request, and the ID that the proxy made.

    If the client sent an ID, the first value is this ID, or empty if `is_plain_id` does not accept it, and the second
    value is empty. Otherwise, both are the ID that the proxy made.
    """
    given = request.head.fields.get(_ID_NAME)
    if given is None:
        made = f"{_ID_PREFIX}{next(_numbers):012x}"
        return made, made
    return _plain_id(given), ""


def _plain_id(value: bytes) -> str:
    text = value.decode("latin-1")
    return text if is_plain_id(text) else ""


class RequestHeadWriter:
    """Writes the heads of forwarded requests. `drop_keys`: API keys are not forwarded."""

    __slots__ = ("_dropped", "_host", "_host_line", "_name", "_via_lines", "_whole_dropped")

    def __init__(self, host: bytes, *, drop_keys: bool) -> None:
        self._host = host
        self._host_line = b"Host: " + host
        self._name = f"llmendpoint-{secrets.token_hex(8)}".encode()
        self._via_lines = {version: b"Via: %b %b" % (version.encode(), self._name) for version in ("1.0", "1.1")}
        keys = _CREDENTIALS if drop_keys else frozenset[bytes]()
        self._dropped = _REQUEST_DROPPED | keys
        self._whole_dropped = _WHOLE_REQUEST_DROPPED | keys

    def loop_of(self, request: RequestHead) -> Fault | None:
        """Return the error response to a request that this proxy has forwarded before, otherwise None."""
        if b"via" not in request.fields:
            return None
        vias = (line for line in request.head.lines if line[:4].lower() == b"via:")
        return _LOOP if any(self._name in line for line in vias) else None

    def write(self, request: RequestHead, made_id: str, whole: bool, length: int | None) -> bytes:
        """Return the head for the upstream.

        `whole`: the body has been received completely. `length`: the size of a body that the proxy changed, otherwise
        None.
        """
        dropped = self._whole_dropped if whole else self._dropped
        if length is not None:
            dropped |= {b"content-length"}
        lines = heads.end_to_end(request.head, dropped)
        if b"origin" in request.fields:
            lines = self._with_origin(request.head, lines)
        lines.insert(0, self._host_line)
        lines.append(self._via_lines[request.version])
        if length is not None and not request.chunked:
            lines.append(b"Content-Length: %d" % length)
        if made_id:
            lines.append(_ID_LINE + made_id.encode())
        target = request.target if request.target.startswith(b"/") else heads.origin_form(request.target)
        return heads.join_head(b"%b %b HTTP/1.1" % (request.method, target), lines)

    def _with_origin(self, head: heads.Head, lines: list[bytes]) -> list[bytes]:
        """Return the lines with an Origin that is the host of the request changed to the host that Ollama gets.

        Otherwise a page and the endpoint under one host name would be of different origins for Ollama.
        """
        scheme = own_origin(head.fields)
        if not scheme or heads.count(head, b"origin") > 1:
            return lines
        own = b"Origin: %b://%b" % (scheme, self._host)
        return [own if line[:7].lower() == b"origin:" else line for line in lines]


def write_response_head(response: ResponseHead, close: bool, unchunked: bool) -> bytes:
    """Return the head for the client.

    `close` announces the end of the connection. `unchunked`: the body is not chunked.
    """
    head = response.head
    dropped = _UNCHUNKED_DROPPED if unchunked else heads.HOP_BY_HOP
    if not close and dropped.isdisjoint(head.fields) and head.start.startswith(_VERSION):
        return response.raw
    lines = heads.end_to_end(head, dropped)
    if close:
        lines.append(_CLOSE)
    return heads.join_head(_VERSION + head.start[len(_VERSION) :], lines)
