"""OTLP export: one span per request, and metrics, named by OpenTelemetry's GenAI conventions (v1.37).

This module requires the extra `llmendpoint[otlp]`, which is imported only here. The SDK exports in its own threads, and
drops data that the collector does not accept. The data path only passes one record per request.
"""

from __future__ import annotations

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from llmendpoint_common.contracts.sidecar import Operation, Outcome, RequestRecord
from llmendpoint_common.process.version import VERSION

_NANOSECONDS = 1e9
_EXPORT_MILLISECONDS = 15_000
_GOOD = frozenset({Outcome.OK, Outcome.LENGTH, Outcome.LOAD, Outcome.UNLOAD})
#: `gen_ai.operation.name`. Other operations have no span.
_NAMES = {
    Operation.CHAT: "chat",
    Operation.OPENAI_CHAT: "chat",
    Operation.OPENAI_RESPONSES: "chat",
    Operation.ANTHROPIC_MESSAGES: "chat",
    Operation.GENERATE: "text_completion",
    Operation.OPENAI_COMPLETIONS: "text_completion",
    Operation.EMBED: "embeddings",
    Operation.EMBEDDINGS: "embeddings",
    Operation.OPENAI_EMBEDDINGS: "embeddings",
}


class Telemetry:
    """Turns records into spans and metrics. `close` sends the buffered ones."""

    def __init__(self, endpoint: str) -> None:
        resource = Resource.create({"service.name": "llmendpoint", "service.version": VERSION})
        self._traces = TracerProvider(resource=resource)
        self._traces.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces")))
        self._tracer = self._traces.get_tracer("llmendpoint", VERSION)
        reader = PeriodicExportingMetricReader(
            OTLPMetricExporter(endpoint=f"{endpoint}/v1/metrics"), export_interval_millis=_EXPORT_MILLISECONDS
        )
        self._metrics = MeterProvider(metric_readers=[reader], resource=resource)
        meter = self._metrics.get_meter("llmendpoint", VERSION)
        self._duration = meter.create_histogram("gen_ai.server.request.duration", unit="s")
        self._ttft = meter.create_histogram("gen_ai.server.time_to_first_token", unit="s")
        self._tokens = meter.create_histogram("gen_ai.client.token.usage", unit="{token}")
        self._context = TraceContextTextMapPropagator()

    def record(self, record: RequestRecord) -> None:
        """Record an ended request. If the client sent a trace context, it is the parent of the span."""
        name = _NAMES.get(record.operation)
        if name is None:
            return
        common = {
            "gen_ai.operation.name": name,
            "gen_ai.provider.name": "ollama",
            "gen_ai.request.model": record.model_name,
        }
        self._measure(record, common)
        end = int(record.time * _NANOSECONDS)
        span = self._tracer.start_span(
            f"{name} {record.model_name}",
            context=self._context.extract({"traceparent": record.trace_parent}) if record.trace_parent else None,
            kind=trace.SpanKind.SERVER,
            start_time=end - int(record.duration * _NANOSECONDS),
            attributes={
                **common,
                "http.response.status_code": record.code,
                "llmendpoint.outcome": record.outcome.value,
            },
        )
        if record.prompt_tokens is not None:
            span.set_attribute("gen_ai.usage.input_tokens", record.prompt_tokens)
        if record.generation_tokens is not None:
            span.set_attribute("gen_ai.usage.output_tokens", record.generation_tokens)
        if record.outcome not in _GOOD:
            span.set_attribute("error.type", record.outcome.value)
            span.set_status(trace.StatusCode.ERROR)
        span.end(end_time=end)

    def close(self) -> None:
        """Send buffered spans and metrics. This call blocks for a few seconds at most."""
        self._traces.shutdown()
        self._metrics.shutdown(timeout_millis=5000)

    def _measure(self, record: RequestRecord, common: dict[str, str]) -> None:
        error = {} if record.outcome in _GOOD else {"error.type": record.outcome.value}
        self._duration.record(record.duration, {**common, **error})
        if record.time_to_first_token is not None:
            self._ttft.record(record.time_to_first_token, common)
        for kind, count in (("input", record.prompt_tokens), ("output", record.generation_tokens)):
            if count is not None:
                self._tokens.record(count, {**common, "gen_ai.token.type": kind})
