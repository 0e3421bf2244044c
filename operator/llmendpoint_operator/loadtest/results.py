"""Reads the summary that a load pod published, and converts it to fields of the status."""

from __future__ import annotations

from typing import Any

import msgspec

from llmendpoint_common.contracts.loadrun import RESULT_KEY, Percentiles, Quantity, Summary, parse_result
from llmendpoint_common.process.units import format_duration
from llmendpoint_operator.kube.owner import Manifest


def read_result(config_map: Manifest | None) -> Summary | None:
    """Return the summary in a result ConfigMap, or None if it has none yet. Raises RunResultError if it is invalid."""
    text = ((config_map or {}).get("data") or {}).get(RESULT_KEY)
    return parse_result(text) if text else None


def summary_state(summary: Summary) -> dict[str, Any]:
    """Return `status.summary`."""
    state: dict[str, Any] = {
        "partial": summary.partial or None,
        "requests": summary.requests,
        "errors": summary.errors,
        "requestsPerSecond": f"{summary.requests_per_second.value:.3g}",
        "inputTokens": summary.input_tokens,
        "outputTokens": summary.output_tokens,
        "outputTokensPerSecond": _rate(summary.output_tokens_per_second),
        "ttft": _latency(summary.ttft),
        "tpot": _latency(summary.tpot),
        "requestLatency": _latency(summary.request_latency),
        "categories": [
            {
                "category": item.category,
                "requests": item.requests,
                "errors": item.errors,
                **({"ttftP95": format_duration(item.ttft.p95)} if item.ttft else {}),
            }
            for item in summary.categories
        ],
    }
    return {name: value for name, value in state.items() if value is not None}


def slo_state(summary: Summary) -> list[dict[str, Any]]:
    """Return `status.slo`."""
    return [msgspec.to_builtins(result) for result in summary.slo]


def _rate(rate: Quantity | None) -> str | None:
    """Return a rate as text, or None if it is unknown."""
    return f"{rate.value:.3g}" if rate is not None else None


def _latency(latency: Percentiles | None) -> dict[str, str] | None:
    if latency is None:
        return None
    values = {"p50": latency.p50, "p95": latency.p95, "p99": latency.p99}
    return {name: format_duration(value) for name, value in values.items()}
