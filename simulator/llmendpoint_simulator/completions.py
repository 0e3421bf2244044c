"""The three routes that generate: /api/generate, /api/chat and /v1/chat/completions."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import msgspec
from aiohttp import web

from llmendpoint_simulator.behaviour import Behaviour, Fault
from llmendpoint_simulator.ledger import Entry, Ledger
from llmendpoint_simulator.models import FOREVER, Store, canonical_name
from llmendpoint_simulator.slots import QueueFullError

_WORDS = ("the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "while", "naïve", "日本", "🙂")
_encode = msgspec.json.encode


class Timings(msgspec.Struct):
    """Seconds that one answer took, as Ollama's durations tell them."""

    total: float = 0.0
    load: float = 0.0
    prefill: float = 0.0
    decode: float = 0.0


class Work(msgspec.Struct):
    """One request to answer: what was asked, how much comes out."""

    model: str
    prompt: str
    tokens: int
    stream: bool
    include_usage: bool
    keep_alive: timedelta
    entry: Entry


class Shape(Protocol):
    """How one API writes the pieces of an answer."""

    operation: str
    content_type: str

    def piece(self, work: Work, text: str) -> bytes:
        """Return one streamed piece."""

    def last(self, work: Work, timings: Timings) -> bytes:
        """Return what ends a whole stream."""

    def whole(self, work: Work, text: str, timings: Timings) -> bytes:
        """Return the answer that is not streamed."""

    def error(self, sentence: str) -> bytes:
        """Return an error inside a stream; empty where the API just ends."""


def word(index: int) -> str:
    """Return the text of the token at `index`."""
    return _WORDS[index % len(_WORDS)] + " "


def prompt_tokens(prompt: str) -> int:
    """Return how many tokens the simulator takes a prompt for: its words."""
    return max(1, len(prompt.split()))


class OllamaShape:
    """NDJSON lines of /api/generate and /api/chat."""

    content_type = "application/x-ndjson"

    def __init__(self, operation: str) -> None:
        self.operation = operation

    def piece(self, work: Work, text: str) -> bytes:
        """Return one line."""
        return self._line(work, text, done=False)

    def last(self, work: Work, timings: Timings) -> bytes:
        """Return the final line, which carries no text."""
        return self._line(work, "", done=True, **_durations(work, timings))

    def whole(self, work: Work, text: str, timings: Timings) -> bytes:
        """Return one object."""
        return self._line(work, text, done=True, **_durations(work, timings)).rstrip()

    def error(self, sentence: str) -> bytes:
        """Return Ollama's error line."""
        return _encode({"error": sentence}) + b"\n"

    def _line(self, work: Work, text: str, *, done: bool, **rest: Any) -> bytes:
        content = (
            {"response": text} if self.operation == "generate" else {"message": {"role": "assistant", "content": text}}
        )
        line = {"model": work.model, "created_at": _timestamp(), **content, "done": done, **rest}
        return _encode(line) + b"\n"


class OpenAIShape:
    """Events of /v1/chat/completions."""

    operation = "openai_chat"
    content_type = "text/event-stream"

    def piece(self, work: Work, text: str) -> bytes:
        """Return one event."""
        return self._event(work, [self._choice(delta={"role": "assistant", "content": text})])

    def last(self, work: Work, _: Timings) -> bytes:
        """Return the finish, the usage where it was asked for, and [DONE]."""
        end = self._event(work, [self._choice(delta={"role": "assistant", "content": ""}, finish_reason=_reason(work))])
        usage = self._event(work, [], usage=_usage(work)) if work.include_usage else b""
        return end + usage + b"data: [DONE]\n\n"

    def whole(self, work: Work, text: str, _: Timings) -> bytes:
        """Return one `chat.completion`."""
        message = {"role": "assistant", "content": text}
        choice = self._choice(message=message, finish_reason=_reason(work))
        return _encode({**self._frame(work, "chat.completion"), "choices": [choice], "usage": _usage(work)})

    def error(self, _: str) -> bytes:
        """Ollama ends these streams without a word."""
        return b""

    def _event(self, work: Work, choices: list[dict[str, Any]], **rest: Any) -> bytes:
        frame = {**self._frame(work, "chat.completion.chunk"), "choices": choices, **rest}
        return b"data: " + _encode(frame) + b"\n\n"

    @staticmethod
    def _frame(work: Work, kind: str) -> dict[str, Any]:
        return {"id": "chatcmpl-1", "object": kind, "created": int(time.time()), "model": work.model}

    @staticmethod
    def _choice(**rest: Any) -> dict[str, Any]:
        return {"index": 0, "finish_reason": None, **rest}


class Completions:
    """Answers a request with the timing that the behaviour sets, and writes the ledger."""

    def __init__(self, store: Store, ledger: Ledger, behaviour: Callable[[], Behaviour]) -> None:
        self._store = store
        self._ledger = ledger
        self._behaviour = behaviour

    async def answer(self, request: web.Request, shape: Shape) -> web.StreamResponse:
        """Answer one request in the given shape."""
        behaviour = self._behaviour()
        try:
            body = json.loads(await request.read())
        except ValueError as error:
            return failure(400, str(error), shape)
        model = canonical_name(str(body.get("model", "")))
        entry = self._ledger.open(request.headers.get("X-Request-ID", ""), model, shape.operation)
        if model not in self._store.present:
            self._ledger.close(entry, "faulted")
            return failure(404, f"model '{body.get('model', '')}' not found", shape)
        work = read_work(body, model, behaviour, entry, shape)
        try:
            if not work.prompt and shape.operation != "openai_chat":
                return await self._load_only(work, shape)
            if behaviour.fault is Fault.STATUS_500:
                self._ledger.close(entry, "faulted")
                return failure(500, "simulated failure", shape)
            async with self._store.slots[model].slot(behaviour.parallel, behaviour.max_queue):
                return await self._run(request, work, shape, behaviour)
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
            {"response": ""} if shape.operation == "generate" else {"message": {"role": "assistant", "content": ""}}
        )
        reason = "unload" if unload else "load"
        line = {"model": work.model, "created_at": _timestamp(), **content, "done": True, "done_reason": reason}
        return web.Response(body=_encode(line), content_type="application/json", charset="utf-8")

    async def _run(self, request: web.Request, work: Work, shape: Shape, behaviour: Behaviour) -> web.StreamResponse:
        work.entry.prompt_tokens = prompt_tokens(work.prompt)
        timings = Timings()
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
        # The ledger is closed first: a client that has read the end finds it written.
        self._ledger.close(work.entry, "completed")
        await response.write(shape.last(work, timings))
        await response.write_eof()
        return response

    async def _pieces(self, work: Work, behaviour: Behaviour, timings: Timings) -> AsyncIterator[str]:
        """Yield the pieces of the answer at their times; delays do not add up."""
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
        timings.total = loop.time() - started
        timings.decode = max(0.0, timings.total - timings.load - timings.prefill)

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
    """End a connection without the last chunk: after what is buffered, or with a TCP reset."""
    if reset:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    else:
        transport.close()


def read_work(body: dict[str, Any], model: str, behaviour: Behaviour, entry: Entry, shape: Shape) -> Work:
    """Return what a body asks for."""
    options = body.get("options") or {}
    openai = shape.operation == "openai_chat"
    limit = body.get("max_completion_tokens") or body.get("max_tokens") if openai else options.get("num_predict")
    tokens = behaviour.tokens if not isinstance(limit, int) or limit < 0 else min(limit, behaviour.tokens)
    messages = body.get("messages") or []
    prompt = str(body.get("prompt", "")) or " ".join(str(message.get("content", "")) for message in messages)
    stream_options = body.get("stream_options") or {}
    return Work(
        model=model,
        prompt=prompt,
        tokens=tokens,
        stream=bool(body.get("stream", not openai)),
        include_usage=bool(stream_options.get("include_usage")),
        keep_alive=_keep_alive(body.get("keep_alive")),
        entry=entry,
    )


def failure(status: int, sentence: str, shape: Shape | None = None) -> web.Response:
    """Return an error in the shape that the route's clients read."""
    body: dict[str, Any] = {"error": sentence}
    if shape is not None and shape.operation == "openai_chat":
        body = {"error": {"message": sentence, "type": "api_error", "param": None, "code": None}}
    return web.json_response(body, status=status)


def _keep_alive(value: Any) -> timedelta:
    if isinstance(value, int | float):
        return FOREVER if value < 0 else timedelta(seconds=value)
    return timedelta(minutes=5)


def _durations(work: Work, timings: Timings) -> dict[str, Any]:
    """Return the final fields; Ollama omits what is zero."""
    fields: dict[str, Any] = {
        "done_reason": _reason(work),
        "total_duration": round(timings.total * 1e9),
        "load_duration": round(timings.load * 1e9),
        "prompt_eval_count": work.entry.prompt_tokens,
        "prompt_eval_duration": round(timings.prefill * 1e9),
        "eval_count": work.tokens,
        "eval_duration": round(timings.decode * 1e9),
    }
    return {name: value for name, value in fields.items() if value}


def _usage(work: Work) -> dict[str, int]:
    prompt = work.entry.prompt_tokens
    return {"prompt_tokens": prompt, "completion_tokens": work.tokens, "total_tokens": prompt + work.tokens}


def _reason(_: Work) -> str:
    return "stop"


def _timestamp() -> str:
    return datetime.now(UTC).isoformat()
