"""Rules for every request and response: hosts, origins, headers, and the token against forged requests (CSRF)."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Middleware

from llmendpoint_common.process.hosts import HostRule
from llmendpoint_dashboard.server.answers import problem

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

CSRF_HEADER = "X-CSRF-Token"
#: Paths of probes, which kubelet asks for under the address of the pod.
PROBES = frozenset({"/livez", "/readyz"})
_SESSION = "llmendpoint_session"
_SESSION_BYTES = 32
_POLICY = (
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'; "
    "connect-src 'self'; img-src 'self' data:"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


async def set_headers(_: web.Request, response: web.StreamResponse) -> None:
    """Add the headers that every response has. A handler may have set stricter ones."""
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    # It would tell strangers the versions of Python and aiohttp.
    response.headers.pop("Server", None)


def host_guard(hosts: HostRule | None) -> Middleware:
    """Return the middleware that refuses requests for foreign hosts and from foreign origins.

    `hosts` is None if every host is served.
    """

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path in PROBES:
            return await handler(request)
        host = request.headers.get("Host", "")
        if hosts is not None and not hosts[host.encode("utf-8", "surrogateescape")]:
            return problem(
                HTTPStatus.FORBIDDEN,
                "This host name is not allowed. Use localhost, or allow the name with --allowed-host.",
            )
        if is_foreign(request, host):
            return problem(HTTPStatus.FORBIDDEN, "Requests of pages of another origin are refused.")
        return await handler(request)

    return check


def is_foreign(request: web.Request, host: str) -> bool:
    """Return whether a page of another origin has sent a request.

    A browser sends Origin with requests that can change something, and Sec-Fetch-Site with every request. A link on
    another page may open the dashboard, but must not read from its API.
    """
    origin = request.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
        return True
    site = request.headers.get("Sec-Fetch-Site", "same-origin")
    return request.path.startswith("/api/") and site not in ("same-origin", "none")


class Sessions:
    """Tokens against forged requests. A session is a random cookie, and its token is derived from it and a secret.

    Another site can make a browser send a request, but can neither read the token nor set the header.
    """

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)

    def begin(self, request: web.Request) -> tuple[str, str | None]:
        """Return the token of a browser, and the value of a new cookie, or None if it has one already."""
        session = request.cookies.get(cookie_name(_SESSION, request), "")
        if len(session) == 2 * _SESSION_BYTES:
            return self._token(session), None
        session = secrets.token_hex(_SESSION_BYTES)
        return self._token(session), session

    def set_cookie(self, request: web.Request, response: web.Response, value: str) -> None:
        """Set the cookie of a session."""
        set_cookie(response, request, _SESSION, value)

    def is_valid(self, request: web.Request) -> bool:
        """Return whether a request has a session and its token."""
        session = request.cookies.get(cookie_name(_SESSION, request), "")
        given = request.headers.get(CSRF_HEADER, "")
        return bool(session) and hmac.compare_digest(given.encode(), self._token(session).encode())

    def _token(self, session: str) -> str:
        return hmac.new(self._secret, session.encode(), hashlib.sha256).hexdigest()


def cookie_name(name: str, request: web.Request) -> str:
    """Return the name of a cookie on this port. Cookies of a host are sent to all of its ports (RFC 6265, 8.5)."""
    port = request.host.rpartition(":")[2]
    return f"{name}_{port}" if port.isdecimal() else name


def set_cookie(response: web.Response, request: web.Request, name: str, value: str, max_age: int | None = None) -> None:
    """Set a cookie that scripts cannot read, and that is not sent with requests of other sites."""
    is_secure = request.secure or request.headers.get("X-Forwarded-Proto") == "https"
    response.set_cookie(
        cookie_name(name, request), value, max_age=max_age, path="/", httponly=True, samesite="Strict", secure=is_secure
    )
