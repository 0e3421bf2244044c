"""The HTTP server: joins routes and rules, and listens."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable

from aiohttp import web

from llmendpoint_common.process.hosts import ANY_HOST, HostRule
from llmendpoint_dashboard.server.answers import problems
from llmendpoint_dashboard.server.auth import Authenticator, auth_guard
from llmendpoint_dashboard.server.guard import host_guard, set_headers
from llmendpoint_dashboard.settings import AuthMode, Settings

#: Largest body of a request.
_MAX_BODY_BYTES = 64 * 1024
#: Time that answers get to end when the server stops.
_SHUTDOWN_SECONDS = 2.0


class Server:
    """Serves routes with the rules for every request. `is_ready` answers the readiness probe."""

    def __init__(
        self,
        routes: Iterable[web.RouteDef],
        hosts: HostRule | None,
        authenticator: Authenticator,
        is_ready: Callable[[], bool],
    ) -> None:
        self._is_ready = is_ready
        app = web.Application(
            middlewares=[problems, host_guard(hosts), auth_guard(authenticator)], client_max_size=_MAX_BODY_BYTES
        )
        app.on_response_prepare.append(set_headers)
        app.add_routes([web.get("/livez", _alive), web.get("/readyz", self._ready), *authenticator.routes(), *routes])
        self._runner = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=_SHUTDOWN_SECONDS, keepalive_timeout=75.0
        )

    async def start(self, sockets: list[socket.socket]) -> None:
        """Serve on sockets that already listen."""
        await self._runner.setup()
        for sock in sockets:
            await web.SockSite(self._runner, sock).start()

    async def stop(self) -> None:
        """Stop serving."""
        await self._runner.cleanup()

    async def _ready(self, _: web.Request) -> web.Response:
        if self._is_ready():
            return web.Response(text="ok\n")
        return web.Response(status=503, text="starting\n")


async def _alive(_: web.Request) -> web.Response:
    return web.Response(text="ok\n")


def hosts_of(settings: Settings) -> HostRule | None:
    """Return the hosts that are served, or None for all of them.

    Without authentication, only names of this machine and IP addresses are served, and the names that are allowed. With
    authentication, a foreign name is harmless: the browser sends the cookie of the login only to the name that set it.
    """
    names = settings.allowed_hosts
    if ANY_HOST in names or (settings.auth.mode is not AuthMode.NONE and not names):
        return None
    return HostRule(names, local=True)
