"""Series about LoadTests: their conditions, their times, and the summary of their results."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from llmendpoint_common.process.units import parse_duration
from llmendpoint_operator.admin.lines import Family, Lines, condition_help, conditions, line, status_of, who
from llmendpoint_operator.kube.owner import Manifest

_LABEL = "loadtest"
_LATENCIES = {"ttft": "TTFT", "tpot": "TPOT", "requestLatency": "RequestLatency"}
_QUANTILES = {"p50": "0.5", "p95": "0.95", "p99": "0.99"}
_PERCENT = 100


def loadtest_families() -> tuple[Family, ...]:
    """Return the families."""
    return (
        Family("llmendpoint_loadtest_info", "LoadTests; the value is 1.", _info),
        Family("llmendpoint_loadtest_condition", condition_help("LoadTests"), conditions(_LABEL)),
        Family(
            "llmendpoint_loadtest_start_timestamp_seconds",
            "Unix time at which the run started. Absent until then.",
            _time("startTime"),
        ),
        Family(
            "llmendpoint_loadtest_completion_timestamp_seconds",
            "Unix time at which the run ended. Absent until then.",
            _time("completionTime"),
        ),
        Family("llmendpoint_loadtest_progress_ratio", "Progress of the run, from 0 to 1.", _progress),
        Family(
            "llmendpoint_loadtest_requests",
            "Number of measured requests of a run that has ended.",
            _summary("requests"),
        ),
        Family(
            "llmendpoint_loadtest_errors",
            "Number of measured requests that failed, of a run that has ended.",
            _summary("errors"),
        ),
        Family(
            "llmendpoint_loadtest_requests_per_second",
            "Number of successful requests per second of a run that has ended.",
            _summary("requestsPerSecond"),
        ),
        Family(
            "llmendpoint_loadtest_output_tokens",
            "Number of generated tokens of a run that has ended.",
            _summary("outputTokens"),
        ),
        Family(
            "llmendpoint_loadtest_latency_seconds",
            "Percentiles of a latency in a run that has ended. The label metric is TTFT, TPOT or RequestLatency.",
            _latencies,
        ),
    )


def _info(name: str, body: Manifest) -> Iterator[str]:
    endpoint = (body["spec"].get("endpointRef") or {}).get("name", "")
    yield line(name, who(body, _LABEL), {"llmendpoint": endpoint, "verdict": status_of(body).get("verdict", "")})


def _time(field: str) -> Lines:
    def lines(name: str, body: Manifest) -> Iterator[str]:
        text = status_of(body).get(field)
        if text:
            seconds = datetime.fromisoformat(text).timestamp()
            yield line(name, who(body, _LABEL), {}, round(seconds))

    return lines


def _progress(name: str, body: Manifest) -> Iterator[str]:
    yield line(name, who(body, _LABEL), {}, status_of(body).get("progressPercent", 0) / _PERCENT)


def _summary(field: str) -> Lines:
    def lines(name: str, body: Manifest) -> Iterator[str]:
        value = (status_of(body).get("summary") or {}).get(field)
        if value is not None:
            yield line(name, who(body, _LABEL), {}, float(value))

    return lines


def _latencies(name: str, body: Manifest) -> Iterator[str]:
    summary = status_of(body).get("summary") or {}
    for field, metric in _LATENCIES.items():
        for percentile, text in (summary.get(field) or {}).items():
            labels = {"metric": metric, "quantile": _QUANTILES[percentile]}
            yield line(name, who(body, _LABEL), labels, parse_duration(text))
