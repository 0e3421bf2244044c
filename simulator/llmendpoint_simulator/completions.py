"""Responses of the routes that generate text, with the timings of the current behaviour."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any, NamedTuple

from llmendpoint_common.contracts.sidecar import Operation
from llmendpoint_simulator.answers import answer_to
from llmendpoint_simulator.behaviour import Behaviour, until_running
from llmendpoint_simulator.faults import TEXT_FAULTS, Fault
from llmendpoint_simulator.injection import Injected
from llmendpoint_simulator.ledger import Entry
from llmendpoint_simulator.pace import Pace
from llmendpoint_simulator.refusals import refuse
from llmendpoint_simulator.requests import RequestError, keep_alive, prompt_of, prompt_tokens, read_body
from llmendpoint_simulator.serving.exchange import Exchange
from llmendpoint_simulator.serving.responses import JSON, JSON_UTF8, Response
from llmendpoint_simulator.shapes.base import Shape, Timings, Work, failure, merge
from llmendpoint_simulator.shapes.ollama import OllamaShape
from llmendpoint_simulator.stream import Script, Stream, parts_of
from llmendpoint_simulator.world import Place, World

_EMBEDDING_ONLY = {Operation.GENERATE: "generate", Operation.OPENAI_COMPLETIONS: "generate"}
#: Faults that occur after a number of chunks.
_IN_STREAM = frozenset({Fault.STREAM_ERROR, Fault.TRUNCATE, Fault.RESET, Fault.NO_DONE, Fault.STALL, Fault.HANG})
_FAILED = "simulated failure in the stream"


class _Run(NamedTuple):
    """A request that runs: where, since when on the monotonic clock, with which behaviour, and with which fault."""

    place: Place
    arrived: float
    behaviour: Behaviour
    injected: Injected | None


class Completions:
    """Answers requests with the timings of the current behaviour, and keeps the ledger."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def answer(self, exchange: Exchange, shape: Shape) -> Response | None:
        """Answer one request in the format of its API. Returns None if the answer has been sent."""
        try:
            return await self._answer(exchange, shape)
        except RequestError as error:
            return failure(error.status, error.sentence, shape, malformed=error.malformed)

    async def _answer(self, exchange: Exchange, shape: Shape) -> Response | None:
        world, request = self._world, exchange.request
        behaviour = world.behaviour
        body = read_body(request.body, request.path, native=shape.is_ollama)
        if body.get("stream") and shape.stream_fields:
            exchange.add_fields(*shape.stream_fields)
        check(body, shape)
        name = str(body.get("model", ""))
        model = world.store.canonical(world.aliases.target_of(name))
        with world.counted(request, model, shape.operation) as entry:
            self._check_model(name, model, shape)
            work = read_work(body, model, behaviour, entry, shape)
            await until_running(world.current)
            if isinstance(shape, OllamaShape) and _only_loads(body, shape.operation):
                return await self._load_only(exchange, work, shape)
            injected = world.pick(request, model, self._kinds(work))
            if injected is not None and injected.fault not in _IN_STREAM:
                await refuse(exchange, injected)
            async with world.running(model, work.keep_alive, injected) as place:
                run = _Run(place, request.received_at, behaviour, injected)
                return await self._run(exchange, work, shape, run)

    def _check_model(self, name: str, model: str, shape: Shape) -> None:
        if model not in self._world.store.present:
            raise RequestError(404, f"model '{name}' not found")
        if self._world.is_embedding(model):
            kind = _EMBEDDING_ONLY.get(shape.operation, "chat")
            raise RequestError(400, f'"{name}" does not support {kind}')

    def _kinds(self, work: Work) -> frozenset[Fault]:
        """Return the faults that this request can have."""
        kinds = TEXT_FAULTS if work.stream else TEXT_FAULTS - {Fault.NO_DONE}
        return kinds - {Fault.LOAD_FAILURE} if self._world.store.is_loaded(work.model) else kinds

    async def _load_only(self, exchange: Exchange, work: Work, shape: OllamaShape) -> Response:
        unloads = work.keep_alive is not None and work.keep_alive <= timedelta()
        if unloads:
            self._world.store.unload(work.model)
        else:
            is_loaded = self._world.store.is_loaded(work.model)
            kinds = frozenset() if is_loaded else frozenset({Fault.LOAD_FAILURE})
            injected = self._world.pick(exchange.request, work.model, kinds)
            async with self._world.loaded(work.model, work.keep_alive, injected):
                pass
        reason = "unload" if unloads else "load"
        self._world.ledger.close(work.entry, "completed", reason)
        return Response(200, shape.ended(work, reason), JSON_UTF8)

    async def _run(self, exchange: Exchange, work: Work, shape: Shape, run: _Run) -> Response | None:
        behaviour = run.behaviour
        entry = work.entry
        entry.prompt_tokens = prompt_tokens(work.prompt)
        pace = Pace(behaviour, self._world.random, run.place.slots, run.place.runner)
        script = Script(parts_of(work, behaviour.tokens_per_chunk), pace, run.injected, self._world.hangs)
        if work.stream:
            exchange.begin(shape.content_type)
        begun, prefill = time.monotonic(), pace.first(entry.prompt_tokens)
        is_whole = await Stream(exchange, work, shape, script, self._world.timers).run(prefill)
        now = time.monotonic()
        # As in Ollama, the wait for a slot is part of the total and of no other field.
        decode = max(0.0, now - begun - prefill)
        timings = Timings(total=now - run.arrived, load=run.place.load, prefill=prefill, decode=decode)
        if not is_whole and run.injected is not None:
            return self._fail(exchange, work, shape, (run.injected.fault, timings))
        # The entry is closed before the end is sent, so a client that has read the end finds it in the ledger.
        entry.generation_tokens = work.tokens
        self._world.ledger.close(entry, "completed", work.answer.reason)
        if not work.stream:
            return _whole(work, shape, timings)
        exchange.end(shape.last(work, timings))
        return None

    def _fail(self, exchange: Exchange, work: Work, shape: Shape, how: tuple[Fault, Timings]) -> Response | None:
        fault, timings = how
        if fault is Fault.STREAM_ERROR and not work.stream:
            raise RequestError(500, _FAILED, reason=fault.value)
        self._world.ledger.close(work.entry, "faulted", fault.value)
        if fault is Fault.STREAM_ERROR and (data := shape.error(_FAILED)):
            exchange.write(data)
        if fault is Fault.RESET:
            exchange.reset()
        elif fault is Fault.TRUNCATE and not work.stream:
            exchange.respond_in_part(_whole(work, shape, timings))
        elif fault is Fault.TRUNCATE:
            exchange.truncate()
        else:
            exchange.end()
        return None


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
        cached_share=behaviour.cached_share,
    )


def _only_loads(body: dict[str, Any], operation: Operation) -> bool:
    return not body.get("prompt" if operation is Operation.GENERATE else "messages")


def _whole(work: Work, shape: Shape, timings: Timings) -> Response:
    # As in Ollama, only its own API names the charset.
    body = shape.whole(work, merge(work.answer.tokens), timings)
    return Response(200, body, JSON_UTF8 if shape.is_ollama else JSON)
