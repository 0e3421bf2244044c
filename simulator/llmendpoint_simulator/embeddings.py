"""Routes that return embeddings: `/api/embed`, `/api/embeddings` and `/v1/embeddings`."""

from __future__ import annotations

import base64
import hashlib
import struct
import time
from typing import Any, NamedTuple

from llmendpoint_common.contracts.sidecar import Operation
from llmendpoint_simulator.behaviour import until_running
from llmendpoint_simulator.faults import WHOLE_FAULTS, Fault
from llmendpoint_simulator.latency import draw
from llmendpoint_simulator.ledger import Entry
from llmendpoint_simulator.refusals import refuse
from llmendpoint_simulator.requests import RequestError, keep_alive, prompt_tokens, read_body
from llmendpoint_simulator.serving.exchange import Exchange
from llmendpoint_simulator.serving.responses import Response
from llmendpoint_simulator.shapes.base import failure, json_response
from llmendpoint_simulator.shapes.openai import OpenAIShape
from llmendpoint_simulator.world import World

_DIMENSIONS = 8


class _EmbeddingsShape(OpenAIShape):
    """Errors of `/v1/embeddings`."""

    operation = Operation.OPENAI_EMBEDDINGS


class _Embedded(NamedTuple):
    """A request that was served: its body, and a row of numbers for each text. Durations are seconds."""

    body: dict[str, Any]
    rows: list[list[float]]
    prompt_tokens: int
    total: float
    load: float

    @property
    def model(self) -> str:
        return str(self.body.get("model", ""))


class Embeddings:
    """Answers requests for embeddings, and adds them to the ledger."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def embed(self, exchange: Exchange) -> Response:
        """Answer `/api/embed`."""
        try:
            done = await self._embed(exchange, Operation.EMBED, "input")
        except RequestError as error:
            return failure(error.status, error.sentence)
        counts = {
            "total_duration": round(done.total * 1e9),
            "load_duration": round(done.load * 1e9),
            "prompt_eval_count": done.prompt_tokens,
        }
        given = {name: value for name, value in counts.items() if value} if done.rows else {}
        return json_response({"model": done.model, "embeddings": done.rows, **given})

    async def embeddings(self, exchange: Exchange) -> Response:
        """Answer `/api/embeddings`, which reports neither the model nor tokens."""
        try:
            done = await self._embed(exchange, Operation.EMBEDDINGS, "prompt")
        except RequestError as error:
            return failure(error.status, error.sentence)
        return json_response({"embedding": done.rows[0] if done.rows else []})

    async def openai(self, exchange: Exchange) -> Response:
        """Answer `/v1/embeddings`. With `encoding_format: base64`, a row is a string of 32-bit floats."""
        try:
            done = await self._embed(exchange, Operation.OPENAI_EMBEDDINGS, "input")
        except RequestError as error:
            return failure(error.status, error.sentence, _EmbeddingsShape(), malformed=error.malformed)
        packed = str(done.body.get("encoding_format", "")).lower() == "base64"
        data = [
            {"object": "embedding", "embedding": _pack(row) if packed else row, "index": index}
            for index, row in enumerate(done.rows)
        ]
        usage = {"prompt_tokens": done.prompt_tokens, "total_tokens": done.prompt_tokens}
        return json_response({"object": "list", "data": data, "model": done.model, "usage": usage}, charset=False)

    async def _embed(self, exchange: Exchange, operation: Operation, field: str) -> _Embedded:
        request = exchange.request
        body = read_body(request.body, request.path, native=operation is not Operation.OPENAI_EMBEDDINGS)
        name = str(body.get("model", ""))
        model = self._world.store.canonical(name)
        with self._world.counted(request, model, operation) as entry:
            texts = _texts(body.get(field), operation)
            self._check_model(name, model, operation)
            load = await self._wait(exchange, entry, body)
            # /api/embeddings reports no tokens, so the ledger counts none.
            entry.prompt_tokens = 0 if operation is Operation.EMBEDDINGS else sum(map(prompt_tokens, texts))
            self._world.ledger.close(entry, "completed", "embedded" if texts else "load")
            dimensions = body.get("dimensions") or _DIMENSIONS
            rows = [_embedding(text)[:dimensions] for text in texts]
            return _Embedded(body, rows, entry.prompt_tokens, time.monotonic() - request.received_at, load)

    def _check_model(self, name: str, model: str, operation: Operation) -> None:
        if not name and operation is Operation.EMBEDDINGS:
            raise RequestError(400, "model is required")
        if not name:
            raise RequestError(500, "unqualified name: registry.ollama.ai/library/!MISSING!:latest")
        if model not in self._world.store.present:
            raise RequestError(404, f'model "{name}" not found, try pulling it first')

    async def _wait(self, exchange: Exchange, entry: Entry, body: dict[str, Any]) -> float:
        """Wait as long as the embedding takes, or inject a fault. Returns the seconds of the load."""
        world = self._world
        await until_running(world.current)
        is_loaded = world.store.is_loaded(entry.model)
        kinds = WHOLE_FAULTS - {Fault.LOAD_FAILURE} if is_loaded else WHOLE_FAULTS
        # The fault of all requests concerns generated text, except a load that fails.
        injected = world.pick(exchange.request, entry.model, kinds, common=frozenset({Fault.LOAD_FAILURE}))
        if injected is not None:
            await refuse(exchange, injected)
        async with world.running(entry.model, keep_alive(body.get("keep_alive")), injected) as place:
            seconds = draw(world.behaviour.embed, world.random)
            if seconds:
                await world.timers.sleep(seconds)
            return place.load


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
