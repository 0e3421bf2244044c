"""Results in the formats of other tools: the result file of `vllm bench serve`, and the benchmark report of llm-d.

Names and units are those of the tools: docs/decisions/0038 has their versions. What was not measured is absent or null,
and never 0. The lines are those of `requests.jsonl`; without them, standard deviations and values per request are
unknown.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from llmendpoint_common.contracts.loadrun import METRICS, Arrivals, Percentiles, RunDocument, Summary
from llmendpoint_common.process.version import VERSION
from llmendpoint_loadjob.report.rows import Rows

#: Version of llm-d's benchmark report. Every report of 0.2 is one of 0.2.1.
LLMD_VERSION = "0.2.1"
_UNFINISHED = "unfinished"
#: Tokens per chunk up to which a gap between chunks is a gap between tokens.
_ONE_TOKEN = 1.001


def vllm_result(summary: Summary, lines: Iterable[Mapping[str, Any]], document: RunDocument) -> dict[str, Any]:
    """Return the object that `vllm bench serve --save-result` writes.

    Latencies of failed requests are null, and the gaps of an open loop with constant arrivals have the burstiness
    `inf`. As with `--metadata`, there are additional texts: the version of this tool, and the verdict.
    """
    rows = Rows(lines)
    load = document.load
    concurrency = _concurrency(document)
    result: dict[str, Any] = {
        "date": _compact(summary.ended_at),
        "endpoint_type": summary.api.value,
        "backend": summary.api.value,
        "label": None,
        "model_id": summary.model,
        "tokenizer_id": None,
        "num_prompts": summary.requests,
        "llmendpoint_version": VERSION,
        "verdict": f"{summary.verdict} ({summary.reason})",
        "request_rate": _rate(summary, document) or "inf",
        "burstiness": load.burstiness or ("inf" if load.arrivals is Arrivals.CONSTANT else 1.0),
        "max_concurrency": concurrency,
        "duration": summary.duration.value,
        "completed": summary.requests - summary.errors,
        "failed": summary.errors,
        "total_input_tokens": summary.input_tokens,
        "total_output_tokens": summary.output_tokens,
        "request_throughput": summary.requests_per_second.value,
        "request_goodput": summary.goodput.value if _has_latency_objective(document) else None,
        "output_throughput": _output_rate(summary),
        "total_token_throughput": _total_rate(summary),
        "latencies": rows.latencies,
        "queue_times": rows.queue_delays,
        "max_output_tokens_per_s": max((one.output_tokens / width for one, width in _buckets(summary)), default=None),
        "max_concurrent_requests": max((one.in_flight for one in summary.timeline), default=None),
        # The real-time factor of audio.
        "rtfx": 0.0,
    }
    for name, percentiles, deviation in _latencies(summary, rows):
        result |= _vllm_metric(name, percentiles, deviation)
    return result


def llmd_report(summary: Summary, lines: Iterable[Mapping[str, Any]], document: RunDocument) -> dict[str, Any]:
    """Return the benchmark report of llm-d (schema 0.2.1). Objects have only the fields whose values are known."""
    rows = Rows(lines)
    performance = {"aggregate": _aggregate(summary, rows), "time_series": _time_series(summary)}
    report: dict[str, Any] = _known(
        {
            "version": LLMD_VERSION,
            "run": _run(summary),
            "scenario": {"stack": [_stack(summary)], "load": _load(summary, rows, document)},
            "results": {"request_performance": performance},
        }
    )
    return report


# ---- what both formats have


def _latencies(summary: Summary, rows: Rows) -> Iterator[tuple[str, Percentiles, float | None]]:
    """Yield the latencies that were measured: vLLM's name, the percentiles, and the standard deviation."""
    gaps = summary.inter_chunk_latency if (summary.tokens_per_chunk or math.inf) <= _ONE_TOKEN else None
    for name, percentiles, deviation in (
        ("ttft", summary.ttft, rows.deviation("ttft")),
        ("tpot", summary.tpot, rows.deviation("tpot")),
        ("itl", gaps, None),
        ("e2el", summary.request_latency, rows.deviation("request_latency")),
    ):
        if percentiles is not None:
            yield name, percentiles, deviation


def _concurrency(document: RunDocument) -> int | None:
    load = document.load
    users = load.sessions.users if load.sessions is not None else load.max_in_flight
    return load.concurrency if load.concurrency is not None else users


def _rate(summary: Summary, document: RunDocument) -> float | None:
    """Return the offered rate in requests per second, or None for a closed loop."""
    if document.load.rate is not None:
        return document.load.rate
    is_open = document.load.is_open or document.trace is not None
    return summary.offered_rate.value if is_open and summary.offered_rate is not None else None


def _output_rate(summary: Summary) -> float | None:
    """Return output tokens per second, or None if the server reported no tokens."""
    return None if summary.output_tokens_per_second is None else summary.output_tokens_per_second.value


def _total_rate(summary: Summary) -> float | None:
    """Return input and output tokens per second, or None if the server reported no tokens."""
    output, inputs = _output_rate(summary), _input_rate(summary)
    return None if output is None or inputs is None else output + inputs


def _input_rate(summary: Summary) -> float | None:
    output = _output_rate(summary)
    if summary.input_tokens is None or output is None:
        return None
    if summary.output_tokens:
        return output * summary.input_tokens / summary.output_tokens
    return summary.input_tokens / summary.duration.value if summary.duration.value else 0.0


def _buckets(summary: Summary) -> Iterator[tuple[Any, float]]:
    """Yield the buckets of the timeline, each with its width in seconds. The last one is as wide as the one before."""
    width = 0.0
    for bucket, after in itertools.pairwise(summary.timeline):
        width = after.start_seconds - bucket.start_seconds
        yield bucket, width
    if width:
        yield summary.timeline[-1], width


def _time(text: str) -> datetime | None:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _known(value: Any) -> Any:
    """Return a value without fields that are unknown, and without objects and lists that would be empty then."""
    if isinstance(value, dict):
        kept = {name: _known(item) for name, item in value.items()}
        return {name: item for name, item in kept.items() if item is not None and (item or item in (0, False))}
    return [_known(item) for item in value] if isinstance(value, list) else value


# ---- vLLM


def _compact(text: str) -> str:
    time = _time(text)
    return "" if time is None else time.strftime("%Y%m%d-%H%M%S")


def _has_latency_objective(document: RunDocument) -> bool:
    return any(METRICS[objective.metric].is_latency for objective in document.objectives)


def _vllm_metric(name: str, percentiles: Percentiles, deviation: float | None) -> dict[str, float]:
    milliseconds = {
        f"mean_{name}_ms": percentiles.mean,
        f"median_{name}_ms": percentiles.p50,
        f"std_{name}_ms": deviation,
        f"p50_{name}_ms": percentiles.p50,
        f"p90_{name}_ms": percentiles.p90,
        f"p95_{name}_ms": percentiles.p95,
        f"p99_{name}_ms": percentiles.p99,
    }
    return {field: value * 1e3 for field, value in milliseconds.items() if value is not None}


# ---- llm-d

_LLMD_LATENCIES = {
    "ttft": ("time_to_first_token", "s"),
    "tpot": ("time_per_output_token", "s/token"),
    "itl": ("inter_token_latency", "s/token"),
    "e2el": ("request_latency", "s"),
}


def _run(summary: Summary) -> dict[str, Any]:
    start, end = _time(summary.started_at), _time(summary.ended_at)
    whole = {"start": start and start.isoformat(), "end": end and end.isoformat(),
             "duration": f"PT{summary.duration.value:.6f}S"}  # fmt: skip
    identity = [summary.started_at, summary.target, summary.model, summary.seed, summary.requests, summary.ended_at]
    description = f"{summary.verdict} ({summary.reason}): {summary.message}"
    return {"uid": _hash(identity)[:32], "time": whole, "description": description}


def _stack(summary: Summary) -> dict[str, Any]:
    """Return the endpoint as a component of no standardized kind: its parallelism and its replicas are not known."""
    environment = summary.environment
    tool, _, version = environment.server.rpartition(" ")
    server = {
        "kind": "generic",
        "tool": tool or environment.server or summary.api.value,
        "tool_version": version if tool else "unknown",
        "url": summary.target,
        "model": {"name": summary.model, "digest": environment.model_digest or None},
        "accelerator": {"model": environment.gpu} if environment.gpu else None,
    }
    metadata = {"schema_version": "0.0.1", "label": "endpoint", "cfg_id": _hash(server)}
    # An empty object would be left out, and this one is required.
    return {"metadata": metadata, "standardized": server, "native": {"config": {"url": summary.target}}}


def _load(summary: Summary, rows: Rows, document: RunDocument) -> dict[str, Any]:
    config = msgspec.to_builtins(document)
    synthetic, sessions = document.synthetic, document.load.sessions
    answered = summary.requests - summary.errors
    mean = (summary.input_tokens or 0) / answered if answered else 0
    turns = sessions.turns if sessions is not None else None
    standardized = {
        "tool": "llmendpoint",
        "tool_version": VERSION,
        "parallelism": summary.environment.pods or 1,
        "source": "sampled" if synthetic is None and document.trace is None else "random",
        "stage": 0,
        "input_seq_len": _fixed(synthetic.input_tokens) if synthetic else {"distribution": "other", "value": mean,
                                                                           **rows.bounds("input_tokens")},
        "output_seq_len": _fixed(synthetic.output_tokens) if synthetic else None,
        "multi_turn": {"enabled": True, "max_turns": _fixed(turns) if turns else None} if sessions else None,
        "rate_qps": _rate(summary, document) or None,
        "concurrency": _concurrency(document),
    }  # fmt: skip
    metadata = {"schema_version": "0.0.1", "cfg_id": _hash(config)}
    return {"metadata": metadata, "standardized": standardized, "native": {"config": config}}


def _fixed(value: int) -> dict[str, Any]:
    return {"distribution": "fixed", "value": value}


def _aggregate(summary: Summary, rows: Rows) -> dict[str, Any]:
    unfinished = summary.errors_by_class.get(_UNFINISHED, 0)
    requests = {
        "total": summary.requests,
        "failures": summary.errors - unfinished,
        "incomplete": unfinished,
        "input_length": _lengths(rows.lengths("input_tokens"), summary.input_tokens, summary),
        "output_length": _lengths(rows.lengths("output_tokens"), summary.output_tokens, summary),
    }
    latency = {}
    for name, percentiles, deviation in _latencies(summary, rows):
        field, unit = _LLMD_LATENCIES[name]
        latency[field] = {"units": unit, "stddev": deviation, **_statistics(percentiles)}
    throughput = {
        "input_token_rate": _token_rate(_input_rate(summary)),
        "output_token_rate": _token_rate(_output_rate(summary)),
        "total_token_rate": _token_rate(_total_rate(summary)),
        "request_rate": {"units": "queries/s", "mean": summary.requests_per_second.value},
    }
    return {"requests": requests, "latency": latency, "throughput": throughput}


def _token_rate(rate: float | None) -> dict[str, Any] | None:
    return None if rate is None else {"units": "tokens/s", "mean": rate}


def _statistics(percentiles: Percentiles) -> dict[str, float]:
    names = ("mean", "p50", "p90", "p95", "p99", "max")
    return {name: getattr(percentiles, name) for name in names}


def _lengths(lengths: Counter[int], total: int | None, summary: Summary) -> dict[str, Any] | None:
    """Return statistics of a number of tokens, or only the mean if the lines are not known."""
    answered = summary.requests - summary.errors
    if not answered or total is None:
        return None
    found: dict[str, Any] = {"units": "count", "mean": total / answered}
    ordered = sorted(lengths.items())
    count = lengths.total()
    if count:
        found |= {"min": ordered[0][0], "max": ordered[-1][0]}
        found |= {f"p{percent}": _percentile(ordered, count * percent / 100) for percent in (50, 90, 95, 99)}
    return found


def _percentile(ordered: list[tuple[int, int]], rank: float) -> int:
    seen = 0
    for value, number in ordered:
        seen += number
        if seen >= rank:
            return value
    return ordered[-1][0]


def _time_series(summary: Summary) -> dict[str, Any] | None:
    start = _time(summary.started_at)
    if start is None:
        return None
    measured = start + timedelta(seconds=summary.window.warmup_seconds if summary.window else 0.0)
    requests, tokens, ttft, whole = [], [], [], []
    for bucket, width in _buckets(summary):
        at = {"ts": (measured + timedelta(seconds=bucket.start_seconds)).isoformat()}
        requests.append({**at, "value": bucket.completed / width})
        tokens.append({**at, "value": bucket.output_tokens / width})
        ttft += [{**at, **_statistics(bucket.ttft)}] if bucket.ttft else []
        whole += [{**at, **_statistics(bucket.request_latency)}] if bucket.request_latency else []
    rates = {"request_rate": _series("queries/s", requests), "output_token_rate": _series("tokens/s", tokens)}
    latency = {"time_to_first_token": _series("s", ttft), "request_latency": _series("s", whole)}
    return {"throughput": rates, "latency": latency}


def _series(units: str, points: list[dict[str, Any]]) -> dict[str, Any] | None:
    return {"units": units, "series": points} if points else None
