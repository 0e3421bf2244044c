"""Compares two LoadTests by what their statuses hold, with the names and marks of a comparison of runs."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from typing import Any

from llmendpoint_common.process.units import format_duration, parse_duration, parse_share
from llmendpoint_common.results.comparison import Figure, figure
from llmendpoint_common.results.figures import number, percent
from llmendpoint_dashboard.cluster.reading import section, text
from llmendpoint_dashboard.contract import Comparison, LoadTestRow
from llmendpoint_dashboard.loadtests.comparison import compared_metric, no_result

_LATENCIES = (("TTFT", "ttft"), ("TPOT", "tpot"), ("request", "requestLatency"))
_PERCENTILES = ("p50", "p95", "p99")


def compare_loadtests(rows: tuple[LoadTestRow, LoadTestRow], summaries: tuple[Any, Any]) -> Comparison:
    """Return the comparison of two LoadTests. `summaries` are their `status.summary`, None without a result."""
    command = shlex.join(["llmendpoint", "results", "compare", *(row.key for row in rows)])
    message = no_result(rows, summaries)
    if message:
        return Comparison(a=rows[0], b=rows[1], message=message)
    metrics = [compared_metric(item) for item in _figures(*summaries)]
    return Comparison(a=rows[0], b=rows[1], metrics=metrics, differences=[*_differences(*rows)], command=command)


def _figures(first: dict[str, Any], second: dict[str, Any]) -> Iterator[Figure]:
    for name, unit, get, shown, is_higher_better in _QUANTITIES:
        values = get(first), get(second)
        yield figure(name, values[0], values[1], shown, is_higher_better=is_higher_better)._replace(unit=unit)
    for title, field in _LATENCIES:
        for percentile in _PERCENTILES:
            one, two = (_read(text(section(side, field), percentile), parse_duration) for side in (first, second))
            name = f"{title} {percentile}"
            yield figure(name, one, two, format_duration, is_higher_better=False)._replace(unit="s")


def _differences(first: LoadTestRow, second: LoadTestRow) -> Iterator[str]:
    for name in ("target", "model", "load"):
        one, two = getattr(first, name), getattr(second, name)
        if one != two:
            yield f"{name.capitalize()} {one or 'unknown'} → {two or 'unknown'}"


def _number(field: str) -> Callable[[dict[str, Any]], float | None]:
    return lambda summary: _read(str(summary.get(field, "")), float)


def _error_rate(summary: dict[str, Any]) -> float | None:
    requests, errors = (_number(field)(summary) for field in ("requests", "errors"))
    return errors / requests if requests and errors is not None else None


def _attainment(summary: dict[str, Any]) -> float | None:
    return _read(text(summary, "attainment"), parse_share)


def _read(value: str, parse: Callable[[str], float]) -> float | None:
    try:
        return parse(value)
    except ValueError:
        return None


_QUANTITIES: tuple[
    tuple[str, str, Callable[[dict[str, Any]], float | None], Callable[[float], str], bool | None], ...
] = (
    ("offered", "requests/s", _number("offeredRate"), number, None),
    ("requests", "", _number("requests"), number, None),
    ("completed", "requests/s", _number("requestsPerSecond"), number, True),
    ("error rate", "share", _error_rate, percent, False),
    ("attainment", "share", _attainment, percent, True),
    ("output", "tokens/s", _number("outputTokensPerSecond"), number, True),
)
