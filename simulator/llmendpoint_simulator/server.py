"""HTTP server of the simulator: Ollama's routes, and `/simulator/ledger` and `/simulator/behaviour`."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
import time
from typing import Any

import msgspec
from aiohttp import web

from llmendpoint_common.contracts.ollama import canonical_name
from llmendpoint_common.contracts.sidecar import REQUEST_ID_HEADER, Operation
from llmendpoint_simulator.behaviour import Behaviour, change
from llmendpoint_simulator.completions import Completions, prompt_tokens
from llmendpoint_simulator.ledger import Ledger
from llmendpoint_simulator.shapes import (
    MessagesShape,
    OllamaShape,
    OpenAICompletionsShape,
    OpenAIShape,
    ResponsesShape,
    failure,
)
from llmendpoint_simulator.store import FOREVER, Store

OLLAMA_VERSION = "0.17.4"
_DIMENSIONS = 8


class Simulator:
    """A simulated Ollama."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.store = Store()
        self.blobs: set[str] = set()
        for name in behaviour.models + behaviour.embedding_models:
            self.store.add(name)
        self.ledger = Ledger(time.monotonic)
        self._completions = Completions(self.store, self.ledger, lambda: self.behaviour)
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
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.add_routes(
            [
                web.get("/", self._root),
                web.get("/api/version", self._version),
                web.get("/api/tags", self._tags),
                web.get("/api/ps", self._ps),
                web.post("/api/show", self._show),
                web.post("/api/pull", self._pull),
                web.post("/api/copy", self._copy),
                web.post("/api/blobs/{digest}", self._upload),
                web.head("/api/blobs/{digest}", self._has_blob),
                web.delete("/api/delete", self._delete),
                web.post("/api/embed", self._embed),
                web.post("/api/generate", self._generate),
                web.post("/api/chat", self._chat),
                web.post("/api/embeddings", self._embeddings),
                web.post("/v1/chat/completions", self._openai_chat),
                web.post("/v1/completions", self._openai_completions),
                web.post("/v1/embeddings", self._openai_embeddings),
                web.post("/v1/responses", self._responses),
                web.post("/v1/messages", self._messages),
                web.get("/v1/models", self._openai_models),
                web.get("/simulator/ledger", self._show_ledger),
                web.delete("/simulator/ledger", self._clear_ledger),
                web.get("/simulator/behaviour", self._show_behaviour),
                web.put("/simulator/behaviour", self._change_behaviour),
            ]
        )
        return app

    # ---- Ollama's API

    async def _root(self, _: web.Request) -> web.Response:
        return web.Response(text="Ollama is running")

    async def _version(self, _: web.Request) -> web.Response:
        return web.json_response({"version": OLLAMA_VERSION})

    async def _tags(self, _: web.Request) -> web.Response:
        return web.json_response({"models": self.store.listing()})

    async def _ps(self, _: web.Request) -> web.Response:
        return web.json_response({"models": self.store.loaded_listing()})

    async def _show(self, request: web.Request) -> web.Response:
        name = canonical_name(str((await _body(request)).get("model", "")))
        if name not in self.store.present:
            return failure(404, f"model '{name}' not found")
        embedding = name in map(canonical_name, self.behaviour.embedding_models)
        return web.json_response({"capabilities": ["embedding" if embedding else "completion"], "details": {}})

    async def _pull(self, request: web.Request) -> web.StreamResponse:
        body = await _body(request)
        name = canonical_name(str(body.get("model") or body.get("name") or ""))
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        await _line(response, status="pulling manifest")
        if name not in map(canonical_name, self.behaviour.registry + tuple(self.store.present)):
            # As in Ollama, the error arrives in the stream, because the status line has already been sent.
            await _line(response, error="pull model manifest: file does not exist")
            await response.write_eof()
            return response
        digest, total, steps = "sha256:" + hashlib.sha256(name.encode()).hexdigest(), 1_000_000, 10
        for step in range(steps + 1):
            await _line(
                response, status=f"pulling {digest[7:19]}", digest=digest, total=total, completed=total * step // steps
            )
            await asyncio.sleep(self.behaviour.pull / steps)
        for status in ("verifying sha256 digest", "writing manifest", "success"):
            await _line(response, status=status)
        self.store.add(name)
        await response.write_eof()
        return response

    async def _has_blob(self, request: web.Request) -> web.Response:
        return web.Response(status=200 if request.match_info["digest"] in self.blobs else 404)

    async def _upload(self, request: web.Request) -> web.Response:
        """Store a blob.

        As in Ollama, an existing blob is answered immediately, and a wrong digest after the complete body.
        """
        digest = request.match_info["digest"]
        if digest in self.blobs:
            return web.Response(status=200)
        seen = hashlib.sha256()
        async for piece in request.content.iter_any():
            seen.update(piece)
        if digest != f"sha256:{seen.hexdigest()}":
            return failure(400, "digest mismatch, expected " + digest)
        self.blobs.add(digest)
        return web.Response(status=201)

    async def _copy(self, request: web.Request) -> web.Response:
        body = await _body(request)
        source = canonical_name(str(body.get("source", "")))
        if source not in self.store.present:
            return failure(404, f"model '{source}' not found")
        self.store.add(str(body.get("destination", "")), self.store.present[source])
        return web.Response()

    async def _delete(self, request: web.Request) -> web.Response:
        name = str((await _body(request)).get("model", ""))
        return web.Response() if self.store.remove(name) else failure(404, f"model '{name}' not found")

    async def _embed(self, request: web.Request) -> web.Response:
        work = await self._embedding_work(request, Operation.EMBED, "input")
        if isinstance(work, web.Response):
            return work
        name, texts, count = work
        rows = [_embedding(text) for text in texts]
        return web.json_response(
            {"model": name, "embeddings": rows, "total_duration": 1000, "prompt_eval_count": count}
        )

    async def _embeddings(self, request: web.Request) -> web.Response:
        work = await self._embedding_work(request, Operation.EMBEDDINGS, "prompt")
        return work if isinstance(work, web.Response) else web.json_response({"embedding": _embedding(work[1][0])})

    async def _openai_embeddings(self, request: web.Request) -> web.Response:
        work = await self._embedding_work(request, Operation.OPENAI_EMBEDDINGS, "input")
        if isinstance(work, web.Response):
            return work
        name, texts, count = work
        rows = [
            {"object": "embedding", "index": index, "embedding": _embedding(text)} for index, text in enumerate(texts)
        ]
        usage = {"prompt_tokens": count, "total_tokens": count}
        return web.json_response({"object": "list", "model": name, "data": rows, "usage": usage})

    async def _embedding_work(
        self, request: web.Request, operation: Operation, field: str
    ) -> tuple[str, list[str], int] | web.Response:
        """Return model, texts and token count of a request, or an error response. Add the request to the ledger."""
        body = await _body(request)
        name = canonical_name(str(body.get("model", "")))
        entry = self.ledger.open(request.headers.get(REQUEST_ID_HEADER, ""), name, operation)
        if name not in self.store.present:
            self.ledger.close(entry, "faulted")
            return failure(404, f"model '{name}' not found")
        inputs = body.get(field, "")
        texts = [str(text) for text in inputs] if isinstance(inputs, list) else [str(inputs)]
        self.store.load(name, FOREVER)
        # /api/embeddings reports no tokens, so the ledger counts none.
        entry.prompt_tokens = 0 if operation is Operation.EMBEDDINGS else sum(prompt_tokens(text) for text in texts)
        self.ledger.close(entry, "completed")
        return name, texts, entry.prompt_tokens

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        return await self._completions.answer(request, OllamaShape(Operation.GENERATE))

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        return await self._completions.answer(request, OllamaShape(Operation.CHAT))

    async def _openai_chat(self, request: web.Request) -> web.StreamResponse:
        return await self._completions.answer(request, OpenAIShape())

    async def _openai_completions(self, request: web.Request) -> web.StreamResponse:
        return await self._completions.answer(request, OpenAICompletionsShape())

    async def _responses(self, request: web.Request) -> web.StreamResponse:
        return await self._completions.answer(request, ResponsesShape())

    async def _messages(self, request: web.Request) -> web.StreamResponse:
        return await self._completions.answer(request, MessagesShape())

    async def _openai_models(self, _: web.Request) -> web.Response:
        rows = [{"id": name, "object": "model", "owned_by": "library"} for name in sorted(self.store.present)]
        return web.json_response({"object": "list", "data": rows})

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


def _json(value: Any) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")


async def _body(request: web.Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.read())
    except ValueError as error:
        raise web.HTTPBadRequest(text=json.dumps({"error": str(error)}), content_type="application/json") from error
    return body if isinstance(body, dict) else {}


async def _line(response: web.StreamResponse, **fields: Any) -> None:
    await response.write(msgspec.json.encode(fields) + b"\n")


def _embedding(text: str) -> list[float]:
    digest = hashlib.sha256(text.encode()).digest()
    return [byte / 255 for byte in digest[:_DIMENSIONS]]
