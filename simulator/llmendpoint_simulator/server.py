"""The simulator: Ollama's routes, and `/simulator/ledger` and `/simulator/behaviour`."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias
from urllib.parse import unquote

from llmendpoint_common.contracts.sidecar import Operation
from llmendpoint_common.process.sockets import are_loopback
from llmendpoint_common.wire.routes import WITH_MODEL, operation_of
from llmendpoint_simulator import account, origins
from llmendpoint_simulator.admin import Admin
from llmendpoint_simulator.behaviour import Behaviour
from llmendpoint_simulator.blobs import PATH as BLOBS
from llmendpoint_simulator.blobs import Blobs
from llmendpoint_simulator.completions import Completions
from llmendpoint_simulator.embeddings import Embeddings
from llmendpoint_simulator.injection import Injected
from llmendpoint_simulator.ledger import Ledger
from llmendpoint_simulator.management import Management
from llmendpoint_simulator.media import Media
from llmendpoint_simulator.pulls import Pulls
from llmendpoint_simulator.refusals import refuse
from llmendpoint_simulator.requests import RequestError
from llmendpoint_simulator.serving.connection import Connection, Request
from llmendpoint_simulator.serving.exchange import Exchange
from llmendpoint_simulator.serving.listener import Listener
from llmendpoint_simulator.serving.responses import JSON_UTF8, Response
from llmendpoint_simulator.shapes.anthropic import MessagesShape
from llmendpoint_simulator.shapes.base import Shape, failure
from llmendpoint_simulator.shapes.ollama import OllamaShape
from llmendpoint_simulator.shapes.openai import OpenAICompletionsShape, OpenAIShape
from llmendpoint_simulator.shapes.responses import ResponsesShape
from llmendpoint_simulator.store import Store
from llmendpoint_simulator.world import World

log = logging.getLogger(__name__)

#: Returns the response, or a coroutine that returns it, or that returns None after it has sent a stream.
_Handler: TypeAlias = Callable[[Exchange], Response | Coroutine[Any, Any, Response | None]]
_Routes: TypeAlias = dict[tuple[str, str], _Handler]


class Simulator:
    """A simulated Ollama."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._world = World(behaviour)
        blobs = Blobs()
        self._routes, self._prefixes = _routes(self._world, blobs)
        self._listener = Listener(self._world.timers, self._handle, blobs.receive)
        self._paths = {path for _, path in self._routes}
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_loopback = True

    @property
    def behaviour(self) -> Behaviour:
        """The current behaviour, which can be replaced."""
        return self._world.behaviour

    @behaviour.setter
    def behaviour(self, behaviour: Behaviour) -> None:
        self._world.behaviour = behaviour

    @property
    def store(self) -> Store:
        """The models."""
        return self._world.store

    @property
    def ledger(self) -> Ledger:
        """The counts of requests and tokens."""
        return self._world.ledger

    @property
    def in_flight(self) -> int:
        """Number of requests that are being answered."""
        return len(self._tasks)

    async def start(self, sockets: list[socket.socket]) -> None:
        """Serve on sockets that already listen."""
        self._is_loopback = are_loopback(sockets)
        self._world.timers.start()
        self._listener.start(sockets)

    async def stop(self) -> None:
        """Stop serving, and end all requests."""
        self._listener.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._world.timers.stop()

    def _handle(self, connection: Connection, request: Request) -> None:
        exchange = Exchange(connection, request)
        if "origin" in request.headers:
            exchange.fields = origins.fields_of(request)
        try:
            answer = self._answer(exchange)
        except RequestError as error:
            exchange.respond(failure(error.status, error.sentence))
            return
        except Exception:
            log.exception("%s %s failed", request.method, request.path)
            exchange.respond(_INTERNAL)
            return
        if isinstance(answer, Response):
            exchange.respond(answer)
            return
        task = asyncio.get_running_loop().create_task(_finish(exchange, answer))
        connection.on_lost = task.cancel
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _answer(self, exchange: Exchange) -> Response | Coroutine[Any, Any, Response | None]:
        request = exchange.request
        refused = origins.refusal(request, is_loopback=self._is_loopback)
        if refused is not None:
            exchange.fields = ()
            return refused
        handler = self._find(request)
        # Requests that run a model get their faults later, when the model is known.
        if self.behaviour.faults and operation_of(request.method.encode(), request.path.encode()) not in WITH_MODEL:
            injected = self._world.pick_by_route(request)
            if injected is not None:
                return _faulted(exchange, injected, handler)
        return handler(exchange)

    def _find(self, request: Request) -> _Handler:
        """Return the handler of a route. Unknown routes and methods are answered as Ollama's router (gin) does."""
        path = request.path if "%" not in request.path else unquote(request.path)
        found = self._routes.get((request.method, path))
        if found is not None:
            return found
        for (method, prefix), handler in self._prefixes.items():
            if method == request.method and _has_rest(path, prefix):
                return handler
        allowed = [method for method, known in self._routes if known == path]
        allowed += [method for method, prefix in self._prefixes if _has_rest(path, prefix)]
        if allowed:
            return lambda _: _plain(405, "405 method not allowed", (("Allow", ", ".join(sorted(allowed))),))
        if path.rstrip("/") in self._paths and path.endswith("/"):
            return lambda _: _redirect(request, path[:-1])
        return lambda _: _plain(404, "404 page not found")


async def _finish(exchange: Exchange, answer: Coroutine[Any, Any, Response | None]) -> None:
    """Wait for the answer to a request, and send it."""
    try:
        response = await answer
    except RequestError as error:
        response = failure(error.status, error.sentence)
    except Exception:
        log.exception("%s %s failed", exchange.request.method, exchange.request.path)
        response = _INTERNAL
    if response is not None:
        exchange.respond(response)


async def _faulted(exchange: Exchange, injected: Injected, handler: _Handler) -> Response | None:
    """Inject a fault, and answer the request if it is answered after all."""
    await refuse(exchange, injected)
    if exchange.is_ended:
        return None
    answer = handler(exchange)
    return answer if isinstance(answer, Response) else await answer


def _routes(world: World, blobs: Blobs) -> tuple[_Routes, _Routes]:
    """Return the handlers by method and path, and those by method and the begin of a path."""
    routes: _Routes = {
        ("GET", "/"): account.root,
        ("HEAD", "/"): account.root,
        ("GET", "/api/version"): account.version,
        ("HEAD", "/api/version"): account.version,
        ("GET", "/api/status"): account.status,
        ("POST", "/api/me"): account.whoami,
        ("POST", "/api/signout"): account.sign_out,
    }
    aliases = account.AliasRoutes(world)
    routes |= {
        ("GET", "/api/experimental/aliases"): aliases.list,
        ("POST", "/api/experimental/aliases"): aliases.create,
        ("DELETE", "/api/experimental/aliases"): aliases.delete,
    }
    models = Management(world, Pulls(world, blobs.present))
    routes |= {
        ("GET", "/api/tags"): models.tags,
        ("HEAD", "/api/tags"): models.tags,
        ("GET", "/api/ps"): models.ps,
        ("POST", "/api/show"): models.show,
        ("POST", "/api/pull"): models.pull,
        ("POST", "/api/push"): models.push,
        ("POST", "/api/create"): models.create,
        ("POST", "/api/copy"): models.copy,
        ("DELETE", "/api/delete"): models.delete,
        ("GET", "/v1/models"): models.openai_models,
    }
    prefixes: _Routes = {
        ("GET", "/v1/models/"): models.openai_model,
        ("DELETE", "/api/user/keys/"): account.sign_out,
        ("POST", BLOBS): lambda exchange: blobs.upload(exchange.request),
        ("HEAD", BLOBS): lambda exchange: blobs.head(exchange.request),
    }
    return routes | _inference(world) | Admin(world).routes(), prefixes


def _inference(world: World) -> _Routes:
    """Return the handlers of the routes that run a model."""
    completions, embeddings, media = Completions(world), Embeddings(world), Media(world)

    def completion(make: Callable[[], Shape]) -> _Handler:
        return lambda exchange: completions.answer(exchange, make())

    return {
        ("POST", "/api/generate"): completion(lambda: OllamaShape(Operation.GENERATE)),
        ("POST", "/api/chat"): completion(lambda: OllamaShape(Operation.CHAT)),
        ("POST", "/v1/chat/completions"): completion(OpenAIShape),
        ("POST", "/v1/completions"): completion(OpenAICompletionsShape),
        ("POST", "/v1/responses"): completion(ResponsesShape),
        ("POST", "/v1/messages"): completion(MessagesShape),
        ("POST", "/api/embed"): embeddings.embed,
        ("POST", "/api/embeddings"): embeddings.embeddings,
        ("POST", "/v1/embeddings"): embeddings.openai,
        ("POST", "/v1/images/generations"): media.generate_image,
        ("POST", "/v1/images/edits"): media.edit_image,
        ("POST", "/v1/audio/transcriptions"): media.transcribe,
    }


def _redirect(request: Request, path: str) -> Response:
    """Return a redirect to a path without a slash at its end, as gin does it."""
    status = 301 if request.method == "GET" else 307
    body = f'<a href="{path}">Moved Permanently</a>.\n\n'.encode() if status == 301 else b""
    return Response(status, body, "text/html; charset=utf-8" if body else None, (("Location", path),))


def _has_rest(path: str, prefix: str) -> bool:
    """Return whether a path is a prefix and one more part."""
    return path.startswith(prefix) and path != prefix and "/" not in path[len(prefix) :]


def _plain(status: int, text: str, fields: tuple[tuple[str, str], ...] = ()) -> Response:
    return Response(status, text.encode(), "text/plain", fields)


_INTERNAL = Response(500, b'{"error":"internal error of the simulator"}', JSON_UTF8)
