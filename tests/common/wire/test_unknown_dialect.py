"""The dialect of unknown routes: it reads what Ollama sent on known routes as the dialects of these routes do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httptools
import msgspec
import pytest

from llmendpoint_common.contracts.sidecar import Operation
from llmendpoint_common.wire.dialects.reading import Reading, Usage
from llmendpoint_common.wire.routes import METERED, dialect_of, operation_of

NDJSON, SSE, JSON = b"application/x-ndjson", b"text/event-stream", b"application/json"
EXCHANGES: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parents[2] / "sidecar" / "exchanges.json").read_text()
)


class Answer:
    """A recorded answer, without its framing."""

    def __init__(self, raw: bytes) -> None:
        self.body = self.content_type = b""
        self._parser = httptools.HttpResponseParser(self)
        self._parser.feed_data(raw)
        self.status = self._parser.get_status_code()

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"content-type":
            self.content_type = value

    def on_body(self, body: bytes) -> None:
        self.body += body


def read(operation: Operation, content_type: bytes, *pieces: bytes) -> Reading:
    dialect = dialect_of(operation, content_type, lambda now: None)
    for piece in pieces:
        dialect.feed(piece, 0.0)
    dialect.close(0.0)
    return dialect.reading


def recorded() -> list[tuple[str, Operation, Answer]]:
    found = []
    for name, exchange in EXCHANGES.items():
        method, target, _ = exchange["request"].split(" ", 2)
        operation = operation_of(method.encode(), target.encode())
        answer = Answer("".join(exchange["response"]).encode("latin-1"))
        if operation in METERED and answer.status == 200:
            found.append((name, operation, answer))
    return found


RECORDED = recorded()


def test_the_recording_has_every_shape() -> None:
    assert {operation for _, operation, _ in RECORDED} == METERED


@pytest.mark.parametrize(("operation", "answer"), [one[1:] for one in RECORDED], ids=[one[0] for one in RECORDED])
def test_a_known_shape_is_read_as_on_its_own_route(operation: Operation, answer: Answer) -> None:
    known = read(operation, answer.content_type, answer.body)
    unknown = read(Operation.OTHER, answer.content_type, answer.body)
    for name in ("model", "finished", "failed", "reason", "unreadable"):
        assert getattr(unknown, name) == getattr(known, name), name
    mine, theirs = unknown.usage or Usage(), known.usage or Usage()
    for name in ("prompt_tokens", "generation_tokens", "cached_tokens"):
        assert (getattr(mine, name) or 0) == (getattr(theirs, name) or 0), name
    if operation not in (Operation.EMBED, Operation.EMBEDDINGS):
        assert (mine.total_seconds or 0.0) == (theirs.total_seconds or 0.0)
        # An event of the Responses API that only repeats the text is also counted as content.
        assert unknown.chunks >= known.chunks


@pytest.mark.parametrize(
    ("content_type", "body", "expected"),
    [
        (NDJSON, b'{"progress":1}\n{"progress":2}\n', Reading(finished=True)),
        (NDJSON, b'{"response":"a","done":false}\n', Reading(chunks=1)),
        (NDJSON, b'{"response":"a","done":false}\n{"error":"x"}\n', Reading(chunks=1, failed=True)),
        (SSE, b'data: {"usage":{"input_tokens":3,"output_tokens":4}}\n\n', Reading(finished=True, usage=Usage(3, 4))),
        (SSE, b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n', Reading(chunks=1)),
        (SSE, b'data: {"choices":[]}\n\ndata: [DONE]\n\n', Reading(finished=True)),
        (
            JSON,
            b'{"text":"hi","model":"tiny","usage":{"total_tokens":9}}',
            Reading(model="tiny", finished=True, usage=Usage()),
        ),
        (JSON, b'{"model":5,"usage":"none","done":"yes","choices":{},"delta":[]}', Reading(finished=True)),
        (JSON, b'{"model":"tiny","usage"', Reading(unreadable=1, problem="not valid JSON: input data was truncated")),
        (b"text/plain", b"Hello there", Reading(finished=True)),
        (b"audio/wav", b"RIFF\xff\x00", Reading(finished=True)),
    ],
)
def test_other_shapes_are_read_as_far_as_they_are_known(content_type: bytes, body: bytes, expected: Reading) -> None:
    whole = read(Operation.OTHER, content_type, body)
    split = read(Operation.OTHER, content_type, *(bytes([byte]) for byte in body))
    assert msgspec.to_builtins(whole) == msgspec.to_builtins(split) == msgspec.to_builtins(expected)
