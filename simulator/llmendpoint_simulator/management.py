"""Routes that list, describe and change models, and store blobs."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
from aiohttp import web

from llmendpoint_common.contracts.ollama import model_key
from llmendpoint_simulator.behaviour import Behaviour
from llmendpoint_simulator.requests import RequestError, read_body
from llmendpoint_simulator.shapes.base import failure
from llmendpoint_simulator.store import Content, Store, content_of

#: Fields of `POST /api/create` that become part of the model.
_CREATED_FROM = ("template", "system", "license", "parameters", "messages", "renderer", "parser", "requires")
_STEPS = 10
_TOTAL = 1_000_000


class Management:
    """Answers requests about models and blobs. Failed steps of a pull are reported inside its stream, as in Ollama."""

    def __init__(self, store: Store, behaviour: Callable[[], Behaviour]) -> None:
        self._store = store
        self._behaviour = behaviour
        self._blobs: set[str] = set()

    async def tags(self, _: web.Request) -> web.Response:
        """List the models that are present."""
        return web.json_response({"models": self._store.listing()})

    async def ps(self, _: web.Request) -> web.Response:
        """List the models that are in memory."""
        return web.json_response({"models": self._store.loaded_listing()})

    async def show(self, request: web.Request) -> web.Response:
        """Describe a model."""
        name = _name(await _body(request))
        if not name:
            return failure(400, "model is required")
        model = self._store.canonical(name)
        if model not in self._store.present:
            return failure(404, f"model '{name}' not found")
        embedding = model_key(model) in map(model_key, self._behaviour().embedding_models)
        return web.json_response(self._store.description(model, embedding=embedding))

    async def pull(self, request: web.Request) -> web.StreamResponse:
        """Pull a model, if the registry has it."""
        body = await _body(request)
        return await _progress(request, body, self._pull(self._store.canonical(_name(body))))

    async def push(self, request: web.Request) -> web.StreamResponse:
        """Push a model, if it is present."""
        body = await _body(request)
        return await _progress(request, body, self._push(self._store.canonical(_name(body))))

    async def create(self, request: web.Request) -> web.StreamResponse:
        """Create a model from another one, or from files, which are blobs."""
        body = await _body(request)
        if not body.get("from") and not body.get("files"):
            return _json({"error": "neither 'from' or 'files' was specified"}, status=400)
        return await _progress(request, body, self._create(body))

    async def copy(self, request: web.Request) -> web.Response:
        """Copy a model."""
        body = await _body(request)
        source = str(body.get("source", ""))
        if self._store.canonical(source) not in self._store.present:
            return failure(404, f'model "{source}" not found')
        self._store.add(str(body.get("destination", "")), self._store.content(source))
        return _nothing(200)

    async def delete(self, request: web.Request) -> web.Response:
        """Delete a model."""
        name = _name(await _body(request))
        return _nothing(200) if self._store.remove(name) else failure(404, f"model '{name}' not found")

    async def has_blob(self, request: web.Request) -> web.Response:
        """Say whether a blob is present."""
        if request.match_info["digest"] in self._blobs:
            return _nothing(200)
        return web.Response(status=404, content_type="application/json", charset="utf-8")

    async def upload(self, request: web.Request) -> web.Response:
        """Store a blob.

        As in Ollama, an existing blob is answered immediately, and a wrong digest after the complete body.
        """
        digest = request.match_info["digest"]
        if digest in self._blobs:
            return _nothing(200)
        seen = hashlib.sha256()
        async for piece in request.content.iter_any():
            seen.update(piece)
        found = f"sha256:{seen.hexdigest()}"
        if digest != found:
            return failure(400, f'digest mismatch, expected "{digest}", got "{found}"')
        self._blobs.add(digest)
        return _nothing(201)

    async def openai_models(self, _: web.Request) -> web.Response:
        """List the models in OpenAI's format."""
        return _json({"object": "list", "data": [_openai_model(name) for name in sorted(self._store.present)]})

    async def openai_model(self, request: web.Request) -> web.Response:
        """Describe a model in OpenAI's format."""
        name = request.match_info["model"]
        if self._store.canonical(name) not in self._store.present:
            error = {"message": f"model '{name}' not found", "type": "api_error", "param": None, "code": None}
            return _json({"error": error}, status=404)
        return _json(_openai_model(name))

    async def _pull(self, model: str) -> AsyncIterator[dict[str, Any]]:
        # As Ollama: each part of a name begins with a letter, a digit or an underscore.
        if not all(re.match(r"\w", part) for part in model.split("/")):
            raise RequestError(400, "invalid model name")
        yield {"status": "pulling manifest"}
        behaviour = self._behaviour()
        if model_key(model) not in map(model_key, behaviour.registry + tuple(self._store.present)):
            raise RequestError(500, "pull model manifest: file does not exist")
        content = content_of(model + behaviour.revisions.get(model, ""))
        digest = f"sha256:{content.digest}"
        layer = {"status": f"pulling {digest[7:19]}", "digest": digest, "total": _TOTAL}
        for step in range(_STEPS + 1):
            yield {**layer, "completed": _TOTAL * step // _STEPS}
            await asyncio.sleep(behaviour.pull / _STEPS)
        for status in ("verifying sha256 digest", "writing manifest"):
            yield {"status": status}
        self._store.add(model, content)
        yield {"status": "success"}

    async def _push(self, model: str) -> AsyncIterator[dict[str, Any]]:
        yield {"status": "retrieving manifest"}
        if model not in self._store.present:
            yield {"status": "couldn't retrieve manifest"}
            raise RequestError(500, f"model '{model}' not found")
        digest = f"sha256:{self._store.present[model]}"
        for completed in (0, _TOTAL):
            yield {"status": f"pushing {digest[7:19]}", "digest": digest, "total": _TOTAL, "completed": completed}
        yield {"status": "pushing manifest"}
        yield {"status": "success"}

    async def _create(self, body: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        source = self._store.canonical(str(body["from"])) if body.get("from") else ""
        if source and source not in self._store.present:
            # As in Ollama, a model that is not present is pulled first.
            async for line in self._pull(source):
                yield line
        for digest in (body.get("files") or {}).values():
            if digest not in self._blobs:
                raise RequestError(400, f'blob "{digest}" does not exist')
        yield {"status": f"using existing layer sha256:{self._store.present.get(source, '0' * 64)}"}
        yield {"status": "writing manifest"}
        self._store.add(_name(body), self._created(body))
        yield {"status": "success"}

    def _created(self, body: dict[str, Any]) -> Content:
        """Return the content of a created model. As in Ollama, its digest depends on all that it is made from."""
        source = str(body.get("from") or "")
        base = self._store.content(source) if source else None
        files = sorted((body.get("files") or {}).values())
        made = {name: body[name] for name in _CREATED_FROM if body.get(name)}
        parts = [base.digest if base else files, self._store.canonical(source), made]
        digest = hashlib.sha256(msgspec.json.encode(parts, order="sorted")).hexdigest()
        weights = base.weights if base else files[0].removeprefix("sha256:")
        return Content(digest, weights, str(body.get("system") or (base.system if base else "")))


async def _body(request: web.Request) -> dict[str, Any]:
    """Return the body of a request. An invalid one is answered with 400."""
    try:
        return read_body(await request.read())
    except RequestError as error:
        text = json.dumps({"error": error.sentence})
        raise web.HTTPBadRequest(text=text, content_type="application/json") from error


def _name(body: dict[str, Any]) -> str:
    return str(body.get("model") or body.get("name") or "")


async def _progress(
    request: web.Request, body: dict[str, Any], lines: AsyncIterator[dict[str, Any]]
) -> web.StreamResponse:
    """Send the lines as a stream, or with `stream: false` only the last one, with an error as status."""
    if body.get("stream") is False:
        latest: dict[str, Any] = {}
        try:
            async for line in lines:
                latest = line
        except RequestError as error:
            return _json({"error": error.sentence}, status=error.status)
        return _json(latest)
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    await response.prepare(request)
    try:
        async for line in lines:
            await response.write(msgspec.json.encode(line) + b"\n")
    except RequestError as error:
        await response.write(msgspec.json.encode({"error": error.sentence}) + b"\n")
    await response.write_eof()
    return response


def _openai_model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 1_700_000_000, "owned_by": "library"}


def _json(body: dict[str, Any], status: int = 200) -> web.Response:
    """Return JSON without the charset, which Ollama does not name in these answers."""
    return web.Response(body=msgspec.json.encode(body), status=status, content_type="application/json")


def _nothing(status: int) -> web.Response:
    """Return an answer without body and content type."""
    response = web.Response(status=status)
    response.headers.popall("Content-Type", None)
    return response
