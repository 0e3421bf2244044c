"""OTLP export: names of the GenAI conventions, the client's trace, and times of tokens for streams alone."""

from __future__ import annotations

import asyncio
import gzip
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics
from opentelemetry.semconv.attributes import error_attributes, http_attributes
from opentelemetry.semconv.schemas import Schemas

from llmendpoint_sidecar.main import Sidecar
from llmendpoint_sidecar.records import genai
from support.servers import StartSidecar, StartSimulator
from support.waiting import eventually

CHAT = {"model": "simulated", "messages": [{"role": "user", "content": "one two three"}]}


class Collector:
    """An OTLP collector. It keeps the spans, and the metrics by name."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.metrics: dict[str, Any] = {}
        self.schemas: set[str] = set()
        app = web.Application()
        app.add_routes([web.post("/v1/traces", self._take_spans), web.post("/v1/metrics", self._take_metrics)])
        self.server = TestServer(app)

    @property
    def endpoint(self) -> str:
        return str(self.server.make_url("")).rstrip("/")

    def points(self, name: str) -> list[Any]:
        """Return the data points of a histogram. Empty if it has none."""
        return list(self.metrics[name].histogram.data_points) if name in self.metrics else []

    async def _take_spans(self, request: web.Request) -> web.Response:
        for resource in ExportTraceServiceRequest.FromString(_plain(request, await request.read())).resource_spans:
            for scope in resource.scope_spans:
                self.schemas.add(scope.schema_url)
                self.spans.extend(scope.spans)
        return web.Response()

    async def _take_metrics(self, request: web.Request) -> web.Response:
        for resource in ExportMetricsServiceRequest.FromString(_plain(request, await request.read())).resource_metrics:
            for scope in resource.scope_metrics:
                self.schemas.add(scope.schema_url)
                self.metrics.update((metric.name, metric) for metric in scope.metrics)
        return web.Response()


def _plain(request: web.Request, body: bytes) -> bytes:
    return gzip.decompress(body) if request.headers.get("Content-Encoding") == "gzip" else body


@pytest.fixture
async def collector(stack: AsyncExitStack) -> Collector:
    collector = Collector()
    await collector.server.start_server()
    stack.push_async_callback(collector.server.close)
    return collector


async def export(sidecar: Sidecar, requests: int) -> None:
    """Wait until the requests are recorded, and export them."""
    await eventually(lambda: sidecar.runtime.metrics.total("requests") == requests)
    telemetry = sidecar.proxy_service.telemetry
    assert telemetry is not None
    await asyncio.to_thread(telemetry.close)
    sidecar.proxy_service.telemetry = None


async def test_a_collector_gets_one_span_a_request_in_the_clients_trace(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession, collector: Collector
) -> None:
    simulator = await start_simulator(tokens=4)
    sidecar = await start_sidecar(simulator.port, otlp_endpoint=collector.endpoint)
    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    for model in ("simulated", "missing"):
        body = {**CHAT, "model": model}
        headers = {"traceparent": f"00-{trace}-{parent}-01"}
        async with http.post(f"http://127.0.0.1:{sidecar.port}/api/chat", json=body, headers=headers) as response:
            await response.read()
    await export(sidecar, 2)
    good, bad = sorted(collector.spans, key=lambda span: bool(span.status.code))
    assert good.name == "chat simulated:latest"
    assert (good.trace_id.hex(), good.parent_span_id.hex()) == (trace, parent)
    found = {item.key: item.value for item in good.attributes}
    assert found["gen_ai.usage.input_tokens"].int_value == 3
    assert found["gen_ai.usage.output_tokens"].int_value == 4
    assert good.end_time_unix_nano > good.start_time_unix_nano
    assert {item.key: item.value.string_value for item in bad.attributes}["error.type"] == "upstream_4xx"
    assert set(collector.metrics) == {
        "gen_ai.server.request.duration",
        "gen_ai.server.time_to_first_token",
        "gen_ai.server.time_per_output_token",
        "gen_ai.client.token.usage",
    }
    assert collector.schemas == {genai.SCHEMA_URL}


async def test_times_of_tokens_are_exported_for_streams_alone(
    start_simulator: StartSimulator, start_sidecar: StartSidecar, http: aiohttp.ClientSession, collector: Collector
) -> None:
    simulator = await start_simulator(tokens=4, inter_token=0.005)
    sidecar = await start_sidecar(simulator.port, otlp_endpoint=collector.endpoint)
    for stream in (False, False, False, True):
        async with http.post(f"http://127.0.0.1:{sidecar.port}/api/chat", json={**CHAT, "stream": stream}) as response:
            await response.read()
    await export(sidecar, 4)
    counts = {name: sum(point.count for point in collector.points(name)) for name in collector.metrics}
    assert counts == {
        "gen_ai.server.request.duration": 4,
        "gen_ai.server.time_to_first_token": 1,
        "gen_ai.server.time_per_output_token": 1,
        "gen_ai.client.token.usage": 8,
    }
    (point,) = collector.points("gen_ai.server.time_per_output_token")
    assert tuple(point.explicit_bounds) == genai.TIME_PER_OUTPUT_TOKEN.bounds
    assert 0.003 < point.sum < 5.0


def test_the_names_are_those_of_the_pinned_conventions() -> None:
    metrics = {value for name, value in vars(gen_ai_metrics).items() if name.startswith("GEN_AI_")}
    attributes = {value for name, value in vars(gen_ai_attributes).items() if name.startswith("GEN_AI_")}
    names = {value for name, value in vars(genai).items() if name.isupper() and isinstance(value, str)}
    entries = [value for value in vars(genai).values() if isinstance(value, genai.HistogramName)]
    assert {entry.name for entry in entries} <= metrics
    assert {name for name in names if name.startswith("gen_ai.")} <= attributes
    assert genai.ERROR_TYPE == error_attributes.ERROR_TYPE
    assert genai.STATUS_CODE == http_attributes.HTTP_RESPONSE_STATUS_CODE
    assert Schemas.V1_41_1.value == genai.SCHEMA_URL
    assert set(genai.OPERATION_NAMES.values()) <= {value.value for value in gen_ai_attributes.GenAiOperationNameValues}
    assert {genai.INPUT, genai.OUTPUT} == {value.value for value in gen_ai_attributes.GenAiTokenTypeValues}


@pytest.mark.parametrize(
    "entry", [value for value in vars(genai).values() if isinstance(value, genai.HistogramName)], ids=lambda e: e.name
)
def test_unit_and_description_are_those_of_the_pinned_conventions(entry: genai.HistogramName) -> None:
    made: dict[str, str] = {}

    class Meter:
        def create_histogram(self, **fields: str) -> None:
            made.update(fields)

    create = getattr(gen_ai_metrics, "create_" + entry.name.replace(".", "_"))
    create(Meter())
    assert made == {"name": entry.name, "unit": entry.unit, "description": entry.description}
