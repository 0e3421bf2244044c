"""The table and the targets of the benchmark. Each value is the median over rounds, with the smallest and largest."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import Any, TypeAlias

#: The measurements of one round: by phase, by name.
Round: TypeAlias = dict[str, dict[str, Any]]

#: Rows of the table: title, phase and name of the value, its unit.
_ROWS = (
    ("empty: resident", "start", "rss_mb", "MB"),
    ("create: accepted", "create", "created_seconds", "s"),
    ("create: all applied", "create", "applied_seconds", "s"),
    ("create: settled", "create", "settled_seconds", "s"),
    ("create: CPU of the operator", "create", "cpu_seconds", "s"),
    ("create: CPU of the API server and etcd", "create", "api_server_cpu_seconds", "s"),
    ("create: CPU of the benchmark", "create", "bench_cpu_seconds", "s"),
    ("create: writes per endpoint", "create", "writes_per_endpoint", ""),
    ("create: resident", "create", "rss_mb", "MB"),
    ("create: peak", "create", "peak_mb", "MB"),
    ("edit: applied p50", "edit", "applied_p50_ms", "ms"),
    ("edit: applied p99", "edit", "applied_p99_ms", "ms"),
    ("edit: observed p50", "edit", "observed_p50_ms", "ms"),
    ("edit: observed p99", "edit", "observed_p99_ms", "ms"),
    ("delete: back p50", "delete", "back_p50_ms", "ms"),
    ("delete: back p99", "delete", "back_p99_ms", "ms"),
    ("rest: CPU", "rest", "cpu_percent", "%"),
    ("rest: requests for resources", "rest", "known_requests", ""),
    ("rest: other requests (Lease, API)", "rest", "other_requests", ""),
    ("rest: resident", "rest", "rss_mb", "MB"),
    ("restart: ready", "restart", "ready_seconds", "s"),
    ("restart: settled", "restart", "settled_seconds", "s"),
    ("restart: an edit afterwards", "restart", "edit_ms", "ms"),
    ("restart: CPU of the operator", "restart", "cpu_seconds", "s"),
    ("restart: writes", "restart", "writes", ""),
    ("restart: resident", "restart", "rss_mb", "MB"),
    ("restart: peak", "restart", "peak_mb", "MB"),
    ("restart: SIGTERM to the end", "restart", "stop_seconds", "s"),
    ("failover: killed to applied", "failover", "seconds", "s"),
    ("failover: standby's resident", "failover", "rss_mb", "MB"),
)
#: Upper bounds of our own operator.
_TARGETS = (
    ("1,000 new endpoints all applied, s", "create", "applied_seconds", 25.0),
    ("edit to applied p50, ms", "edit", "applied_p50_ms", 30.0),
    ("edit to applied p99, ms", "edit", "applied_p99_ms", 150.0),
    ("deleted child to back p99, ms", "delete", "back_p99_ms", 250.0),
    ("resident after creation, MB", "create", "rss_mb", 130.0),
    ("peak after creation, MB", "create", "peak_mb", 130.0),
    ("peak after a restart, MB", "restart", "peak_mb", 130.0),
    ("requests at rest besides the Lease", "rest", "known_requests", 0.0),
    ("CPU at rest, % of a core", "rest", "cpu_percent", 2.0),
    ("restart: writes", "restart", "writes", 0.0),
    ("restart: settled, s", "restart", "settled_seconds", 15.0),
    ("failover, s", "failover", "seconds", 20.0),
)


def show(results: dict[str, list[Round]]) -> None:
    """Print one table of all operators, and the requests of each phase."""
    names = list(results)
    print(f"\n{'':38}" + "".join(f"{name:>32}" for name in names))
    for title, phase, field, unit in _ROWS:
        cells = [_cell(_values(results[name], phase, field), unit) for name in names]
        print(f"{title:38}" + "".join(f"{cell:>32}" for cell in cells))
    for name in names:
        print(f"\nrequests of {name} (last round)")
        for phase, values in results[name][-1].items():
            text = ", ".join(f"{number} {kind}" for kind, number in values.get("requests", {}).items())
            print(f"  {phase:9} {text}")


def verdicts(rounds: list[Round]) -> list[dict[str, Any]]:
    """Return each target that was measured: its bound, the median, and whether it is met."""
    found = []
    for title, phase, field, bound in _TARGETS:
        values = _values(rounds, phase, field)
        if values:
            value = statistics.median(values)
            found.append({"target": title, "bound": bound, "measured": round(value, 2), "met": value <= bound})
    return found


def _values(rounds: Iterable[Round], phase: str, field: str) -> list[float]:
    return [one[phase][field] for one in rounds if field in one.get(phase, {})]


def _cell(values: list[float], unit: str) -> str:
    if not values:
        return "-"
    text = f"{statistics.median(values):.4g} {unit}".rstrip()
    return text if len(values) == 1 else f"{text} ({min(values):.4g} to {max(values):.4g})"
