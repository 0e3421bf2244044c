"""Requests as the meter reads them: the model in a body, routes that are not known, and damage of every kind."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
import tracemalloc
from collections import Counter
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from llmendpoint_common.contracts.sidecar import Outcome, SidecarConfig, TenantLimits
from llmendpoint_common.wire.request_body import RequestFacts
from llmendpoint_common.wire.routes import ROUTES
from llmendpoint_sidecar.meter import bodies
from llmendpoint_sidecar.meter.bodies import BodyQueue
from llmendpoint_sidecar.meter.exchange import ExchangeMeter
from llmendpoint_sidecar.meter.meter import Meter
from llmendpoint_sidecar.meter.metrics import Metrics
from llmendpoint_sidecar.meter.model_labels import ModelLabels
from support.waiting import eventually
from support.wire.data_path import Clock, DataPath

LIMITED = SidecarConfig(max_waiting=10, default_tenant=TenantLimits(tokens_per_minute=1_000_000))
CONFIGS = {"without limits": SidecarConfig(), "with limits": LIMITED}


def post(path: str, body: bytes, **fields: str) -> bytes:
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    return f"POST {path} HTTP/1.1\r\nHost: x\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body


def answer(body: bytes, content_type: str = "application/json") -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def by(path: DataPath, name: str, label: str) -> dict[str, int]:
    return {key: value for key, value in path.metrics.totals_by(name, label).items() if value}


def nested(depth: int) -> bytes:
    return b'{"model":"m","prompt":"x","stream":false,"x":' + b"[" * depth + b"]" * depth + b"}"


FORM = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n--b--\r\n'
DONE = b'{"model":"m","done":true,"prompt_eval_count":7,"eval_count":60}\n'
BODIES = {
    "ordinary": b'{"model":"m","prompt":"x"}',
    "a text about the model": b'{"prompt":"which \\"model\\" are you? a model","model":"m"}',
    "another case": b'{"MODEL":"m"}',
    "another spelling of the name": b'{"model":"registry.ollama.ai/library/M:latest"}',
    "the last of repeated fields": b'{"model":"other","model":"m"}',
    "an escaped field": b'{"\\u006dodel":"m","x":"model"}',
    "a nested field": b'{"options":{"model":"other"},"model":"m"}',
    "a lone surrogate": b'{"model":"m","prompt":"cut \\ud83d"}',
    "bytes that are not UTF-8": b'{"model":"m","prompt":"\xff\xfe"}',
    "bytes behind the object": b'{"model":"m"} {"model":"other"}',
    "1,000 levels": nested(1000),
    "10,000 levels": nested(9_999),
    "3 MB": b'{"images":["' + b"A" * 3_000_000 + b'"],"model":"m"}',
    "a hundred thousand fields": b"{" + b"".join(b'"%d":0,' % number for number in range(100_000)) + b'"model":"m"}',
}


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("name", BODIES)
def test_the_model_is_found_whatever_the_body_contains(name: str, config: str) -> None:
    path = DataPath(CONFIGS[config])
    path.client.data_received(post("/api/generate", BODIES[name]))
    assert path.meter.in_flight.running() == {"m:latest": 1}
    path.upstreams[0][0].data_received(answer(DONE))
    assert path.meter.in_flight.counts() == {}
    assert by(path, "requests", "model_name") == {"m:latest": 1}
    assert by(path, "requests", "outcome") == {"ok": 1}
    assert by(path, "generation_tokens", "model_name") == {"m:latest": 60}
    assert path.metrics.total("meter_failures") == 0


@pytest.mark.parametrize("target", ["/api/generate", "/v1/chat/completions", "/v1/images/generations", "/api/next"])
@pytest.mark.parametrize("response", [DONE, b'{"model":"m"}', b"damaged", b""])
@pytest.mark.parametrize("name", BODIES)
def test_the_tenant_is_charged_whatever_body_and_response_contain(name: str, response: bytes, target: str) -> None:
    path = DataPath(SidecarConfig(default_tenant=TenantLimits(tokens_per_minute=2)))
    path.client.data_received(post(target, BODIES[name]))
    path.upstreams[0][0].data_received(answer(response))
    path.client.data_received(post("/api/generate", b"{}"))
    assert by(path, "requests", "code") == {"200": 1, "429": 1}
    assert by(path, "requests", "model_name")["m:latest"] >= 1


@pytest.mark.parametrize("level", [1, 19])
@pytest.mark.parametrize("size", [10, 5_000_000])
def test_the_model_is_found_in_a_compressed_body(size: int, level: int) -> None:
    path = DataPath()
    body = zstandard.compress(b'{"prompt":"' + b"x" * size + b'","model":"m"}', level)
    path.client.data_received(post("/v1/chat/completions", body, content_encoding="zstd"))
    assert path.meter.in_flight.running() == {"m:latest": 1}


@pytest.mark.parametrize("target", ["/v1/audio/transcriptions", "/api/next"])
def test_the_model_is_found_in_a_form(target: str) -> None:
    path = DataPath()
    path.client.data_received(post(target, FORM, content_type="multipart/form-data; boundary=b"))
    assert path.meter.in_flight.running() == {"m:latest": 1}


NO_MODEL = [b"", b"{}", b"null", b"[]", b'{"model":null}', b'{"model":7}', b'{"model":', b"\x00\xff", b"model",
            b'{"model":"n","Model":"o"}']  # fmt: skip


@pytest.mark.parametrize("body", NO_MODEL)
def test_a_request_without_a_model_takes_it_from_the_response(body: bytes) -> None:
    path = DataPath()
    path.client.data_received(post("/api/generate", body))
    assert path.meter.in_flight.running() == {"other": 1}
    path.upstreams[0][0].data_received(answer(DONE))
    assert by(path, "requests", "model_name") == {"m:latest": 1}
    assert by(path, "generation_tokens", "model_name") == {"m:latest": 60}


@pytest.mark.parametrize("route", [route for route in ROUTES if route.route_class.name == "INFERENCE"])
def test_every_route_that_runs_a_model_is_labelled_and_in_the_gauges(route: Any) -> None:
    path = DataPath()
    body, fields = b'{"model":"m"}', {}
    if route.path == b"/v1/audio/transcriptions":
        body, fields = FORM, {"content_type": "multipart/form-data; boundary=b"}
    path.client.data_received(post(route.path.decode(), body, **fields))
    assert path.meter.in_flight.running() == {"m:latest": 1}
    path.upstreams[0][0].data_received(answer(b'{"data":[]}'))
    assert path.meter.in_flight.counts() == {}
    assert by(path, "requests", "model_name") == {"m:latest": 1}
    unmetered = by(path, "unmetered_requests", "operation")
    assert unmetered == ({route.operation: 1} if by(path, "requests", "outcome") == {"ok": 1} else {})


@pytest.mark.parametrize("route", ["/v1/images/generations", "/v1/images/edits"])
@pytest.mark.parametrize("body", [b'{"created":1,"data":[{"b64_json":"AAAA"}]}', b"a text"])
def test_an_image_is_visibly_unmetered(route: str, body: bytes) -> None:
    path = DataPath()
    path.client.data_received(post(route, b'{"model":"m","prompt":"x"}'))
    path.upstreams[0][0].data_received(answer(body))
    assert by(path, "unmetered_requests", "reason") == {"no_usage": 1}
    assert by(path, "requests", "outcome") == {"ok": 1}


# ---- routes that are not known

SSE, NDJSON = "text/event-stream", "application/x-ndjson"
WITH_USAGE = {
    "Ollama's object": (DONE, "application/json"),
    "Ollama's stream": (b'{"model":"m","response":"a","done":false}\n' + DONE, NDJSON),
    "OpenAI's object": (b'{"model":"m","usage":{"prompt_tokens":7,"completion_tokens":60}}', "application/json"),
    "OpenAI's stream": (
        b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'
        b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":60}}\n\ndata: [DONE]\n\n',
        SSE,
    ),
    "Anthropic's stream": (
        b'event: message_delta\ndata: {"type":"message_delta","usage":{"input_tokens":7,"output_tokens":60}}\n\n'
        b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
        SSE,
    ),
    "a response's stream": (
        b"event: response.completed\n"
        b'data: {"type":"response.completed","response":{"usage":{"input_tokens":7,"output_tokens":60}}}\n\n',
        SSE,
    ),
}


@pytest.mark.parametrize("shape", WITH_USAGE)
def test_an_unknown_route_with_a_known_usage_is_metered(shape: str) -> None:
    body, content_type = WITH_USAGE[shape]
    path = DataPath()
    path.client.data_received(post("/api/next", b'{"model":"m"}'))
    assert path.meter.in_flight.running() == {"m:latest": 1}
    path.upstreams[0][0].data_received(answer(body, content_type))
    assert by(path, "requests", "model_name") == {"m:latest": 1}
    assert by(path, "requests", "operation") == {"other": 1}
    assert by(path, "requests", "outcome") == {"ok": 1}
    assert by(path, "prompt_tokens", "operation") == {"other": 7}
    assert by(path, "generation_tokens", "model_name") == {"m:latest": 60}
    assert by(path, "unmetered_requests", "reason") == {}


@pytest.mark.parametrize(
    ("body", "content_type"),
    [(b'{"data":[]}', "application/json"), (b"a text", "text/plain"), (b'{"data":', "application/json"), (b"", SSE)],
)
def test_an_unknown_route_that_runs_a_model_is_visibly_unmetered(body: bytes, content_type: str) -> None:
    path = DataPath()
    path.client.data_received(post("/api/next", b'{"model":"m"}'))
    path.upstreams[0][0].data_received(answer(body, content_type))
    assert by(path, "unmetered_requests", "operation") == {"other": 1}
    assert by(path, "unmetered_requests", "reason") == {"unknown_route": 1}
    assert by(path, "requests", "outcome") == {"ok": 1}


def test_a_usage_counts_although_the_request_names_no_model() -> None:
    path = DataPath()
    path.client.data_received(post("/api/next", b'{"session":"s"}'))
    path.upstreams[0][0].data_received(answer(DONE))
    assert by(path, "requests", "model_name") == {"m:latest": 1}
    assert by(path, "generation_tokens", "model_name") == {"m:latest": 60}


@pytest.mark.parametrize(
    "request_bytes",
    [
        post("/api/next", b'{"name":"m"}'),
        post("/api/next", b"\x00" * 100_000),
        b"GET /api/next HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
def test_an_unknown_route_that_runs_no_model_is_only_counted(request_bytes: bytes) -> None:
    path = DataPath()
    path.client.data_received(request_bytes)
    assert path.meter.in_flight.counts() == {}
    path.upstreams[0][0].data_received(answer(b"a text", "text/plain"))
    assert by(path, "requests", "outcome") == {"ok": 1}
    assert by(path, "requests", "model_name") == {"other": 1}
    assert by(path, "unmetered_requests", "reason") == {}


# ---- what admission or a refusal tells


@pytest.fixture
def meter() -> Meter:
    model_labels = ModelLabels(lambda: None)
    model_labels.list(["m:latest", "n:latest"])
    return Meter(Metrics(), model_labels, time.monotonic)


def test_what_admission_found_is_not_read_again(meter: Meter, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_: object) -> None:
        raise AssertionError("the body was read again")

    monkeypatch.setattr(ExchangeMeter, "_read_small", explode)
    monkeypatch.setattr(ExchangeMeter, "_read_large", explode)
    for path, size in itertools.product((b"/api/chat", b"/api/next"), (10, 100_000)):
        exchange = meter.begin(b"POST", path)
        exchange.request_read(RequestFacts("m", names_model=True), size)
        exchange.request_body(b"x" * size)
        exchange.request_end(0.0)
        assert meter.in_flight.counts() == {"m:latest": 1}
        assert exchange.model == "m"
        exchange.finish(Outcome.CLIENT_CANCELLED)
    assert meter.metrics.totals_by("requests", "model_name") == {"m:latest": 4}


def test_the_model_of_an_incomplete_request_is_taken_from_what_has_arrived() -> None:
    path = DataPath()
    request = post("/api/chat", b'{"model":"m","messages":[{"content":"' + b"x" * 100_000)
    for size in (200, len(request) - 1000):
        client, _ = path.connect()
        client.data_received(request[:size].replace(b"Content-Length: 100", b"Content-Length: 900"))
        client.connection_lost(None)
    assert by(path, "requests", "model_name") == {"m:latest": 2}
    assert by(path, "requests", "outcome") == {"client_cancelled": 2}


@pytest.mark.parametrize("target", ["/api/chat", "/v1/audio/transcriptions", "/v1/images/edits", "/v1/rerank"])
@pytest.mark.parametrize(
    "received", [b"", b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 9\r\n\r\nHello"]
)
def test_a_response_that_never_ended_is_not_a_success(target: str, received: bytes) -> None:
    """Also if a response of its route can be anything, and therefore also what has arrived of it."""
    path = DataPath()
    path.client.data_received(post(target, b'{"model":"m"}'))
    if received:
        path.upstreams[0][0].data_received(received)
    path.client.connection_lost(None)
    assert by(path, "requests", "outcome") == {"client_cancelled": 1}
    assert path.metrics.total("unmetered_requests") == 0


# ---- large bodies

HOSTILE = {
    "fields": b'{"model":"m"' + b',"":0' * 800_000 + b"}",
    "repeated models": b'{"model":"n"' + b',"model":""' * 400_000 + b',"model":"m"}',
    "escaped quotes": b'{"model":"m","x":"' + b'\\"' * 2_000_000 + b'"}',
    "brackets": b'{"model":"m","x":[' + b"[]," * 1_300_000 + b"0]}",
    "levels": nested(2_000_000),
    "a bomb": zstandard.compress(b'{"model":"m"' + b',"":0' * 10_000_000 + b"}"),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_no_body_takes_the_event_loop_for_long(meter: Meter, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    turns: list[float] = []

    def timed(method: Any) -> Any:
        def call(*arguments: Any) -> Any:
            began = time.thread_time()
            try:
                return method(*arguments)
            finally:
                turns.append(time.thread_time() - began)

        return call

    for name_of_method in ("_take_turn", "feed", "end"):
        monkeypatch.setattr(BodyQueue, name_of_method, timed(getattr(BodyQueue, name_of_method)))
    exchange = meter.begin(b"POST", b"/api/chat")
    coding = "zstd" if name == "a bomb" else "identity"
    exchange.head = head_of(post("/api/chat", b"", content_encoding=coding))
    body = HOSTILE[name]
    for start in range(0, len(body), 65536):
        exchange.request_body(body[start : start + 65536])
        await asyncio.sleep(0)
    exchange.request_end(time.monotonic())
    exchange.finish(Outcome.CLIENT_CANCELLED)
    await eventually(lambda: meter.metrics.total("requests") == 1, 60)
    assert max(turns) < 0.05
    assert len(turns) > 2


def head_of(request: bytes) -> Any:
    path = DataPath()
    path.client.data_received(request)
    exchange = path.client._queue[0] if path.client._queue else None
    assert exchange is not None
    return exchange.head


async def test_an_ordinary_large_body_takes_no_memory(meter: Meter) -> None:
    pieces = [b'{"images":["', *[b"A" * 65536] * 512, b'"],"model":"m"}']
    exchange = meter.begin(b"POST", b"/api/chat")
    tracemalloc.start()
    try:
        for piece in pieces:
            exchange.request_body(piece)
            await asyncio.sleep(0)
        exchange.request_end(time.monotonic())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 256 * 1024
    assert meter.in_flight.counts() == {"m:latest": 1}


async def test_bytes_that_wait_are_bounded_and_a_response_tells_the_model_instead(meter: Meter) -> None:
    piece = b',"":0' * 13_000
    exchanges = [meter.begin(b"POST", b"/api/chat") for _ in range(200)]
    for exchange in exchanges:
        exchange.tenant = "b"
        exchange.request_body(b'{"model":"n"' + b" " * 20_000)
    tracemalloc.start()
    try:
        for _ in range(10):
            for exchange in exchanges:
                # Each piece is an object of its own, as if it came from a socket.
                exchange.request_body(bytes(bytearray(piece)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 * 1024 * 1024
    for exchange in exchanges:
        exchange.request_end(time.monotonic())
        exchange.response_head(200, b"application/json")
        exchange.noted.append((time.monotonic(), DONE))
        exchange.finish(None)
    await eventually(lambda: meter.metrics.total("requests") == 200)
    assert meter.metrics.totals_by("requests", "tenant") == {"b": 200}
    assert set(meter.metrics.totals_by("requests", "model_name")) <= {"m:latest", "n:latest", "other"}
    assert meter.metrics.totals_by("requests", "model_name")["m:latest"] > 100
    assert meter.metrics.total("generation_tokens") == 200 * 60
    assert meter.in_flight.counts() == {}


async def test_a_body_that_was_given_up_is_not_read_again_from_its_middle(
    meter: Meter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "_TURN_SECONDS", 0.0)
    monkeypatch.setattr(bodies, "_MAX_WAITING_BYTES", 100_000)
    exchange = meter.begin(b"POST", b"/api/chat")
    exchange.request_body(HOSTILE["brackets"][:90_000])
    exchange.request_body(HOSTILE["brackets"][90_000:200_000])
    for _ in range(3):
        exchange.request_body(b'{"model":"n"}' + b" " * 20_000)
        await asyncio.sleep(0)
    exchange.request_end(time.monotonic())
    assert meter.in_flight.counts() == {"other": 1}
    exchange.finish(Outcome.CLIENT_CANCELLED)
    assert meter.metrics.totals_by("requests", "model_name") == {"other": 1}


async def test_requests_whose_body_is_being_read_are_recorded_when_the_process_stops(
    meter: Meter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "_TURN_SECONDS", 0.0)
    exchange = meter.begin(b"POST", b"/api/chat")
    exchange.tenant, exchange.request_id = "b", "mine"
    exchange.request_body(HOSTILE["brackets"])
    exchange.request_end(time.monotonic())
    exchange.finish(None)
    assert meter.metrics.total("requests") == 0
    meter.close()
    assert meter.metrics.totals_by("requests", "tenant") == {"b": 1}
    assert [record.tenant for record in meter.find("mine")] == ["b"]


# ---- damage

TARGETS = [
    *(route.path.decode() for route in ROUTES if route.method == b"POST"),
    "/api/next",
    "/",
    "/api/blobs/sha256:0",
]
FRAGMENTS = [b'"model":"m"', b"{", b"}", b"[", b"]", b'"', b"\\ud83d", b"\xff", b"\n", b"data: ", b"[DONE]", b"event: error",
             b'{"done":true}', b'"usage":{"prompt_tokens":7}', b'"error":"x"', b"0" * 50, b":", b","]  # fmt: skip


def damaged() -> st.SearchStrategy[bytes]:
    pieces = st.one_of(st.sampled_from(FRAGMENTS), st.binary(max_size=20))
    return st.lists(pieces, max_size=30).map(b"".join)


@given(
    target=st.sampled_from(TARGETS),
    body=st.one_of(damaged(), st.sampled_from(list(BODIES.values()))),
    response=damaged(),
    content_type=st.sampled_from(["application/json", NDJSON, SSE, "text/plain", ""]),
    status=st.sampled_from([200, 201, 404, 500]),
    coding=st.sampled_from(["identity", "zstd", "gzip"]),
    limited=st.booleans(),
    leaves=st.booleans(),
)
def test_one_request_is_one_count_and_one_record_whatever_is_damaged(
    target: str, body: bytes, response: bytes, content_type: str, status: int, coding: str, limited: bool, leaves: bool
) -> None:
    path = DataPath(LIMITED if limited else SidecarConfig(), Clock())
    records: list[Any] = []
    path.meter.journal.listeners.append(records.append)
    path.client.data_received(post(target, body, content_encoding=coding, content_type="application/json"))
    if path.upstreams:
        head = (
            f"HTTP/1.1 {status} X\r\nContent-Type: {content_type}\r\nContent-Length: {len(response) + leaves}\r\n\r\n"
        )
        path.upstreams[0][0].data_received(head.encode() + response)
    path.client.connection_lost(None)
    path.meter.close()
    assert path.metrics.total("requests") == len(records) == 1
    (record,) = records
    counted = Counter(by(path, "requests", "code"))
    assert counted == {str(record.code): 1}
    assert by(path, "requests", "outcome") == {record.outcome: 1}
    assert by(path, "requests", "operation") == {record.operation: 1}
    assert path.meter.in_flight.counts() == {}
    assert path.metrics.total("meter_failures") == 0


@given(
    model=st.sampled_from(["m", "M:latest", "library/m"]),
    before=damaged(),
    depth=st.integers(0, 50),
    tenant=st.sampled_from(["a", "b"]),
)
def test_text_around_a_model_changes_neither_the_model_nor_the_tenant(
    model: str, before: bytes, depth: int, tenant: str
) -> None:
    path = DataPath(LIMITED)
    text = json.dumps(before.decode("latin-1")).encode()
    body = b'{"x":%b,"y":%b,"model":"%b"}' % (text, b"[" * depth + text + b"]" * depth, model.encode())
    exchange = path.meter.begin(b"POST", b"/api/next")
    exchange.tenant = tenant
    for start in range(0, len(body), 7):
        exchange.request_body(body[start : start + 7])
    exchange.request_end(0.0)
    exchange.finish(Outcome.CLIENT_CANCELLED)
    assert by(path, "requests", "model_name") == {"m:latest": 1}
    assert by(path, "requests", "tenant") == {tenant: 1}
