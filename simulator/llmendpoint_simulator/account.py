"""Routes about the server and its account at ollama.com, which the simulator does not have, and aliases."""

from __future__ import annotations

import base64

from llmendpoint_simulator.requests import read_body
from llmendpoint_simulator.serving.exchange import Exchange
from llmendpoint_simulator.serving.responses import Response
from llmendpoint_simulator.shapes.base import failure, json_response
from llmendpoint_simulator.world import World

OLLAMA_VERSION = "0.17.4"

_KEY = base64.urlsafe_b64encode(b"simulated").decode().rstrip("=")
_SIGNIN = f"https://ollama.com/connect?name=simulator&key={_KEY}"


def root(_: Exchange) -> Response:
    """Answer `/`."""
    return Response(200, b"Ollama is running", "text/plain; charset=utf-8")


def version(_: Exchange) -> Response:
    """Answer `/api/version`."""
    return json_response({"version": OLLAMA_VERSION})


def status(_: Exchange) -> Response:
    """Answer `/api/status`: whether models at ollama.com can be used."""
    return json_response({"cloud": {"disabled": False, "source": "none"}})


def whoami(_: Exchange) -> Response:
    """Answer `/api/me` as for a server that is not signed in."""
    return json_response({"error": "unauthorized", "signin_url": _SIGNIN}, status=401)


def sign_out(_: Exchange) -> Response:
    """Answer `/api/signout`, and its earlier form `DELETE /api/user/keys/:key`."""
    return failure(401, "you are not currently signed in")


class AliasRoutes:
    """Routes of aliases."""

    def __init__(self, world: World) -> None:
        self._aliases = world.aliases

    def list(self, _: Exchange) -> Response:
        """List the aliases."""
        return json_response(self._aliases.list())

    def create(self, exchange: Exchange) -> Response:
        """Add or replace an alias."""
        return json_response(self._aliases.set(read_body(exchange.request.body)))

    def delete(self, exchange: Exchange) -> Response:
        """Remove an alias."""
        return json_response(self._aliases.remove(read_body(exchange.request.body)))
