"""Compares two runs for the page, with the figures of `llmendpoint results compare`."""

from __future__ import annotations

import math

from llmendpoint_common.contracts.loadrun import Summary
from llmendpoint_common.results.comparison import Figure, compare
from llmendpoint_dashboard.contract import Better, ComparedMetric, Comparison, LoadTestRow
from llmendpoint_dashboard.sources.traffic import rounded

#: Settings that are listed as different.
_MAX_DIFFERENCES = 40


def compare_runs(rows: tuple[LoadTestRow, LoadTestRow], summaries: tuple[Summary | None, Summary | None]) -> Comparison:
    """Return the comparison of two runs."""
    first, second = summaries
    missing = [row.name for row, summary in zip(rows, summaries, strict=True) if summary is None]
    if first is None or second is None:
        reason = "has no result yet" if len(missing) == 1 else "have no result yet"
        return Comparison(a=rows[0], b=rows[1], message=f"{' and '.join(missing)} {reason}.")
    comparison = compare(first, second, (rows[0].name, rows[1].name))
    differences = [f"{name}: {one} in a, {two} in b" for name, one, two in comparison.settings[:_MAX_DIFFERENCES]]
    return Comparison(
        a=rows[0], b=rows[1], metrics=[_metric(item) for item in comparison.figures], differences=differences
    )


def _metric(figure: Figure) -> ComparedMetric:
    return ComparedMetric(
        name=figure.name.partition(", ")[0],
        unit=figure.unit,
        a=_value(figure.first),
        b=_value(figure.second),
        change=_value(figure.change),
        better=None if figure.better is None else (Better.A, Better.B)[figure.better],
    )


def _value(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else rounded(value)
