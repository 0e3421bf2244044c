"""The table and the targets of the benchmark."""

from __future__ import annotations

import statistics
from typing import Any, TypeAlias

from tools import OURS

#: The measurements of each round, by number of streams and tool.
Results: TypeAlias = dict[str, dict[str, list[dict[str, Any]]]]

#: Columns: title, name of the value, format.
_COLUMNS = (
    ("p50 error", "p50_error_ms", "{:+.1f} ms"),
    ("p99 error", "p99_error_ms", "{:+.1f} ms"),
    ("server p99", "server_p99_ms", "{:.1f} ms"),
    ("delivered", "delivered", "{:.1%}"),
    ("gap CV", "gap_cv", "{:.2f}"),
    ("CPU/request", "cpu_ms_per_request", "{:.2f} ms"),
    ("peak", "peak_mb", "{:.0f} MB"),
)
#: Upper bounds of our own p99 error in ms, by number of streams.
_ERRORS = {"50": 1.0, "1000": 10.0}


def median(rows: list[dict[str, Any]], field: str) -> float | None:
    """Return the median of a value over the rounds that have it, or None if none has it."""
    values = [row[field] for row in rows if row.get(field) is not None]
    return statistics.median(values) if values else None


def show(results: Results) -> None:
    """Print a table for each number of streams."""
    for streams, tools in results.items():
        rounds = max(len(rows) for rows in tools.values())
        print(f"\n{streams} streams, medians of {rounds} rounds")
        print(f"{'':16}" + "".join(f"{title:>14}" for title, _, _ in _COLUMNS))
        for name, rows in tools.items():
            cells = [_cell(median(rows, field), text) for _, field, text in _COLUMNS]
            print(f"{name:16}" + "".join(f"{cell:>14}" for cell in cells) + _remarks(rows))


def summary_of(row: dict[str, Any]) -> str:
    """Return the values of one run in a line."""
    values = ", ".join(f"{title} {_cell(row.get(field), text)}" for title, field, text in _COLUMNS)
    return values + _remarks([row])


def _cell(value: float | None, text: str) -> str:
    return "-" if value is None else text.format(value)


def _remarks(rows: list[dict[str, Any]]) -> str:
    failed = [row["failed"] for row in rows if row["failed"]]
    lost = sum(row["received"] - row["completed"] for row in rows)
    parts = [f"{len(failed)} runs failed: {failed[0]}"] if failed else []
    parts += [f"{lost} requests not completed"] if lost else []
    return "  " + "; ".join(parts) if parts else ""


def verdicts(results: Results) -> list[dict[str, Any]]:
    """Return each target that was measured: its bound, the median, and whether it is met."""
    found: list[dict[str, Any]] = []
    for streams, tools in results.items():
        ours = tools.get(OURS, [])
        error = median(ours, "p99_error_ms")
        if streams in _ERRORS and error is not None:
            found.append(_verdict(f"{streams} streams: p99 error, ms", _ERRORS[streams], abs(error)))
        delivered = median(ours, "delivered")
        if delivered is not None:
            found.append(_verdict(f"{streams} streams: rate that is missing or too much", 0.05, abs(1 - delivered)))
        for name, rows in tools.items():
            if name != OURS:
                found += _against(streams, name, ours, rows)
    return found


def _against(streams: str, peer: str, ours: list[dict[str, Any]], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = []
    for title, field in (("p99 error", "p99_error_ms"), ("CPU per request", "cpu_ms_per_request")):
        mine, other = median(ours, field), median(rows, field)
        if mine is not None and other:
            found.append(_verdict(f"{streams} streams: {title}, {OURS} / {peer}", 1.0, abs(mine) / abs(other)))
    return found


def _verdict(target: str, bound: float, measured: float) -> dict[str, Any]:
    return {"target": target, "bound": bound, "measured": round(measured, 3), "met": measured <= bound}
