"""OTLP export: one span per request, and metrics, with the names in `genai`.

This module requires the extra `llmendpoint[otlp]`, which is imported only here. The SDK exports in its own threads, and
drops data that the collector does not accept. The data path only passes one record per request.
"""

from __future__ import annotations

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.metrics import Histogram, Meter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from llmendpoint_common.contracts.sidecar import Outcome, RequestRecord
from llmendpoint_common.process.version import VERSION
from llmendpoint_sidecar.records import genai

_NANOSECONDS = 1e9
_EXPORT_MILLISECONDS = 15_000
_GOOD = frozenset({Outcome.OK, Outcome.LENGTH, Outcome.LOAD, Outcome.UNLOAD})
_OUTCOME = "llmendpoint.outcome"
_REFUSAL_REASON = "llmendpoint.refusal_reason"


class Telemetry:
    """Turns records into spans and metrics. `close` sends the buffered ones."""

    def __init__(self, endpoint: str) -> None:
        resource = Resource.create({"service.name": "llmendpoint", "service.version": VERSION})
        self._traces = TracerProvider(resource=resource)
        self._traces.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces")))
        self._tracer = self._traces.get_tracer("llmendpoint", VERSION, schema_url=genai.SCHEMA_URL)
        reader = PeriodicExportingMetricReader(
            OTLPMetricExporter(endpoint=f"{endpoint}/v1/metrics"), export_interval_millis=_EXPORT_MILLISECONDS
        )
        self._metrics = MeterProvider(metric_readers=[reader], resource=resource)
        meter = self._metrics.get_meter("llmendpoint", VERSION, schema_url=genai.SCHEMA_URL)
        self._duration = _histogram(meter, genai.REQUEST_DURATION)
        self._first_token = _histogram(meter, genai.TIME_TO_FIRST_TOKEN)
        self._per_token = _histogram(meter, genai.TIME_PER_OUTPUT_TOKEN)
        self._tokens = _histogram(meter, genai.TOKEN_USAGE)
        self._context = TraceContextTextMapPropagator()

    def record(self, record: RequestRecord) -> None:
        """Record an ended request. If the client sent a trace context, it is the parent of the span."""
        name = genai.OPERATION_NAMES.get(record.operation)
        if name is None:
            return
        common = {
            genai.OPERATION_NAME: name,
            genai.PROVIDER_NAME: "ollama",
            genai.REQUEST_MODEL: record.model_name,
        }
        self._measure(record, common)
        end = int(record.time * _NANOSECONDS)
        span = self._tracer.start_span(
            f"{name} {record.model_name}",
            context=self._context.extract({"traceparent": record.trace_parent}) if record.trace_parent else None,
            kind=trace.SpanKind.SERVER,
            start_time=end - int(record.duration * _NANOSECONDS),
            attributes={**common, genai.STATUS_CODE: record.code, _OUTCOME: record.outcome.value},
        )
        for key, count in (
            (genai.INPUT_TOKENS, record.prompt_tokens),
            (genai.OUTPUT_TOKENS, record.generation_tokens),
            (genai.CACHED_TOKENS, record.cached_tokens),
        ):
            if count is not None:
                span.set_attribute(key, count)
        if record.refusal_reason is not None:
            span.set_attribute(_REFUSAL_REASON, record.refusal_reason.value)
        if record.outcome not in _GOOD:
            span.set_attribute(genai.ERROR_TYPE, record.outcome.value)
            span.set_status(trace.StatusCode.ERROR)
        span.end(end_time=end)

    def close(self) -> None:
        """Send buffered spans and metrics. This call blocks for a few seconds at most."""
        self._traces.shutdown()
        self._metrics.shutdown(timeout_millis=5000)

    def _measure(self, record: RequestRecord, common: dict[str, str]) -> None:
        """Record the metrics of a request. The conventions define times of tokens for successful responses only."""
        good = record.outcome in _GOOD
        error = {} if good else {genai.ERROR_TYPE: record.outcome.value}
        self._duration.record(record.duration, {**common, **error})
        if good and record.time_to_first_token is not None:
            self._first_token.record(record.time_to_first_token, common)
        if good and record.time_per_output_token is not None:
            self._per_token.record(record.time_per_output_token, common)
        for kind, count in ((genai.INPUT, record.prompt_tokens), (genai.OUTPUT, record.generation_tokens)):
            if count is not None:
                self._tokens.record(count, {**common, genai.USAGE_TYPE: kind})


def _histogram(meter: Meter, entry: genai.HistogramName) -> Histogram:
    return meter.create_histogram(
        entry.name, entry.unit, entry.description, explicit_bucket_boundaries_advisory=entry.bounds
    )
