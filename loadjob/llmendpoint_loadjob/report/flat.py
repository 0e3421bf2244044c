"""Comma-separated values: a row per run, or a row per request.

Each row has all columns, so that the rows of several runs can be put into one table. Durations are in seconds. A cell
without a value was not measured.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from llmendpoint_common.contracts.loadrun import Summary
from llmendpoint_common.results.figures import LATENCIES, latency_of

_PERCENTILES = ("count", "mean", "p50", "p90", "p95", "p99", "max")
_RATES = ("requests_per_second", "goodput", "attainment", "output_tokens_per_second", "offered_rate", "sent_rate")
_COUNTS = ("requests", "errors", "offered", "sent", "input_tokens", "output_tokens")
_REQUEST_COLUMNS = (
    "request_id",
    "question",
    "category",
    "turn",
    "step",
    "sent_at",
    "scheduled",
    "sent",
    "first",
    "first_output",
    "last",
    "ended",
    "status",
    "error",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "chunks",
    "connect",
    "ttft",
    "tpot",
    "request_latency",
    "queue_delay",
    "server_load",
    "server_prefill",
    "server_decode",
    "server_total",
    "matched",
)


def summary_row(summary: Summary) -> dict[str, Any]:
    """Return the row of a run."""
    row: dict[str, Any] = {
        "started_at": summary.started_at,
        "verdict": summary.verdict.value,
        "reason": summary.reason.value,
        "partial": summary.partial,
        "target": summary.target,
        "model": summary.model,
        "api": summary.api.value,
        "seed": summary.seed,
        "duration_seconds": summary.duration.value,
    }
    row |= {name: getattr(summary, name) for name in _COUNTS}
    for name in _RATES:
        quantity = getattr(summary, name)
        row[name] = None if quantity is None else quantity.value
    for latency in LATENCIES:
        values = latency_of(summary, latency.field)
        for name in _PERCENTILES:
            unit = "" if name == "count" else "_seconds"
            row[f"{latency.field}_{name}{unit}"] = None if values is None else getattr(values, name)
    row["version"] = summary.environment.version
    row["errors_by_class"] = json.dumps(summary.errors_by_class) if summary.errors_by_class else None
    return row


def summary_csv(summaries: Sequence[Summary]) -> str:
    """Return a table with a row per run."""
    rows = [summary_row(summary) for summary in summaries]
    return "".join(csv_lines(list(rows[0]), rows))


def requests_csv(lines: Iterable[bytes]) -> Iterator[str]:
    """Yield a table with a row per line of `requests.jsonl`. A line that was cut off by a crash is skipped."""
    return csv_lines(_REQUEST_COLUMNS, rows_of(lines))


def rows_of(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """Yield the lines of `requests.jsonl` as objects. One that is cut off is skipped."""
    for line in lines:
        try:
            row = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeError):
            continue
        if isinstance(row, dict):
            yield row


def csv_lines(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the lines of a table (RFC 4180, with line feeds)."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
        writer.writerow([_cell(row.get(name)) for name in columns])
    yield buffer.getvalue()


def _cell(value: object) -> object:
    """Return the content of a cell. Spreadsheets run texts that begin like a formula, so those get an apostrophe."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return value
