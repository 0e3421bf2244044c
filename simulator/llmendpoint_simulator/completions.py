"""Responses of the routes that generate text, with the timings of the current behaviour."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

from aiohttp import web

from llmendpoint_common.contracts.ollama import model_key
from llmendpoint_common.contracts.sidecar import REQUEST_ID_HEADER, Operation
from llmendpoint_common.process.errors import QueueFullError
from llmendpoint_simulator.answers import answer_to
from llmendpoint_simulator.behaviour import Behaviour, Fault, until_running
from llmendpoint_simulator.ledger import Entry, Ledger
from llmendpoint_simulator.requests import RequestError, keep_alive, prompt_of, prompt_tokens, read_body
from llmendpoint_simulator.shapes.base import Piece, Shape, Timings, Work, failure, merge
from llmendpoint_simulator.shapes.ollama import OllamaShape
from llmendpoint_simulator.store import Store

_EMBEDDING_ONLY = {Operation.GENERATE: "generate", Operation.OPENAI_COMPLETIONS: "generate"}

#: A request that came during a hang is answered without a fault after it.
_NO_FAULT = frozenset({Fault.NONE, Fault.HANG})


class Completions:
    """Answers requests with the timings of the current behaviour, and keeps the ledger."""

    def __init__(self, store: Store, ledger: Ledger, behaviour: Callable[[], Behaviour]) -> None:
        self._store = store
        self._ledger = ledger
        self._behaviour = behaviour

    async def answer(self, request: web.Request, shape: Shape) -> web.StreamResponse:
        """Answer one request in the format of its API."""
        behaviour = self._behaviour()
        entry = None
        try:
            body = read_body(await request.read(), native=shape.is_ollama)
            check(body, shape)
            model = self._store.canonical(str(body.get("model", "")))
            entry = self._ledger.open(request.headers.get(REQUEST_ID_HEADER, ""), model, shape.operation)
            self._check_model(body, model, shape)
            work = read_work(body, model, behaviour, entry, shape)
        except RequestError as error:
            if entry is not None:
                self._ledger.close(entry, "faulted")
            return failure(error.status, error.sentence, shape, malformed=error.malformed)
        try:
            await until_running(self._behaviour)
            if isinstance(shape, OllamaShape) and _only_loads(body, shape.operation):
                return await self._load_only(work, shape)
            if behaviour.fault is Fault.STATUS_500:
                self._ledger.close(entry, "faulted")
                return failure(500, "simulated failure", shape)
            arrived = asyncio.get_running_loop().time()
            async with self._store.slots[model].slot(behaviour.parallel, behaviour.max_queue):
                return await self._run(request, work, shape, behaviour, arrived)
        except QueueFullError:
            self._ledger.close(entry, "faulted")
            return failure(503, "server busy, please try again.  maximum pending requests exceeded", shape)
        except (asyncio.CancelledError, ConnectionError):
            self._ledger.close(entry, "cancelled")
            raise

    def _check_model(self, body: dict[str, Any], model: str, shape: Shape) -> None:
        name = body.get("model", "")
        if model not in self._store.present:
            raise RequestError(404, f"model '{name}' not found")
        if model_key(model) in map(model_key, self._behaviour().embedding_models):
            kind = _EMBEDDING_ONLY.get(shape.operation, "chat")
            raise RequestError(400, f'"{name}" does not support {kind}')

    async def _load_only(self, work: Work, shape: OllamaShape) -> web.Response:
        unload = work.keep_alive <= timedelta(0)
        if unload:
            self._store.unload(work.model)
        else:
            await asyncio.sleep(self._behaviour().load)
            self._store.load(work.model, work.keep_alive)
        self._ledger.close(work.entry, "completed")
        return _json(shape.ended(work, "unload" if unload else "load"), shape)

    async def _run(
        self, request: web.Request, work: Work, shape: Shape, behaviour: Behaviour, arrived: float
    ) -> web.StreamResponse:
        work.entry.prompt_tokens = prompt_tokens(work.prompt)
        timings = Timings(arrived=arrived)
        pieces = self._pieces(work, behaviour, timings)
        if not work.stream:
            piece = merge([piece async for piece in pieces])
            await until_running(self._behaviour)
            work.entry.generation_tokens = work.tokens
            self._ledger.close(work.entry, "completed")
            return _json(shape.whole(work, piece, timings), shape)
        # aiohttp sends chunks to clients of HTTP/1.1, and for HTTP/1.0 it ends the answer by closing the connection.
        response = web.StreamResponse(headers={"Content-Type": shape.content_type})
        await response.prepare(request)
        async for piece in pieces:
            await until_running(self._behaviour)
            if behaviour.fault not in _NO_FAULT and work.entry.sent >= behaviour.fault_after:
                return await self._fail(request, response, work, shape, behaviour.fault)
            await response.write(shape.piece(work, piece))
            work.entry.sent += 1
        work.entry.generation_tokens = work.tokens
        # The entry is closed before the end is sent, so a client that has read the end finds it in the ledger.
        self._ledger.close(work.entry, "completed")
        await response.write(shape.last(work, timings))
        await response.write_eof()
        return response

    async def _pieces(self, work: Work, behaviour: Behaviour, timings: Timings) -> AsyncIterator[Piece]:
        """Yield each piece of the answer at its time. Times are computed from the start, so delays do not accumulate.

        The tokens of a tool call take their time, and the call comes with the last one.
        """
        loop = asyncio.get_running_loop()
        started = loop.time()
        if not self._store.is_loaded(work.model):
            await asyncio.sleep(behaviour.load)
            timings.load = loop.time() - started
        self._store.load(work.model, work.keep_alive)
        timings.prefill = behaviour.ttft
        begin = loop.time() + behaviour.ttft
        size = behaviour.tokens_per_chunk
        for index, first in enumerate(range(0, work.tokens, size)):
            pause = begin + index * behaviour.inter_token * size - loop.time()
            if pause > 0:
                await asyncio.sleep(pause)
            piece = merge(work.answer.tokens[first : first + size])
            if piece.text or piece.thinking or piece.tool_calls:
                yield piece
        # As in Ollama, the wait for a slot is part of the total and of no other field.
        timings.total = loop.time() - timings.arrived
        timings.decode = max(0.0, loop.time() - started - timings.load - timings.prefill)

    async def _fail(
        self, request: web.Request, response: web.StreamResponse, work: Work, shape: Shape, fault: Fault
    ) -> web.StreamResponse:
        self._ledger.close(work.entry, "faulted")
        if fault is Fault.STREAM_ERROR:
            await response.write(shape.error("simulated failure in the stream"))
        if fault in (Fault.RESET, Fault.TRUNCATE) and request.transport is not None:
            _cut(request.transport, reset=fault is Fault.RESET)
            return response
        await response.write_eof()
        return response


def check(body: dict[str, Any], shape: Shape) -> None:
    """Raise RequestError if the request lacks a field that Ollama requires."""
    operation = shape.operation
    if operation is Operation.OPENAI_CHAT and not body.get("messages"):
        raise RequestError(400, "[] is too short - 'messages'", malformed=True)
    if operation is Operation.ANTHROPIC_MESSAGES:
        limit = body.get("max_tokens")
        if not body.get("model"):
            raise RequestError(400, "model is required", malformed=True)
        if not isinstance(limit, int) or limit <= 0:
            raise RequestError(400, "max_tokens is required and must be positive", malformed=True)
        if not body.get("messages"):
            raise RequestError(400, "messages is required", malformed=True)
    # /api/generate and /v1/completions look for a model without a name, and answer that it is not found.
    if operation not in _EMBEDDING_ONLY and not body.get("model"):
        raise RequestError(400, "model is required")


def read_work(body: dict[str, Any], model: str, behaviour: Behaviour, entry: Entry, shape: Shape) -> Work:
    """Return the work for a request body. Raises RequestError if Ollama refuses a field."""
    return Work(
        model=model,
        name=str(body.get("model", "")),
        prompt=prompt_of(body),
        answer=answer_to(body, shape.operation, behaviour.tokens),
        stream=bool(body.get("stream", shape.is_ollama)),
        include_usage=bool((body.get("stream_options") or {}).get("include_usage")),
        keep_alive=keep_alive(body.get("keep_alive")),
        entry=entry,
        body=body,
    )


def _only_loads(body: dict[str, Any], operation: Operation) -> bool:
    return not body.get("prompt" if operation is Operation.GENERATE else "messages")


def _cut(transport: asyncio.Transport, *, reset: bool) -> None:
    """Close a connection before the last chunk is sent, after flushing the buffer or immediately with a TCP reset."""
    if reset:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    else:
        transport.close()


def _json(body: bytes, shape: Shape) -> web.Response:
    # As in Ollama, only its own API names the charset.
    charset = "utf-8" if shape.is_ollama else None
    return web.Response(body=body, content_type="application/json", charset=charset)
