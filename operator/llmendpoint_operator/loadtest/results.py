"""Reads the summary that a load pod published, and converts it to fields of the status.

The status has to fit into etcd together with the spec, so lists and texts are cut.
"""

from __future__ import annotations

from typing import Any

import msgspec

from llmendpoint_common.contracts.loadrun import (
    RESULT_KEY,
    MeterAudit,
    Percentiles,
    Quantity,
    RegressionResult,
    Summary,
    parse_result,
)
from llmendpoint_common.process.units import format_duration
from llmendpoint_common.results.figures import sweep_bound
from llmendpoint_operator.kube.owner import Manifest

_MAX_ERROR_CLASSES = 16
_MAX_REGRESSIONS = 32
_MAX_EXAMPLE = 200


def read_result(config_map: Manifest | None) -> Summary | None:
    """Return the summary in a result ConfigMap, or None if it has none yet. Raises RunResultError if it is invalid."""
    text = ((config_map or {}).get("data") or {}).get(RESULT_KEY)
    return parse_result(text) if text else None


def result_fields(summary: Summary) -> dict[str, Any]:
    """Return the fields of the status with the result of a run."""
    audit = {"meterAudit": _audit(summary.meter_audit)} if summary.meter_audit else {}
    return {"summary": summary_state(summary), "slo": slo_state(summary), **audit}


def summary_state(summary: Summary) -> dict[str, Any]:
    """Return `status.summary`."""
    state: dict[str, Any] = {
        "partial": summary.partial or None,
        "requests": summary.requests,
        "errors": summary.errors,
        "requestsPerSecond": _number(summary.requests_per_second.value),
        "inputTokens": summary.input_tokens,
        "outputTokens": summary.output_tokens,
        "outputTokensPerSecond": _rate(summary.output_tokens_per_second),
        "offeredRate": _rate(summary.offered_rate),
        "attainment": f"{100 * summary.attainment.value:.4g}%" if summary.slo else None,
        "ttft": _latency(summary.ttft),
        "tpot": _latency(summary.tpot),
        "requestLatency": _latency(summary.request_latency),
        "errorClasses": _error_classes(summary) or None,
        "ttftSplit": [
            {
                "name": part.name,
                "p50": format_duration(part.latency.p50),
                "p95": format_duration(part.latency.p95),
            }
            for part in summary.ttft_split
        ]
        or None,
        "sweep": _sweep(summary),
        "saturation": _saturation(summary),
        "regressions": [_regression(item) for item in summary.regressions[:_MAX_REGRESSIONS]] or None,
        "categories": _categories(summary),
    }
    return {name: value for name, value in state.items() if value is not None}


def slo_state(summary: Summary) -> list[dict[str, Any]]:
    """Return `status.slo`. An objective that was not judged is neither met nor missed."""
    found: list[dict[str, Any]] = [
        msgspec.to_builtins(result) | {"met": result.met if result.judged else None} for result in summary.slo
    ]
    # The condition Passed says why an objective was not judged.
    hidden = ("judged", "needed")
    return [{name: value for name, value in item.items() if value is not None and name not in hidden} for item in found]


def _categories(summary: Summary) -> list[dict[str, Any]]:
    return [
        {
            "category": item.category,
            "requests": item.requests,
            "errors": item.errors,
            **({"ttftP95": format_duration(item.ttft.p95)} if item.ttft else {}),
        }
        for item in summary.categories
    ]


def _error_classes(summary: Summary) -> list[dict[str, Any]]:
    """Return the most frequent classes of errors. The summary names each class once."""
    found = {item.error_class: item for item in summary.error_details}
    classes = sorted(found.values(), key=lambda item: (-item.count, item.error_class))[:_MAX_ERROR_CLASSES]
    return [
        {
            "name": item.error_class,
            "count": item.count,
            **({"example": item.example[:_MAX_EXAMPLE]} if item.example else {}),
        }
        for item in classes
    ]


def _sweep(summary: Summary) -> dict[str, str] | None:
    found = summary.sweep
    if found is None:
        return None
    bounds = {"rate": found.rate, "low": found.low, "high": sweep_bound(found, summary.steps)}
    return {name: _number(value) for name, value in bounds.items() if value is not None}


def _saturation(summary: Summary) -> dict[str, str] | None:
    found = summary.saturation
    if found is None:
        return None
    return {"after": format_duration(round(found.at_seconds, 1)), "offeredRate": _number(found.offered_rate)}


def _regression(item: RegressionResult) -> dict[str, Any]:
    return {
        "metric": item.metric,
        "baseline": item.baseline,
        "measured": item.measured,
        "change": f"{100 * item.change:+.3g}%",
        "regressed": item.regressed,
        "judged": item.judged,
    }


def _audit(audit: MeterAudit) -> dict[str, int]:
    return {
        "requests": audit.requests,
        "found": audit.found,
        "clientTokens": audit.client_tokens,
        "meteredTokens": audit.metered_tokens,
        "differing": audit.differing,
    }


def _latency(latency: Percentiles | None) -> dict[str, str] | None:
    if latency is None:
        return None
    values = {"p50": latency.p50, "p95": latency.p95, "p99": latency.p99}
    return {name: format_duration(value) for name, value in values.items()}


def _rate(quantity: Quantity | None) -> str | None:
    return None if quantity is None else _number(quantity.value)


def _number(value: float) -> str:
    return f"{value:.3g}"
