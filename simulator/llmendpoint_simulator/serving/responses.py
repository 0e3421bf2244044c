"""Responses, and their bytes."""

from __future__ import annotations

import time
from email.utils import formatdate
from http import HTTPStatus
from typing import NamedTuple

JSON = "application/json"
#: Ollama names the charset in answers of its own API, and not in answers that it rewrites for another API.
JSON_UTF8 = "application/json; charset=utf-8"


class Response(NamedTuple):
    """A whole response. Without a content type, it has no such header. `fields` are further headers."""

    status: int
    body: bytes = b""
    content_type: str | None = None
    fields: tuple[tuple[str, str], ...] = ()


def encoded(response: Response, *, version: str = "1.1", keep_alive: bool = True, head_only: bool = False) -> bytes:
    """Return the bytes of a response to a request of an HTTP version. `head_only` leaves the body out (HEAD)."""
    head = _begin(response, version)
    if version == "1.0" and keep_alive:
        head += "Connection: keep-alive\r\n"
    elif version != "1.0" and not keep_alive:
        head += "Connection: close\r\n"
    # A response with status 204 has neither a body nor a length (RFC 9110, 8.6).
    length = "" if response.status == HTTPStatus.NO_CONTENT else f"Content-Length: {len(response.body)}\r\n"
    return f"{head}{length}\r\n".encode() + (b"" if head_only else response.body)


def stream_head(response: Response, *, version: str, keep_alive: bool) -> bytes:
    """Return the head of a response whose length is not known. HTTP/1.0 has no chunked coding."""
    head = _begin(response, version)
    if version == "1.0":
        return f"{head}Connection: close\r\n\r\n".encode()
    close = "" if keep_alive else "Connection: close\r\n"
    return f"{head}{close}Transfer-Encoding: chunked\r\n\r\n".encode()


def _begin(response: Response, version: str) -> str:
    """Return the status line and the headers of a response that do not depend on its framing."""
    kind = "" if response.content_type is None else f"Content-Type: {response.content_type}\r\n"
    fields = "".join(f"{name}: {value}\r\n" for name, value in response.fields)
    return f"HTTP/{version} {response.status} {_reason(response.status)}\r\n{kind}Date: {_dates.text()}\r\n{fields}"


def whole_response(status: int, body: bytes, content_type: str = JSON) -> bytes:
    """Return the bytes of a response over HTTP/1.1 on a connection that stays open."""
    return encoded(Response(status, body, content_type))


def framed(data: bytes) -> bytes:
    """Return bytes as one chunk of the chunked coding (RFC 9112, 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


#: End of a body in the chunked coding.
LAST_CHUNK = b"0\r\n\r\n"


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Status"


class _Dates:
    """The current date as headers have it (RFC 9110, 5.6.7), formatted once per second."""

    def __init__(self) -> None:
        self._second = 0
        self._text = ""

    def text(self) -> str:
        now = int(time.time())
        if now != self._second:
            self._second, self._text = now, formatdate(now, usegmt=True)
        return self._text


_dates = _Dates()
