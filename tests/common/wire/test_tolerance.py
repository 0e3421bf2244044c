"""What tolerant clients of model servers accept, the dialects accept too: the load generator's and the meter's."""

from __future__ import annotations

import json

import pytest

from llmendpoint_common.contracts.sidecar import Operation
from llmendpoint_common.wire.dialects.reading import Reading
from llmendpoint_common.wire.routes import dialect_of, is_stream

_SSE, _NDJSON, _JSON = b"text/event-stream", b"application/x-ndjson", b"application/json"
_TOKEN = {"choices": [{"index": 0, "delta": {"content": "a"}}]}
_DONE = b"data: [DONE]\n\n"


def read(operation: Operation, content_type: bytes, body: bytes, size: int = 7) -> Reading:
    """Return the reading of a body that arrives in pieces."""
    dialect = dialect_of(operation, content_type, lambda now: None)
    for start in range(0, len(body), size):
        dialect.feed(body[start : start + size], 1.0)
    dialect.close(1.0)
    return dialect.reading


def event(data: object) -> bytes:
    return b"data: " + json.dumps(data).encode() + b"\n\n"


def openai(*parts: bytes, content_type: bytes = _SSE) -> Reading:
    return read(Operation.OPENAI_CHAT, content_type, b"".join(parts))


@pytest.mark.parametrize(
    "event_data",
    [
        {"choices": None, "usage": {"prompt_tokens": 7, "completion_tokens": 3}},
        {"choices": [], "usage": {"prompt_tokens": 7.0, "completion_tokens": 3.0}},
        {"model": None, "usage": {"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": None}},
        {"choices": [{"delta": None, "finish_reason": None}], "error": None,
         "usage": {"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": None}}},
        {"choices": [{"delta": {"content": None, "tool_calls": None, "reasoning": None, "refusal": None}, "text": None}],
         "usage": {"prompt_tokens": 7, "completion_tokens": 3, "cost": 0.25}},
    ],
)  # fmt: skip
def test_null_fields_and_whole_floats_are_read(event_data: object) -> None:
    reading = openai(event(_TOKEN), event(event_data), _DONE)
    assert (reading.unreadable, reading.chunks, reading.finished, reading.failed) == (0, 1, True, False)
    assert reading.usage is not None
    assert (reading.usage.prompt_tokens, reading.usage.generation_tokens) == (7, 3)


def test_counts_that_are_null_are_not_reported() -> None:
    reading = openai(event({"usage": {"prompt_tokens": 7, "completion_tokens": None}}), _DONE)
    assert reading.usage is not None
    assert (reading.usage.prompt_tokens, reading.usage.generation_tokens) == (7, None)
    assert openai(event({"usage": {"prompt_tokens": None, "completion_tokens": None}}), _DONE).usage is None


@pytest.mark.parametrize(
    "end",
    [
        b"data: [DONE]", b"data: [DONE]\n", b"data:[DONE]\n\n", b"data:  [DONE]  \n\n", b"data: [DONE]\r\n\r\n",
        b": bye\n\ndata: [DONE]\n\n", b"data:\n\ndata: [DONE]\n\n",
    ],
)  # fmt: skip
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_the_end_of_a_stream_is_read_however_it_is_written(end: bytes, size: int) -> None:
    reading = read(Operation.OPENAI_CHAT, _SSE, event(_TOKEN) + end, size)
    assert (reading.finished, reading.unreadable, reading.chunks) == (True, 0, 1)


def test_a_stream_without_its_end_is_finished_only_after_a_finish_reason() -> None:
    last = event({"choices": [{"delta": {}, "finish_reason": "stop"}]})
    assert openai(event(_TOKEN), last).finished
    assert not openai(event(_TOKEN)).finished


def test_an_event_that_is_cut_off_is_discarded() -> None:
    reading = openai(event(_TOKEN), b'data: {"usage":{"completion_tokens":1')
    assert (reading.unreadable, reading.finished, reading.usage) == (0, False, None)


@pytest.mark.parametrize("content", [b'"\\ud83d"', b'"a\xffb"', b'"a\nb"', b'"a\tb"'])
def test_text_that_is_not_strict_json_is_content(content: bytes) -> None:
    """Half of an emoji, a byte that is not UTF-8, and control characters that are not escaped."""
    line = b'{"message":{"content":%b},"done":true,"prompt_eval_count":7,"eval_count":3}' % content
    if b"\n" not in content:
        reading = read(Operation.CHAT, _NDJSON, line + b"\n")
        assert (reading.chunks, reading.unreadable, reading.finished) == (1, 0, True)
    choice = b'{"choices":[{"message":{"content":%b}}],"usage":{"prompt_tokens":7,"completion_tokens":3}}' % content
    reading = read(Operation.OPENAI_CHAT, _JSON, choice)
    assert (reading.chunks, reading.unreadable) == (1, 0)
    assert reading.usage is not None
    assert reading.usage.generation_tokens == 3


@pytest.mark.parametrize(
    "fields",
    [
        {"model": None, "done_reason": None, "error": None, "load_duration": None},
        {"eval_duration": 2e9, "total_duration": 3e9, "error": ""},
        {"message": None},
        {"message": {"content": None, "thinking": None, "tool_calls": None}},
        {"response": None, "thinking": None, "context": None},
    ],
)
def test_servers_that_imitate_ollama_may_send_null_and_floats(fields: dict[str, object]) -> None:
    last = {"done": True, "prompt_eval_count": 7.0, "eval_count": 3.0} | fields
    reading = read(Operation.CHAT, _NDJSON, b'{"message":{"content":"a"},"done":false}\n' + json.dumps(last).encode())
    assert (reading.unreadable, reading.chunks, reading.finished, reading.failed) == (0, 1, True, False)
    assert reading.usage is not None
    assert (reading.usage.prompt_tokens, reading.usage.generation_tokens) == (7, 3)


@pytest.mark.parametrize("content_type", [b"", b"text/plain", b"TEXT/Event-Stream", b"text/event-stream;charset=utf-8"])
def test_the_media_type_of_an_event_stream_does_not_matter(content_type: bytes) -> None:
    for begin in (b"", b": ping\n\n", b"\xef\xbb\xbf", b"\n", b"event: x\n"):
        reading = openai(begin, event(_TOKEN), _DONE, content_type=content_type)
        assert (reading.chunks, reading.finished, reading.unreadable) == (1, True, 0), begin


@pytest.mark.parametrize("content_type", [b"", b"text/plain", b"Application/JSON; charset=utf-8"])
def test_the_media_type_of_an_object_does_not_matter(content_type: bytes) -> None:
    body = b'\n {"choices":[{"message":{"content":"a"}}],"usage":{"prompt_tokens":7,"completion_tokens":3}}'
    reading = openai(body, content_type=content_type)
    assert (reading.chunks, reading.finished, reading.is_whole) == (1, True, True)


def test_media_types_are_compared_without_regard_to_case() -> None:
    assert is_stream(b"Application/X-NDJSON")
    assert is_stream(b"TEXT/EVENT-STREAM; charset=utf-8")
    assert not is_stream(b"application/json")
    assert not is_stream(b"")


@pytest.mark.parametrize(
    ("operation", "data"),
    [
        (Operation.ANTHROPIC_MESSAGES,
         b'event: message_delta\ndata: {"delta":{"text":null,"stop_reason":null},"usage":{"input_tokens":7.0,'
         b'"output_tokens":3.0}}\n\nevent: message_stop\ndata: {}\n\n'),
        (Operation.OPENAI_RESPONSES,
         b'event: response.completed\ndata: {"response":{"model":null,"status":null,"usage":{"input_tokens":7.0,'
         b'"output_tokens":3.0,"input_tokens_details":null}}}\n\n'),
    ],
)  # fmt: skip
def test_other_apis_are_read_as_tolerantly(operation: Operation, data: bytes) -> None:
    reading = read(operation, _SSE, data)
    assert (reading.unreadable, reading.finished) == (0, True)
    assert reading.usage is not None
    assert (reading.usage.prompt_tokens, reading.usage.generation_tokens) == (7, 3)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b'{"model":5}', "model: expected str | null, not int"),
        (
            b'{"choices":[{"delta":{"content":{}}}]}',
            "choices[0].delta.content: expected str | array | null, not object",
        ),
        (b'{"usage":{"completion_tokens":7.5}}', "usage.completion_tokens: expected int | null, not float"),
        (b"<html>", "not valid JSON: invalid character (byte 0)"),
        (b"[1]", "expected object, not array"),
        (b'{"a":' * 100_000, "it is nested too deeply"),
    ],
)
def test_the_first_problem_names_the_field_and_quotes_no_value(body: bytes, problem: str) -> None:
    reading = read(Operation.OPENAI_CHAT, _JSON, body, 65536)
    assert (reading.unreadable, reading.problem) == (1, problem)


def test_the_words_of_an_error_are_kept() -> None:
    reading = openai(event(_TOKEN), event({"error": {"message": "x" * 9000}}))
    assert reading.failed
    assert reading.error.startswith(b'{"message": "xxx')
    assert len(reading.error) <= 4096
