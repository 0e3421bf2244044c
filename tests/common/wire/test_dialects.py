"""Splitters and dialects: the same result for any split of the bytes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmendpoint_common.contracts.sidecar import Operation
from llmendpoint_common.wire.dialects.ollama import OllamaDialect
from llmendpoint_common.wire.dialects.openai import OpenAIObjectDialect, OpenAIStreamDialect
from llmendpoint_common.wire.dialects.reading import Dialect
from llmendpoint_common.wire.http1 import heads
from llmendpoint_common.wire.ndjson import LineSplitter
from llmendpoint_common.wire.routes import dialect_of
from llmendpoint_common.wire.sse import EventSplitter
from support.private import kept_header_lines

CUTS = st.lists(st.integers(min_value=1, max_value=40), min_size=1, max_size=30)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    parts, at, turn = [], 0, 0
    while at < len(data):
        size = cuts[turn % len(cuts)]
        parts.append(data[at : at + size])
        at, turn = at + size, turn + 1
    return parts


@given(st.lists(st.binary(max_size=50).map(lambda b: b.replace(b"\n", b""))), CUTS)
def test_lines_are_the_same_for_any_split(lines: list[bytes], cuts: list[int]) -> None:
    splitter = LineSplitter()
    found = [line for part in pieces(b"".join(line + b"\n" for line in lines), cuts) for line in splitter.feed(part)]
    assert found == lines
    assert splitter.flush() == b""


@given(CUTS)
def test_an_overlong_line_is_dropped_and_the_next_one_read(cuts: list[int]) -> None:
    splitter = LineSplitter(limit=10)
    found = [line for part in pieces(b"x" * 50 + b"\nshort\n", cuts) for line in splitter.feed(part)]
    if max(cuts) < 40:
        assert splitter.overlong == 1
        assert found == [b"short"]


@given(CUTS)
def test_events_are_the_same_for_any_split(cuts: list[int]) -> None:
    text = ": comment\n\nevent: ping\ndata: {}\n\ndata: naïve 🙂\r\n\r\ndata: a\ndata: b\n\n".encode()
    splitter = EventSplitter()
    found = [event for part in pieces(text, cuts) for event in splitter.feed(part)]
    assert [(event.name.decode(), event.data.decode()) for event in found] == [
        ("ping", "{}"),
        ("", "naïve 🙂"),
        ("", "a\nb"),
    ]


def ollama_stream() -> bytes:
    lines = [
        {"model": "m:latest", "message": {"role": "assistant", "content": ""}, "done": False},
        {"model": "m:latest", "message": {"role": "assistant", "content": "", "thinking": "hm"}, "done": False},
        {"model": "m:latest", "message": {"role": "assistant", "content": "日本🙂"}, "done": False},
        {"model": "m:latest", "message": {"role": "assistant", "content": "", "tool_calls": [{"function": {}}]}, "done": False},
        {
            "model": "m:latest", "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop",
            "total_duration": 5_000_000_000, "load_duration": 1_000_000_000, "prompt_eval_count": 26,
            "prompt_eval_duration": 500_000_000, "eval_count": 290, "eval_duration": 3_000_000_000,
        },
    ]  # fmt: skip
    return b"".join(json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in lines)


def read(dialect: Dialect, data: bytes, cuts: list[int]) -> Dialect:
    for part in pieces(data, cuts):
        dialect.feed(part, 1.0)
    dialect.close(1.0)
    return dialect


@given(CUTS)
def test_ollama_counts_tokens_and_content_for_any_split(cuts: list[int]) -> None:
    contents: list[float] = []
    reading = read(OllamaDialect(contents.append), ollama_stream(), cuts).reading
    assert len(contents) == reading.chunks == 3  # thinking, content and a tool call; a role alone is no token
    assert reading.finished
    assert reading.usage is not None
    assert (reading.usage.prompt_tokens, reading.usage.generation_tokens) == (26, 290)
    assert reading.usage.total_seconds == pytest.approx(5.0)


def test_an_error_line_in_a_200_stream_is_seen() -> None:
    reading = read(OllamaDialect(lambda now: None), b'{"error":"out of memory"}\n', [7]).reading
    assert reading.failed
    assert not reading.finished


@given(CUTS)
def test_openai_takes_the_last_usage(cuts: list[int]) -> None:
    chunks: list[dict[str, object]] = [
        {"model": "m", "choices": [{"delta": {"role": "assistant", "content": ""}}]},
        {
            "model": "m",
            "choices": [{"delta": {"content": "hé"}}],
            "usage": {"prompt_tokens": 0, "completion_tokens": 0},
        },
        {"model": "m", "choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 12}},
    ]
    data = b"".join(b"data: " + json.dumps(chunk, ensure_ascii=False).encode() + b"\n\n" for chunk in chunks)
    reading = read(OpenAIStreamDialect(lambda now: None), data + b"data: [DONE]\n\n", cuts).reading
    assert reading.finished
    assert reading.usage is not None
    assert (reading.usage.prompt_tokens, reading.usage.generation_tokens) == (9, 12)
    assert not read(OpenAIStreamDialect(lambda now: None), data, cuts).reading.finished


PARTS = {
    OllamaDialect: [
        b'{"model":"m","message":{"content":"a"}}\n',
        b'{"model":"m","message":{"content":""}}\n',
        b'{"message":{"thinking":"hm"}}\n',
        b'{"message":{"content":"a"}}\n{"message":{"content":"b"}}\n',
        b'{"message":{"con',
        b'tent":"c"}}\n',
        b'{"error":"no"}\n',
        b"not JSON\n",
        b"\n",
        b'{"done":true,"done_reason":"stop","eval_count":7}\n',
    ],
    OpenAIStreamDialect: [
        b'data: {"model":"m","choices":[{"delta":{"content":"a"}}]}\n\n',
        b'data:{"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n',
        b'data: {"choices":[{"delta":{"reasoning":"hm"}}]}\n\n',
        b'data: {"choices":[{"delta":{"content":"a"}}]}\n\ndata: {"choices":[{"delta":{"content":"b"}}]}\n\n',
        b'data: {"choices":[{"delta":{"con',
        b'tent":"c"}}]}\n\n',
        b'data: {"choices":[{"delta":{"content":"d"}}]}\r\n\r\n',
        b'event: error\ndata: {"error":"no"}\n\n',
        b": comment\n\n",
        b"data: not JSON\n\n",
        b'data: {"choices":[],"usage":{"completion_tokens":7}}\n\n',
        b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n',
        b"data: [DONE]\n\n",
    ],
}  # fmt: skip


@pytest.mark.parametrize("dialect", PARTS)
@given(st.data())
def test_pieces_that_are_read_together_give_the_same_as_one_by_one(
    dialect: type[OllamaDialect | OpenAIStreamDialect], data: st.DataObject
) -> None:
    parts = data.draw(st.lists(st.sampled_from(PARTS[dialect]), max_size=12))
    size = data.draw(st.integers(min_value=1, max_value=12))
    times = [float(number) for number in range(len(parts))]
    expected: list[float] = []
    single = dialect(expected.append)
    single.keep_text()
    for part, now in zip(parts, times, strict=True):
        single.feed(part, now)
    found: list[float] = []
    together = dialect(found.append)
    together.keep_text()
    for first in range(0, len(parts), size):
        together.feed_all(parts[first : first + size], times[first : first + size])
    single.close(99.0)
    together.close(99.0)
    assert (found, together.reading) == (expected, single.reading)


WORDS = [f"wörd{number} " for number in range(50)]


def chats() -> bytes:
    return "".join(json.dumps({"message": {"content": word}}, ensure_ascii=False) + "\n" for word in WORDS).encode()


def completions() -> bytes:
    lines = (json.dumps({"choices": [{"delta": {"content": word}}]}, ensure_ascii=False) for word in WORDS)
    return "".join(f"data: {line}\n\n" for line in lines).encode() + b"data: [DONE]\n\n"


@pytest.mark.parametrize(
    ("operation", "content_type", "body"),
    [
        (Operation.CHAT, b"application/x-ndjson", chats()),
        (Operation.OPENAI_CHAT, b"text/event-stream", completions()),
        (Operation.OPENAI_CHAT, b"text/plain", completions()),
    ],
)
@given(CUTS)
def test_the_text_is_kept_for_any_split(
    operation: Operation, content_type: bytes, body: bytes, cuts: list[int]
) -> None:
    dialect = dialect_of(operation, content_type, lambda now: None)
    dialect.keep_text()
    assert "".join(read(dialect, body, cuts).reading.texts or ()) == "".join(WORDS)


@pytest.mark.parametrize(
    ("operation", "body", "text"),
    [
        (Operation.GENERATE, b'{"response": "a"}\n{"response": "b"}', "ab"),
        (Operation.CHAT, b'{"message": {"thinking": "hm"}}\n{"message": {"content": "a"}}\n', "a"),
        (Operation.OPENAI_CHAT, b'{"choices": [{"message": {"content": "a"}}, {"message": {"content": "b"}}]}', "a"),
        (Operation.OPENAI_CHAT, b'{"choices": [{"message": {"reasoning": "hm", "content": null}}]}', ""),
        (Operation.OPENAI_CHAT, b'{"choices": [{"message": {"content": [{"type": "text"}]}}]}', ""),
    ],
)
def test_the_text_is_the_content_of_the_first_choice(operation: Operation, body: bytes, text: str) -> None:
    dialect = dialect_of(operation, b"application/json", lambda now: None)
    dialect.keep_text()
    assert "".join(read(dialect, body, [9]).reading.texts or ()) == text


def test_no_text_is_kept_unless_it_is_asked_for() -> None:
    assert read(OllamaDialect(lambda now: None), chats(), [40]).reading.texts is None


def test_an_openai_object_is_read_whole() -> None:
    body = json.dumps({"model": "m", "choices": [{"message": {"content": "x"}}], "usage": {"completion_tokens": 3}})
    reading = read(OpenAIObjectDialect(lambda now: None), body.encode(), [5]).reading
    assert reading.finished
    assert reading.usage is not None
    assert reading.usage.generation_tokens == 3


def test_hop_by_hop_headers_stay_behind_and_framing_cannot_be_named_away() -> None:
    head = b"GET / HTTP/1.1\r\nConnection: close, X-Secret, Content-Length\r\nX-Secret: 1\r\nContent-Length: 3\r\nKeep-Alive: 5\r\nAccept: */*\r\n\r\n"
    assert heads.end_to_end(heads.read_head(head)) == [b"Content-Length: 3", b"Accept: */*"]


@pytest.mark.parametrize(
    ("target", "expected"),
    [(b"/a?b", b"/a?b"), (b"http://h:1/a", b"/a"), (b"http://h", b"/"), (b"*", b"*"), (b"http://h?q", b"/?q")],
)
def test_targets_become_origin_form(target: bytes, expected: bytes) -> None:
    assert heads.origin_form(target) == expected


@pytest.mark.parametrize("name", ["Authorization", "X-Api-Key", "Cookie", "Api-Key", "X-Anything"])
def test_a_header_that_may_hold_a_key_is_not_kept(name: str) -> None:
    line = f"{name}: canary-5f2c".encode()
    assert heads.read_head(b"GET / HTTP/1.1\r\n" + line + b"\r\n\r\n").fields == {name.lower().encode(): b"canary-5f2c"}
    assert not any(b"canary-5f2c" in kept for kept in kept_header_lines())
