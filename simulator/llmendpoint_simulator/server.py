"""HTTP server of the simulator: Ollama's routes, and `/simulator/ledger` and `/simulator/behaviour`."""

from __future__ import annotations

import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import web

from llmendpoint_common.contracts.sidecar import Operation
from llmendpoint_simulator.behaviour import Behaviour, change
from llmendpoint_simulator.completions import Completions
from llmendpoint_simulator.embeddings import Embeddings
from llmendpoint_simulator.ledger import Ledger
from llmendpoint_simulator.management import Management
from llmendpoint_simulator.shapes.anthropic import MessagesShape
from llmendpoint_simulator.shapes.base import Shape, failure
from llmendpoint_simulator.shapes.ollama import OllamaShape
from llmendpoint_simulator.shapes.openai import OpenAICompletionsShape, OpenAIShape
from llmendpoint_simulator.shapes.responses import ResponsesShape
from llmendpoint_simulator.store import Store

OLLAMA_VERSION = "0.17.4"

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Simulator:
    """A simulated Ollama."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.store = Store()
        for name in behaviour.models + behaviour.embedding_models:
            self.store.add(name)
        self.ledger = Ledger(time.monotonic)
        self._completions = Completions(self.store, self.ledger, lambda: self.behaviour)
        self._embeddings = Embeddings(self.store, self.ledger, lambda: self.behaviour)
        self._management = Management(self.store, lambda: self.behaviour)
        # Without handler_cancellation, a closed connection is noticed only at the next write.
        self._runner = web.AppRunner(self._application(), access_log=None, handler_cancellation=True)

    async def start(self, sockets: list[socket.socket]) -> None:
        """Serve on sockets that already listen."""
        await self._runner.setup()
        for sock in sockets:
            await web.SockSite(self._runner, sock, backlog=4096).start()

    async def stop(self) -> None:
        """Stop serving."""
        await self._runner.cleanup()

    def _application(self) -> web.Application:
        app = web.Application(client_max_size=64 * 1024 * 1024, middlewares=[_unknown_routes])
        models, embeddings = self._management, self._embeddings
        app.add_routes(
            [
                web.get("/", self._root),
                web.get("/api/version", self._version),
                web.get("/api/tags", models.tags),
                web.get("/api/ps", models.ps),
                web.post("/api/show", models.show),
                web.post("/api/pull", models.pull),
                web.post("/api/push", models.push),
                web.post("/api/create", models.create),
                web.post("/api/copy", models.copy),
                web.post("/api/blobs/{digest}", models.upload),
                web.head("/api/blobs/{digest}", models.has_blob),
                web.delete("/api/delete", models.delete),
                web.post("/api/embed", embeddings.embed),
                web.post("/api/embeddings", embeddings.embeddings),
                web.post("/api/generate", self._completion(lambda: OllamaShape(Operation.GENERATE))),
                web.post("/api/chat", self._completion(lambda: OllamaShape(Operation.CHAT))),
                web.post("/v1/chat/completions", self._completion(OpenAIShape)),
                web.post("/v1/completions", self._completion(OpenAICompletionsShape)),
                web.post("/v1/responses", self._completion(ResponsesShape)),
                web.post("/v1/messages", self._completion(MessagesShape)),
                web.post("/v1/embeddings", embeddings.openai),
                web.get("/v1/models", models.openai_models),
                web.get("/v1/models/{model}", models.openai_model),
                web.get("/simulator/ledger", self._show_ledger),
                web.delete("/simulator/ledger", self._clear_ledger),
                web.get("/simulator/behaviour", self._show_behaviour),
                web.put("/simulator/behaviour", self._change_behaviour),
            ]
        )
        return app

    def _completion(self, shape: Callable[[], Shape]) -> _Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            return await self._completions.answer(request, shape())

        return handle

    async def _root(self, _: web.Request) -> web.Response:
        return web.Response(text="Ollama is running")

    async def _version(self, _: web.Request) -> web.Response:
        return web.json_response({"version": OLLAMA_VERSION})

    # ---- routes of the simulator itself

    async def _show_ledger(self, request: web.Request) -> web.Response:
        wanted = min(int(request.query.get("entries", "100")), len(self.ledger.entries))
        entries = list(self.ledger.entries)[len(self.ledger.entries) - wanted :]
        return _json({"accounts": self.ledger.accounts, "entries": entries})

    async def _clear_ledger(self, _: web.Request) -> web.Response:
        self.ledger.clear()
        return web.Response()

    async def _show_behaviour(self, _: web.Request) -> web.Response:
        return _json(self.behaviour)

    async def _change_behaviour(self, request: web.Request) -> web.Response:
        try:
            self.behaviour = change(self.behaviour, await request.read())
        except msgspec.MsgspecError as error:
            return failure(400, str(error))
        for name in self.behaviour.models + self.behaviour.embedding_models:
            self.store.add(name)
        return _json(self.behaviour)


@web.middleware
async def _unknown_routes(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Answer requests for unknown routes and methods as Ollama does."""
    try:
        return await handler(request)
    except web.HTTPNotFound:
        return _plain(404, "404 page not found")
    except web.HTTPMethodNotAllowed:
        return _plain(405, "405 method not allowed")


def _plain(status: int, text: str) -> web.Response:
    return web.Response(body=text.encode(), status=status, content_type="text/plain")


def _json(value: Any) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")
