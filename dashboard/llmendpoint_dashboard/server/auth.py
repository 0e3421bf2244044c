"""Authentication: everyone, users with a token, or users whom a proxy in front has authenticated.

The token is sent as `Authorization: Bearer TOKEN`, or once in the form at `/login`, which sets a cookie. The cookie
does not contain the token: it is a time and its signature with the token. So it ends by itself, and with the token, and
a restart of the dashboard does not end it. Wrong tokens are limited per address and in total.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
import re
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from html import escape
from http import HTTPStatus
from pathlib import Path
from typing import Protocol

from aiohttp import web
from aiohttp.typedefs import Middleware

from llmendpoint_common.process.errors import APIKeyError
from llmendpoint_dashboard.server.answers import problem
from llmendpoint_dashboard.server.guard import PROBES, Handler, cookie_name, set_cookie
from llmendpoint_dashboard.settings import Auth, AuthMode, IPNetwork

log = logging.getLogger(__name__)

LOGIN_PATH, LOGIN_STYLE_PATH = "/login", "/login.css"
_COOKIE = "llmendpoint_login"
#: How long a login lasts.
_LOGIN_SECONDS = 12 * 3600
#: A shorter token could be guessed.
_MIN_TOKEN_LENGTH = 16
_MAX_TOKEN_BYTES = 4096
#: Wrong tokens per minute, of one address and of all, and the number of addresses that are remembered.
_MAX_FAILURES, _MAX_ALL_FAILURES, _MAX_PEERS = 10, 200, 4096
_FAILURE_SECONDS = 60.0
_BEARER = re.compile(r"(?i)bearer +(\S+)")
#: How often the file of the token is looked at.
_TOKEN_CHECK_SECONDS = 1.0


class Authenticator(Protocol):
    """Decides whether a request is answered."""

    def check(self, request: web.Request) -> web.Response | None:
        """Return None if the user is known, and otherwise the answer."""

    def routes(self) -> list[web.RouteDef]:
        """Return the routes that everyone may use, for example to log in."""


class Everyone:
    """Answers every request."""

    def check(self, _: web.Request) -> web.Response | None:
        """Return None."""
        return None

    def routes(self) -> list[web.RouteDef]:
        """Return no routes."""
        return []


class ProxyHeader:
    """Answers users whom a proxy in front names in a header, if the request comes from an address of the proxy."""

    def __init__(self, header: str, proxies: tuple[IPNetwork, ...]) -> None:
        self._header = header
        self._proxies = proxies

    def check(self, request: web.Request) -> web.Response | None:
        """Return None if the proxy has named the user."""
        if self._is_proxy(peer_of(request)) and request.headers.get(self._header, "").strip():
            return None
        return problem(
            HTTPStatus.UNAUTHORIZED, f"Use the dashboard through its proxy, which sets the header {self._header}."
        )

    def routes(self) -> list[web.RouteDef]:
        """Return no routes."""
        return []

    def _is_proxy(self, peer: str) -> bool:
        try:
            address = ipaddress.ip_address(peer.partition("%")[0])
        except ValueError:
            return False
        plain = getattr(address, "ipv4_mapped", None) or address
        return any(plain in network for network in self._proxies)


class TokenFile:
    """The token in a file, which is read again when it has changed."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._token = self._read()
        self._checked = clock()

    @property
    def token(self) -> bytes:
        """The present token. If the file can no longer be read, the last one stays."""
        if self._clock() - self._checked >= _TOKEN_CHECK_SECONDS:
            self._checked = self._clock()
            try:
                self._token = self._read()
            except APIKeyError as error:
                log.warning("the token stays as it is: %s", error)
        return self._token

    def _read(self) -> bytes:
        try:
            with self._path.open("rb") as file:
                token = file.read(_MAX_TOKEN_BYTES + 1).strip()
        except OSError as error:
            raise APIKeyError(f"{self._path}: {error.strerror}") from error
        if len(token) > _MAX_TOKEN_BYTES:
            raise APIKeyError(f"{self._path}: the token is longer than {_MAX_TOKEN_BYTES} bytes")
        if len(token) < _MIN_TOKEN_LENGTH:
            raise APIKeyError(
                f"{self._path}: the token is shorter than {_MIN_TOKEN_LENGTH} characters; make one with: "
                "openssl rand -hex 32"
            )
        return token


class Failures:
    """Limits how often wrong tokens can be tried, per address and in total."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._all: deque[float] = deque()
        self._peers: OrderedDict[str, deque[float]] = OrderedDict()

    def are_too_many(self, peer: str) -> bool:
        """Return whether an address has to wait."""
        mine = self._peers.get(peer, deque())
        return self._count(self._all) >= _MAX_ALL_FAILURES or self._count(mine) >= _MAX_FAILURES

    def add(self, peer: str) -> None:
        """Note a wrong token."""
        now = self._clock()
        self._all.append(now)
        self._peers.setdefault(peer, deque()).append(now)
        self._peers.move_to_end(peer)
        while len(self._peers) > _MAX_PEERS:
            self._peers.popitem(last=False)

    def _count(self, times: deque[float]) -> int:
        while times and self._clock() - times[0] > _FAILURE_SECONDS:
            times.popleft()
        return len(times)


class Token:
    """Recognizes users by the token, or by the cookie that the login has set."""

    def __init__(
        self,
        file: TokenFile,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._file = file
        self._failures = Failures(clock)
        self._wall = wall

    def check(self, request: web.Request) -> web.Response | None:
        """Return None if a request has the token or a valid cookie."""
        if self._has_login(request):
            return None
        match = _BEARER.fullmatch(request.headers.get("Authorization", ""))
        if match is not None:
            return self._try(request, match[1])
        if request.method == "GET" and not request.path.startswith("/api/"):
            return web.Response(status=HTTPStatus.SEE_OTHER, headers={"Location": LOGIN_PATH})
        return _unauthorized("Log in, or send the token as `Authorization: Bearer TOKEN`.")

    def routes(self) -> list[web.RouteDef]:
        """Return the pages of the login."""
        return [
            web.get(LOGIN_PATH, self._form),
            web.post(LOGIN_PATH, self._log_in),
            web.post("/logout", self._log_out),
            web.get(LOGIN_STYLE_PATH, _style),
        ]

    async def _form(self, _: web.Request) -> web.Response:
        return _page()

    async def _log_in(self, request: web.Request) -> web.Response:
        if request.content_type != "application/x-www-form-urlencoded":
            return problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "The body must be a form.")
        form = await request.post()
        refusal = self._try(request, str(form.get("token", "")).strip())
        if refusal is not None:
            sentence = "The token is wrong."
            if refusal.status == HTTPStatus.TOO_MANY_REQUESTS:
                sentence = "There were too many wrong tokens. Try again in a minute."
            return _page(sentence, HTTPStatus(refusal.status))
        response = web.Response(status=HTTPStatus.SEE_OTHER, headers={"Location": "/"})
        expires = int(self._wall()) + _LOGIN_SECONDS
        set_cookie(response, request, _COOKIE, f"{expires}.{self._signature(expires)}", _LOGIN_SECONDS)
        return response

    async def _log_out(self, request: web.Request) -> web.Response:
        response = web.Response(status=HTTPStatus.SEE_OTHER, headers={"Location": LOGIN_PATH})
        set_cookie(response, request, _COOKIE, "", 0)
        return response

    def _try(self, request: web.Request, given: str) -> web.Response | None:
        """Return None if the token is right, and otherwise the answer."""
        peer = peer_of(request)
        if self._failures.are_too_many(peer):
            return problem(
                HTTPStatus.TOO_MANY_REQUESTS,
                "There were too many wrong tokens. Try again in a minute.",
                headers={"Retry-After": str(int(_FAILURE_SECONDS))},
            )
        # Digests have the same length, so that the comparison does not show the length of the token.
        right = hmac.compare_digest(_digest(given.encode("utf-8", "surrogateescape")), _digest(self._file.token))
        if right:
            return None
        self._failures.add(peer)
        log.warning("a wrong token from %s", peer)
        return _unauthorized("The token is wrong.")

    def _has_login(self, request: web.Request) -> bool:
        text, _, signature = request.cookies.get(cookie_name(_COOKIE, request), "").partition(".")
        if not text.isascii() or not text.isdecimal() or len(text) > 12:
            return False
        expires = int(text)
        return expires > self._wall() and hmac.compare_digest(signature.encode(), self._signature(expires).encode())

    def _signature(self, expires: int) -> str:
        return hmac.new(_digest(self._file.token), f"login:{expires}".encode(), hashlib.sha256).hexdigest()


def authenticator_of(auth: Auth) -> Authenticator:
    """Return the authenticator for the settings. Raises APIKeyError if the file with the token cannot be used."""
    if auth.mode is AuthMode.HEADER:
        return ProxyHeader(auth.header, auth.proxies)
    if auth.mode is AuthMode.TOKEN and auth.token_file is not None:
        return Token(TokenFile(auth.token_file))
    return Everyone()


def auth_guard(authenticator: Authenticator) -> Middleware:
    """Return the middleware that answers users who are not known. The login and the probes are for everyone."""
    public = {*PROBES, *(route.path for route in authenticator.routes())}

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path not in public:
            refusal = authenticator.check(request)
            if refusal is not None:
                return refusal
        return await handler(request)

    return check


def peer_of(request: web.Request) -> str:
    """Return the address of the peer. Headers such as X-Forwarded-For are ignored, because clients can set them."""
    transport = request.transport
    name = transport.get_extra_info("peername") if transport is not None else None
    return str(name[0]) if name else ""


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _unauthorized(sentence: str) -> web.Response:
    return problem(HTTPStatus.UNAUTHORIZED, sentence, headers={"WWW-Authenticate": 'Bearer realm="llmendpoint"'})


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Log in to llmendpoint</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/login.css">
</head>
<body>
<main>
<h1>llmendpoint</h1>
<form method="post" action="/login">
<p role="alert">{sentence}</p>
<label for="token">Token of the dashboard</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus>
<button type="submit">Log in</button>
</form>
</main>
</body>
</html>
"""
_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { display: grid; place-items: center; min-height: 90vh; margin: 1rem; }
main { width: min(24rem, 100%); }
form { display: grid; gap: .75rem; }
p:empty { display: none; }
p { margin: 0; padding: .5rem .75rem; border: 1px solid; border-radius: .375rem; }
input, button { font: inherit; padding: .5rem .75rem; border-radius: .375rem; border: 1px solid; }
button { cursor: pointer; }
"""


def _page(sentence: str = "", status: HTTPStatus = HTTPStatus.OK) -> web.Response:
    text = _PAGE.format(sentence=escape(sentence))
    # With `no-referrer`, browsers send the form with the origin "null" (Fetch, "append a request Origin header"), which
    # is refused.
    headers = {"Referrer-Policy": "same-origin"}
    return web.Response(text=text, status=status, content_type="text/html", headers=headers)


async def _style(_: web.Request) -> web.Response:
    return web.Response(text=_STYLE, content_type="text/css")
