"""Responses of the routes that generate text, with the timings of the current behaviour."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import msgspec
from aiohttp import web

from llmendpoint_common.contracts.ollama import canonical_name
from llmendpoint_common.contracts.sidecar import REQUEST_ID_HEADER, Operation
from llmendpoint_common.process.errors import QueueFullError
from llmendpoint_simulator.behaviour import Behaviour, Fault
from llmendpoint_simulator.ledger import Entry, Ledger
from llmendpoint_simulator.shapes import Shape, Timings, Work, failure, timestamp
from llmendpoint_simulator.store import FOREVER, Store

_WORDS = ("the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "while", "naïve", "日本", "🙂")
_encode = msgspec.json.encode


def word(index: int) -> str:
    """Return the text of the token at `index`."""
    return _WORDS[index % len(_WORDS)] + " "


def prompt_tokens(prompt: str) -> int:
    """Return the number of prompt tokens: one per word, and at least one."""
    return max(1, len(prompt.split()))


class Completions:
    """Answers requests with the timings of the current behaviour, and keeps the ledger."""

    def __init__(self, store: Store, ledger: Ledger, behaviour: Callable[[], Behaviour]) -> None:
        self._store = store
        self._ledger = ledger
        self._behaviour = behaviour

    async def answer(self, request: web.Request, shape: Shape) -> web.StreamResponse:
        """Answer one request in the format of its API."""
        behaviour = self._behaviour()
        try:
            body = json.loads(await request.read())
        except ValueError as error:
            return failure(400, str(error), shape)
        model = canonical_name(str(body.get("model", "")))
        entry = self._ledger.open(request.headers.get(REQUEST_ID_HEADER, ""), model, shape.operation)
        if model not in self._store.present:
            self._ledger.close(entry, "faulted")
            return failure(404, f"model '{body.get('model', '')}' not found", shape)
        work = read_work(body, model, behaviour, entry, shape)
        try:
            if not work.prompt and shape.is_ollama:
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

    async def _load_only(self, work: Work, shape: Shape) -> web.Response:
        unload = work.keep_alive <= timedelta(0)
        if unload:
            self._store.unload(work.model)
        else:
            await asyncio.sleep(self._behaviour().load)
            self._store.load(work.model, work.keep_alive)
        self._ledger.close(work.entry, "completed")
        content = (
            {"response": ""}
            if shape.operation is Operation.GENERATE
            else {"message": {"role": "assistant", "content": ""}}
        )
        reason = "unload" if unload else "load"
        line = {"model": work.model, "created_at": timestamp(), **content, "done": True, "done_reason": reason}
        return web.Response(body=_encode(line), content_type="application/json", charset="utf-8")

    async def _run(
        self, request: web.Request, work: Work, shape: Shape, behaviour: Behaviour, arrived: float
    ) -> web.StreamResponse:
        work.entry.prompt_tokens = prompt_tokens(work.prompt)
        timings = Timings(arrived=arrived)
        pieces = self._pieces(work, behaviour, timings)
        if not work.stream:
            text = "".join([text async for text in pieces])
            work.entry.generation_tokens = work.tokens
            self._ledger.close(work.entry, "completed")
            return web.Response(body=shape.whole(work, text, timings), content_type="application/json", charset="utf-8")
        response = web.StreamResponse(headers={"Content-Type": shape.content_type})
        response.enable_chunked_encoding()
        await response.prepare(request)
        async for text in pieces:
            if behaviour.fault is not Fault.NONE and work.entry.sent >= behaviour.fault_after:
                return await self._fail(request, response, work, shape, behaviour.fault)
            await response.write(shape.piece(work, text))
            work.entry.sent += 1
        work.entry.generation_tokens = work.tokens
        # The entry is closed before the end is sent, so a client that has read the end finds it in the ledger.
        self._ledger.close(work.entry, "completed")
        await response.write(shape.last(work, timings))
        await response.write_eof()
        return response

    async def _pieces(self, work: Work, behaviour: Behaviour, timings: Timings) -> AsyncIterator[str]:
        """Yield each chunk of text at its time. Times are computed from the start, so that delays do not accumulate."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        if not self._store.is_loaded(work.model):
            await asyncio.sleep(behaviour.load)
            timings.load = loop.time() - started
        self._store.load(work.model, work.keep_alive)
        timings.prefill = behaviour.ttft
        begin = loop.time() + behaviour.ttft
        for index, first in enumerate(range(0, work.tokens, behaviour.tokens_per_chunk)):
            pause = begin + index * behaviour.inter_token * behaviour.tokens_per_chunk - loop.time()
            if pause > 0:
                await asyncio.sleep(pause)
            count = min(behaviour.tokens_per_chunk, work.tokens - first)
            yield "".join(word(first + offset) for offset in range(count))
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


def _cut(transport: asyncio.Transport, *, reset: bool) -> None:
    """Close a connection before the last chunk is sent, after flushing the buffer or immediately with a TCP reset."""
    if reset:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    else:
        transport.close()


def read_work(body: dict[str, Any], model: str, behaviour: Behaviour, entry: Entry, shape: Shape) -> Work:
    """Return the work for a request body, which must be a JSON object."""
    options = body.get("options") or {}
    limits = ("max_completion_tokens", "max_output_tokens", "max_tokens")
    limit = (
        options.get("num_predict") if shape.is_ollama else next((body[name] for name in limits if body.get(name)), None)
    )
    tokens = behaviour.tokens if not isinstance(limit, int) or limit < 0 else min(limit, behaviour.tokens)
    prompt = _prompt(body)
    stream_options = body.get("stream_options") or {}
    return Work(
        model=model,
        prompt=prompt,
        tokens=tokens,
        stream=bool(body.get("stream", shape.is_ollama)),
        include_usage=bool(stream_options.get("include_usage")),
        keep_alive=_keep_alive(body.get("keep_alive")),
        entry=entry,
    )


def _prompt(body: dict[str, Any]) -> str:
    """Return the text of a request: its prompt, input or messages."""
    given = body.get("prompt") or body.get("input") or body.get("messages") or ""
    return given if isinstance(given, str) else " ".join(_text(part) for part in given)


def _text(part: Any) -> str:
    if isinstance(part, dict):
        content = part.get("content") or part.get("text") or ""
        return content if isinstance(content, str) else " ".join(_text(inner) for inner in content)
    return str(part)


def _keep_alive(value: Any) -> timedelta:
    """Return the time that the model stays in memory. A duration as text is not supported and means 5 minutes."""
    if isinstance(value, int | float):
        return FOREVER if value < 0 else timedelta(seconds=value)
    return timedelta(minutes=5)
