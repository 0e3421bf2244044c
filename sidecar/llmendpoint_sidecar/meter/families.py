"""Table of all metric families of the sidecar, by their names without the prefix `llmendpoint_`.

Metrics that vLLM also has use its names and buckets (vllm/v1/metrics). Dashboards, alerts and the operator depend on
the names, so they never change. Readers see each HELP text without the others.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

from llmendpoint_common.contracts.sidecar import Operation, UnmeteredReason
from llmendpoint_common.wire.routes import METERED, TRANSFERS

_TTFT = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0)  # fmt: skip  # noqa: E501
_LATENCY = (0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0)  # fmt: skip  # noqa: E501
_TPOT = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0)
_TOKENS = tuple(float(4**power) for power in range(11))
#: vLLM's buckets of inter-token latency, and smaller ones for small models.
INTER_CHUNK_BOUNDS = (0.001, 0.0025, 0.005, 0.0075, *_TPOT)
_OVERHEAD = (5e-05, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
_LOAD = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)


class CounterFamily(NamedTuple):
    """A counter. Its exposed name has the suffix `_total`.

    `known` are label values that are exposed from the beginning, with 0, because `rate()` does not see the first
    increase of a series that begins with it. They are few and do not depend on clients, models and tenants.
    """

    help: str
    labels: tuple[str, ...] = ()
    known: tuple[tuple[str, ...], ...] = ()


class HistogramFamily(NamedTuple):
    """A histogram with the labels model_name and operation. `bounds` are the upper bounds of its buckets."""

    help: str
    bounds: tuple[float, ...]


class GaugeFamily(NamedTuple):
    """A gauge. Its values are read when Prometheus scrapes."""

    help: str
    labels: tuple[str, ...] = ()


_MODEL = ("model_name",)
_BY_TENANT = ("model_name", "operation", "tenant")

COUNTERS = {
    "requests": CounterFamily(
        "Number of requests, by model, operation, status code, outcome and tenant.",
        ("model_name", "operation", "code", "outcome", "tenant"),
    ),
    "prompt_tokens": CounterFamily("Number of prompt tokens, as reported by Ollama.", _BY_TENANT),
    "generation_tokens": CounterFamily(
        "Number of generated tokens, as reported by Ollama. In a response that was cut off, each chunk with content "
        "counts as one token.",
        _BY_TENANT,
    ),
    "prompt_cached_tokens": CounterFamily(
        "Number of prompt tokens that Ollama took from its cache, if it reports them.", _BY_TENANT
    ),
    "unmetered_requests": CounterFamily(
        "Number of successful requests whose token counts are unknown, by operation and reason.",
        ("operation", "reason"),
        (
            *itertools.product(sorted(METERED), (UnmeteredReason.NO_USAGE, UnmeteredReason.UNREADABLE)),
            (Operation.OTHER, UnmeteredReason.UNKNOWN_ROUTE),
        ),
    ),
    "transfer_bytes": CounterFamily(
        "Number of bytes of model files that clients transferred: pulled layers, pushed layers and uploaded blobs.",
        ("operation",),
        tuple((operation,) for operation in sorted({*TRANSFERS, Operation.BLOB})),
    ),
    "series_overflow": CounterFamily(
        "Number of requests whose label model_name is other because there are too many models."
    ),
    "worker_restarts": CounterFamily(
        "Number of worker processes that were replaced, because they ended or no longer answered (--workers).",
        ("reason",),
        (("ended",), ("no_answer",)),
    ),
    "upstream_stalls": CounterFamily(
        "Number of times that Ollama was hung: requests waited, and neither they nor a test got an answer."
    ),
    "upstream_restarts": CounterFamily(
        "Number of times that the sidecar requested a restart of Ollama, because it was hung or did not answer."
    ),
    "upstream_tests": CounterFamily(
        "Number of requests for one token that the sidecar sent to Ollama to find out whether it is hung, by result.",
        ("result",),
        (("answered",), ("no_answer",), ("failed",)),
    ),
    "meter_failures": CounterFamily(
        "Number of failures of the meter itself. The affected requests are counted, but with what could be read."
    ),
}

HISTOGRAMS = {
    "time_to_first_token_seconds": HistogramFamily(
        "Time from the arrival of a request to its first content, thinking or tool call, in seconds. Only for streams.",
        _TTFT,
    ),
    "e2e_request_latency_seconds": HistogramFamily(
        "Time from the arrival of a request to the end of its response, in seconds.", _LATENCY
    ),
    "request_queue_time_seconds": HistogramFamily(
        "Time that a request waited in Ollama's queue, in seconds: its total duration minus load, prefill and decode.",
        _LATENCY,
    ),
    "request_prefill_time_seconds": HistogramFamily(
        "Time that Ollama spent on processing the prompt of a request (prompt_eval_duration), in seconds.", _LATENCY
    ),
    "request_decode_time_seconds": HistogramFamily(
        "Time that Ollama spent on generating tokens for a request (eval_duration), in seconds.", _LATENCY
    ),
    "model_load_seconds": HistogramFamily(
        "Time that a request waited for its model to be scheduled and loaded (load_duration), in seconds.", _LOAD
    ),
    "request_time_per_output_token_seconds": HistogramFamily(
        "Average time between output tokens of a request, in seconds: (last content - first content) / "
        "(output tokens - 1). Only for streams.",
        _TPOT,
    ),
    "inter_chunk_latency_seconds": HistogramFamily(
        "Time between two consecutive chunks with content of a stream, in seconds. A chunk is not always one token.",
        INTER_CHUNK_BOUNDS,
    ),
    "overhead_seconds": HistogramFamily(
        "Time that the proxy added to a request, in seconds: from its last received byte to its last forwarded byte.",
        _OVERHEAD,
    ),
    "request_prompt_tokens": HistogramFamily("Number of prompt tokens of a request.", _TOKENS),
    "request_generation_tokens": HistogramFamily("Number of generated tokens of a request.", _TOKENS),
}

GAUGES = {
    "num_requests_running": GaugeFamily("Number of requests that Ollama is running."),
    "num_requests_waiting": GaugeFamily("Number of requests that are waiting for a slot of Ollama."),
    "model_requests_running": GaugeFamily("Number of requests that Ollama is running, by model.", _MODEL),
    "model_requests_waiting": GaugeFamily(
        "Number of requests that are waiting for a slot of Ollama, by model.", _MODEL
    ),
    "model_remote": GaugeFamily("1 if the model runs on a remote host and not on this GPU, else 0.", _MODEL),
    "model_loaded": GaugeFamily("1 if the model is in memory, else 0.", _MODEL),
    "model_size_bytes": GaugeFamily("Memory of the loaded model in bytes, on CPU and GPU together.", _MODEL),
    "model_vram_bytes": GaugeFamily("GPU memory of the loaded model in bytes.", _MODEL),
    "model_context_length": GaugeFamily("Context length of the loaded model in tokens.", _MODEL),
    "model_expires_timestamp_seconds": GaugeFamily("Unix time at which the model will be unloaded.", _MODEL),
    "model_pull_progress_ratio": GaugeFamily("Share of a declared model that has been pulled, from 0 to 1.", _MODEL),
    "upstream_up": GaugeFamily("1 if Ollama answers, else 0."),
    "upstream_stalled": GaugeFamily(
        "1 if Ollama is hung, else 0: it answers requests about itself, but does not run a model."
    ),
    "build_info": GaugeFamily(
        "Versions of the sidecar, of Ollama and of Python, as labels. The value is always 1.",
        ("version", "ollama_version", "python_version"),
    ),
}
