"""The bytes and the times of an answer, from the request and the behaviour."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

from llmendpoint_common.contracts.sidecar import Operation
from llmendpoint_simulator.answers import text_answer
from llmendpoint_simulator.behaviour import Behaviour
from llmendpoint_simulator.known.stream import Plan
from llmendpoint_simulator.latency import Gamma, constant, draw
from llmendpoint_simulator.ledger import Entry
from llmendpoint_simulator.requests import keep_alive, prompt_of, prompt_tokens
from llmendpoint_simulator.serving.responses import LAST_CHUNK, framed, whole_response
from llmendpoint_simulator.shapes.base import Shape, Timings, Work, merge
from llmendpoint_simulator.shapes.ollama import OllamaShape
from llmendpoint_simulator.shapes.openai import OpenAICompletionsShape, OpenAIShape

#: Ends of paths, and what they ask for. A base path may come before.
ROUTES: dict[str, Callable[[], Shape]] = {
    "/api/generate": lambda: OllamaShape(Operation.GENERATE),
    "/api/chat": lambda: OllamaShape(Operation.CHAT),
    "/chat/completions": OpenAIShape,
    "/completions": OpenAICompletionsShape,
}


class _Kind(NamedTuple):
    """What the chunks of a stream depend on."""

    name: str
    operation: Operation
    tokens: int
    tokens_per_chunk: int
    include_usage: bool
    is_framed: bool


class Planner:
    """Plans answers. The sequence of the times to first token follows from the seed."""

    def __init__(self, behaviour: Callable[[], Behaviour]) -> None:
        self._behaviour = behaviour
        self.restart()

    def restart(self) -> None:
        """Begin the sequence of random times again."""
        self._random = random.Random(self._behaviour().seed)  # noqa: S311 - not for secrets

    def plan(self, body: dict[str, Any], shape: Shape, entry: Entry, *, is_framed: bool) -> Plan:
        """Return the plan of an answer. `is_framed` selects the chunked coding, which HTTP/1.0 does not have."""
        behaviour = self._behaviour()
        prompt = prompt_of(body)
        entry.prompt_tokens = prompt_tokens(prompt)
        answer = text_answer(body, shape.operation, behaviour.tokens)
        work = Work(
            model=entry.model,
            name=entry.model,
            prompt=prompt,
            answer=answer,
            stream=bool(body.get("stream", shape.is_ollama)),
            include_usage=bool((body.get("stream_options") or {}).get("include_usage")),
            keep_alive=keep_alive(body.get("keep_alive")),
            entry=entry,
            body=body,
        )
        gap = constant(behaviour.inter_token) * behaviour.tokens_per_chunk
        ttft = self._ttft(behaviour)
        if not work.stream:
            return _whole(work, shape, ttft, gap * (_count(work.tokens, behaviour.tokens_per_chunk) - 1))
        size = behaviour.tokens_per_chunk
        parts = _parts(_Kind(work.name, shape.operation, work.tokens, size, work.include_usage, is_framed))

        def last(total: float) -> bytes:
            decode = gap * (len(parts) - 1)
            data = shape.last(work, Timings(total=total, prefill=ttft, decode=decode))
            return framed(data) + LAST_CHUNK if is_framed else data

        return Plan(parts, last, ttft, gap, work.tokens)

    def _ttft(self, behaviour: Behaviour) -> float:
        if not behaviour.ttft_cv:
            return draw(behaviour.ttft, self._random)
        return Gamma(constant(behaviour.ttft), behaviour.ttft_cv).draw(self._random)


def _count(tokens: int, size: int) -> int:
    return -(-tokens // size)


def _whole(work: Work, shape: Shape, ttft: float, decode: float) -> Plan:
    """Return the plan of an answer that is not streamed: all of it comes when the last chunk of a stream would."""

    def last(total: float) -> bytes:
        timings = Timings(total=total, prefill=ttft, decode=decode)
        return whole_response(200, shape.whole(work, merge(work.answer.tokens), timings))

    return Plan((b"",), last, ttft + decode, 0.0, work.tokens)


@lru_cache(maxsize=64)
def _parts(kind: _Kind) -> tuple[bytes, ...]:
    """Return the chunks of a stream, the first one with the head. They are the same for all requests of a kind."""
    name, operation, tokens, size, include_usage, is_framed = kind
    shape = next(made for made in (make() for make in ROUTES.values()) if made.operation is operation)
    answer = text_answer({}, operation, tokens)
    entry = Entry("", name, operation, 0.0)
    work = Work(name, name, "", answer, stream=True, include_usage=include_usage, keep_alive=keep_alive(None),
                entry=entry, body={})  # fmt: skip
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {shape.content_type}\r\n"
    head += "Transfer-Encoding: chunked\r\n\r\n" if is_framed else "Connection: close\r\n\r\n"
    chunks = [shape.piece(work, merge(answer.tokens[first : first + size])) for first in range(0, tokens, size)]
    coded = [framed(chunk) if is_framed else chunk for chunk in chunks]
    return (head.encode() + coded[0], *coded[1:])
