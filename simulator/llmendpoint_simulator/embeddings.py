"""Routes that return embeddings: `/api/embed`, `/api/embeddings` and `/v1/embeddings`."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

from aiohttp import web

from llmendpoint_common.contracts.sidecar import REQUEST_ID_HEADER, Operation
from llmendpoint_simulator.behaviour import Behaviour, until_running
from llmendpoint_simulator.ledger import Ledger
from llmendpoint_simulator.requests import RequestError, prompt_tokens, read_body
from llmendpoint_simulator.shapes.base import encode, failure
from llmendpoint_simulator.shapes.openai import OpenAIShape
from llmendpoint_simulator.store import FOREVER, Store

_DIMENSIONS = 8


class _EmbeddingsShape(OpenAIShape):
    """Errors of `/v1/embeddings`."""

    operation = Operation.OPENAI_EMBEDDINGS


class _Embedded(NamedTuple):
    """A request that was served: its body, and a row of numbers for each text."""

    body: dict[str, Any]
    rows: list[list[float]]
    prompt_tokens: int

    @property
    def model(self) -> str:
        return str(self.body.get("model", ""))


class Embeddings:
    """Answers requests for embeddings, without a delay, and adds them to the ledger."""

    def __init__(self, store: Store, ledger: Ledger, behaviour: Callable[[], Behaviour]) -> None:
        self._store = store
        self._ledger = ledger
        self._behaviour = behaviour

    async def embed(self, request: web.Request) -> web.Response:
        """Answer `/api/embed`."""
        try:
            done = await self._embed(request, Operation.EMBED, "input")
        except RequestError as error:
            return failure(error.status, error.sentence)
        counts = {"total_duration": 1000, "prompt_eval_count": done.prompt_tokens} if done.rows else {}
        return web.json_response({"model": done.model, "embeddings": done.rows, **counts})

    async def embeddings(self, request: web.Request) -> web.Response:
        """Answer `/api/embeddings`, which reports neither the model nor tokens."""
        try:
            done = await self._embed(request, Operation.EMBEDDINGS, "prompt")
        except RequestError as error:
            return failure(error.status, error.sentence)
        return web.json_response({"embedding": done.rows[0] if done.rows else []})

    async def openai(self, request: web.Request) -> web.Response:
        """Answer `/v1/embeddings`. With `encoding_format: base64`, a row is a string of 32-bit floats."""
        try:
            done = await self._embed(request, Operation.OPENAI_EMBEDDINGS, "input")
        except RequestError as error:
            return failure(error.status, error.sentence, _EmbeddingsShape(), malformed=error.malformed)
        packed = str(done.body.get("encoding_format", "")).lower() == "base64"
        data = [
            {"object": "embedding", "embedding": _pack(row) if packed else row, "index": index}
            for index, row in enumerate(done.rows)
        ]
        usage = {"prompt_tokens": done.prompt_tokens, "total_tokens": done.prompt_tokens}
        answer = {"object": "list", "data": data, "model": done.model, "usage": usage}
        return web.Response(body=encode(answer), content_type="application/json")

    async def _embed(self, request: web.Request, operation: Operation, field: str) -> _Embedded:
        native = operation is not Operation.OPENAI_EMBEDDINGS
        body = read_body(await request.read(), native=native)
        name = str(body.get("model", ""))
        model = self._store.canonical(name)
        entry = self._ledger.open(request.headers.get(REQUEST_ID_HEADER, ""), model, operation)
        try:
            texts = _texts(body.get(field), operation)
            if not name and operation is Operation.EMBEDDINGS:
                raise RequestError(400, "model is required")
            if not name:
                raise RequestError(500, "unqualified name: registry.ollama.ai/library/!MISSING!:latest")
            if model not in self._store.present:
                raise RequestError(404, f'model "{name}" not found, try pulling it first')
        except RequestError:
            self._ledger.close(entry, "faulted")
            raise
        try:
            await until_running(self._behaviour)
        except asyncio.CancelledError:
            self._ledger.close(entry, "cancelled")
            raise
        self._store.load(model, FOREVER)
        # /api/embeddings reports no tokens, so the ledger counts none.
        entry.prompt_tokens = 0 if operation is Operation.EMBEDDINGS else sum(map(prompt_tokens, texts))
        self._ledger.close(entry, "completed")
        dimensions = body.get("dimensions") or _DIMENSIONS
        return _Embedded(body, [_embedding(text)[:dimensions] for text in texts], entry.prompt_tokens)


def _texts(given: Any, operation: Operation) -> list[str]:
    """Return the texts of a request. Raises RequestError if it is neither a text nor a list of texts."""
    if operation is Operation.OPENAI_EMBEDDINGS:
        if given is None or given == []:
            raise RequestError(400, "invalid input", malformed=True)
        given = [given] if given == "" else given
    if isinstance(given, str):
        return [given] if given else []
    if given is None:
        return []
    if not isinstance(given, list) or not all(isinstance(text, str) for text in given):
        raise RequestError(400, "invalid input type")
    return given


def _embedding(text: str) -> list[float]:
    digest = hashlib.sha256(text.encode("utf-8", "replace")).digest()
    return [byte / 255 for byte in digest[:_DIMENSIONS]]


def _pack(row: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(row)}f", *row)).decode()
