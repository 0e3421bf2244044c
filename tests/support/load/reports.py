"""Summaries for tests of reports. Their numbers depend on a seed only."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import msgspec

from llmendpoint_common.contracts.loadrun import (
    Api,
    CategoryResult,
    Environment,
    ErrorResult,
    MeterAudit,
    MetricName,
    ObjectiveResult,
    Percentiles,
    Quantity,
    RegressionResult,
    Saturation,
    StepResult,
    Summary,
    SweepResult,
    TimelineBucket,
    TtftPart,
    Verdict,
    VerdictReason,
    Window,
)
from llmendpoint_common.results.histogram import Histogram
from llmendpoint_common.results.measurements import measurements_of

#: A name that would be markup in HTML, in SVG, and on the console.
HOSTILE = "<script>alert(1)</script>[red]x[/red]&amp;\"'"


def percentiles(values: Sequence[float]) -> Percentiles:
    found = histogram_of(values)
    p50, p90, p95, p99 = (found.percentile(percent) for percent in (50, 90, 95, 99))
    return Percentiles(found.count, found.mean, p50, p90, p95, p99, found.max)


def histogram_of(values: Sequence[float]) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    return histogram


def measurements(histograms: dict[str, Histogram]) -> dict[str, Any]:
    """The measurements of 1,000 requests of which 60 failed."""
    found = measurements_of(())
    found.whole.requests, found.whole.errors, found.whole.histograms = 1000, 60, histograms
    return found.encode()


def latencies(count: int, middle: float, seed: int) -> list[float]:
    chooser = random.Random(seed)
    return [middle * chooser.lognormvariate(0, 0.35) for _ in range(count)]


def summary(*, scale: float = 1.0, seed: int = 1, model: str = "llama3.2:3b", **changes: Any) -> Summary:
    """A run with everything that a report can show. `scale` multiplies all latencies."""
    ttft, request = latencies(940, 0.32 * scale, seed), latencies(940, 1.9 * scale, seed + 1)
    named: dict[str, Histogram] = {"ttft": histogram_of(ttft), "request_latency": histogram_of(request)}
    ttft_row, request_row = percentiles(ttft), percentiles(request)
    tiny = percentiles([0.0004 * scale, 0.0011 * scale, 0.0021])
    fields: dict[str, Any] = {
        "verdict": Verdict.FAILED,
        "reason": VerdictReason.OBJECTIVES_MISSED,
        "message": "TTFT p95 was 612ms (objective: at most 500ms); error rate was 6% (objective: at most 1%)",
        "target": "http://assistant.default.svc:11434",
        "model": model,
        "api": Api.OLLAMA_CHAT,
        "seed": 1,
        "duration": Quantity(120.0, "seconds"),
        "requests": 1000,
        "errors": 60,
        "errors_by_class": {"503": 45, "timeout": 15},
        "requests_per_second": Quantity(7.83, "requests/s"),
        "goodput": Quantity(6.4, "requests/s"),
        "attainment": Quantity(0.768, "ratio"),
        "input_tokens": 61_000,
        "output_tokens": 93_400,
        "output_tokens_per_second": Quantity(778.3, "tokens/s"),
        "ttft": ttft_row,
        "tpot": percentiles(latencies(900, 0.021 * scale, seed + 2)),
        "request_latency": request_row,
        "queue_delay": tiny,
        "ttft_scheduled": ttft_row,
        "request_latency_scheduled": request_row,
        "client_lag": tiny,
        "slo": (
            ObjectiveResult(MetricName.TTFT, "500ms", "612ms", False, 95, "580ms", "655ms", 1000),
            ObjectiveResult(MetricName.REQUEST_LATENCY, "10s", "4.41s", True, 99, "4.1s", "4.9s", 1000),
            ObjectiveResult(MetricName.ERROR_RATE, "1%", "6%", False, None, "4.6%", "7.7%", 1000),
        ),
        "categories": tuple(
            CategoryResult(name, 100, errors, 9340, ttft_row, request_row, tiny, 40, 36, 77)
            for name, errors in (("Coding", 4), ("Extraction", 0), ("Math", 9), ("Summarization", 21))
        ),
        "measurements": measurements(named),
        "started_at": "2026-03-01T12:00:00Z",
        "ended_at": "2026-03-01T12:02:04Z",
        "run": {"model": model, "load": {"rate": 8.0, "arrivals": "poisson", "durationSeconds": 120.0}},
        "environment": Environment(
            "0.9.0", "3.13.1", "Linux-6.8-x86_64", 4.0, "Ollama 0.12.3", "sha256:a80c4f17acd5", "NVIDIA L4"
        ),
        "window": Window(10.0, 120.0, 4.0),
        "offered": 1003,
        "sent": 1003,
        "offered_rate": Quantity(8.36, "requests/s"),
        "sent_rate": Quantity(8.35, "requests/s"),
        "connect": tiny,
        "ttfo": None,
        "server_load": tiny,
        "server_prefill": percentiles(latencies(940, 0.11 * scale, seed + 4)),
        "server_decode": percentiles(latencies(940, 1.4 * scale, seed + 5)),
        "tokens_per_chunk": 1.02,
        "cached_input_ratio": 0.31,
        "unknown": ("TTFO: the responses had no thinking, so it is the same as TTFT",),
        "error_details": (
            ErrorResult("503", 45, '{"error":"the queue is full"}', "reduce the load, or add replicas"),
            ErrorResult("timeout", 15, "no response within 30s", "increase --timeout, or reduce the load"),
        ),
        "timeline": tuple(_buckets(scale, seed)),
        "ttft_split": tuple(
            TtftPart(name, percentiles(latencies(400, middle * scale, seed + 9)))
            for name, middle in (("client", 0.001), ("network", 0.004), ("proxy", 0.002), ("queue", 0.12),
                                 ("load", 0.03), ("prefill", 0.15))
        ),
        "steps": tuple(
            StepResult(f"{rate:g}/s", rate, min(rate, 8.2), int(rate * 30), int(max(0, rate - 8) * 6), 30.0,
                       percentiles(latencies(50, 0.2 * scale * (1 + rate / 8), seed)),
                       percentiles(latencies(50, 1.5 * scale, seed)), rate <= 8)
            for rate in (1.0, 2.0, 4.0, 8.0, 12.0, 16.0)
        ),
        "sweep": SweepResult(8.1, 7.6, 8.5, "the highest rate that met every objective is 8.1 requests/s"),
        "saturation": Saturation(94.0, 9.2, "from 94 s on, requests in flight grew by 0.8 per second"),
        "regressions": (
            RegressionResult("TTFT p95", "410ms", "612ms", 0.49, True, "the difference is larger than chance"),
            RegressionResult("throughput", "7.9 requests/s", "7.83 requests/s", 0.009, False),
        ),
        "meter_audit": MeterAudit(940, 938, 93_400, 93_388, 0, "2 requests are missing in the records"),
        "throttled_seconds": 0.2,
    }  # fmt: skip
    return Summary(**(fields | changes))


def _buckets(scale: float, seed: int) -> list[TimelineBucket]:
    chooser = random.Random(seed)
    buckets = []
    for start in range(-10, 124, 2):
        is_load = start < 120
        sent = chooser.randint(12, 20) if is_load else 0
        failed = chooser.randint(1, 6) if 90 <= start < 112 else 0
        done = max(0, sent - chooser.randint(0, 3)) if is_load else 3
        row = percentiles(latencies(max(2, done), 0.3 * scale * (2 if start > 90 else 1), seed + start))
        buckets.append(
            TimelineBucket(float(start), sent, sent, done, failed, chooser.randint(8, 24) if is_load else 2, done * 93,
                           row if start != 40 else None, percentiles(latencies(max(2, done), 1.9 * scale, start))),
        )  # fmt: skip
    return buckets


def smallest(**changes: Any) -> Summary:
    """A run in which nothing was measured."""
    empty: dict[str, Any] = dict.fromkeys(
        ("ttft", "tpot", "request_latency", "queue_delay", "ttft_scheduled", "request_latency_scheduled", "client_lag")
    )
    nothing: dict[str, Any] = {
        "verdict": Verdict.NONE, "reason": VerdictReason.NO_OBJECTIVES, "message": "the run has no objectives",
        "target": "http://x:1", "model": "m", "api": Api.OLLAMA_CHAT, "seed": 1, "duration": Quantity(0.0, "seconds"),
        "requests": 0, "errors": 0, "errors_by_class": {}, "requests_per_second": Quantity(0.0, "requests/s"),
        "goodput": Quantity(0.0, "requests/s"), "attainment": Quantity(0.0, "ratio"), "input_tokens": 0,
        "output_tokens": 0, "output_tokens_per_second": Quantity(0.0, "tokens/s"), "slo": (), "categories": (),
    }  # fmt: skip
    return Summary(**(nothing | empty | changes))


def same(first: Summary, second: Summary) -> bool:
    return msgspec.json.encode(first) == msgspec.json.encode(second)
