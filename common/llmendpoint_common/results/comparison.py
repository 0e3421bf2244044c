"""Compares two runs: a line per figure, with the better value marked."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from llmendpoint_common.contracts.loadrun import Summary
from llmendpoint_common.process.units import format_duration
from llmendpoint_common.results.figures import LATENCIES, latency_of, number, percent
from llmendpoint_common.results.settings_text import setting_text

#: A smaller relative difference is that of rounding: percentiles have three significant digits.
_SAME = 0.001


class Figure(NamedTuple):
    """One figure of two runs. `better` is 0 or 1, or None if they look the same or cannot be compared."""

    name: str
    first: float | None
    second: float | None
    first_text: str
    second_text: str
    better: int | None
    #: `s` for seconds, `share` for a fraction, `requests/s` or `tokens/s` for a rate, and else empty.
    unit: str = ""

    @property
    def change(self) -> float | None:
        """The relative change from the first to the second run, or None if it is unknown."""
        if self.first is None or self.second is None or not self.first:
            return None
        return self.second / self.first - 1

    @property
    def change_text(self) -> str:
        """The change as a percentage with its sign."""
        if self.change is None:
            return "-"
        return "same" if abs(self.change) < _SAME else f"{100 * self.change:+.1f} %"


class Setting(NamedTuple):
    """A setting that is not the same in two runs: its path in the run document, and its values as JSON or text."""

    name: str
    first: str
    second: str

    @property
    def text(self) -> str:
        """The difference in words, such as `Concurrency 4 → 6`."""
        return setting_text(self.name, self.first, self.second)


class Comparison(NamedTuple):
    """Two runs with their names, their figures, and the settings in which they differ."""

    names: tuple[str, str]
    first: Summary
    second: Summary
    figures: tuple[Figure, ...]
    settings: tuple[Setting, ...]


def compare(first: Summary, second: Summary, names: tuple[str, str] = ("A", "B")) -> Comparison:
    """Return the comparison of two runs."""
    return Comparison(names, first, second, tuple(_figures(first, second)), tuple(_settings(first, second)))


def _figures(first: Summary, second: Summary) -> Iterator[Figure]:
    for name, get, text, is_higher_better in _QUANTITIES:
        unit = "share" if text is percent else name.partition(", ")[2]
        yield figure(name, get(first), get(second), text, is_higher_better=is_higher_better)._replace(unit=unit)
    for latency in LATENCIES:
        rows = latency_of(first, latency.field), latency_of(second, latency.field)
        if rows == (None, None):
            continue
        for percentile in ("p50", "p95", "p99"):
            values = [None if row is None else float(getattr(row, percentile)) for row in rows]
            name = f"{latency.name} {percentile}"
            yield figure(name, values[0], values[1], format_duration, is_higher_better=False)._replace(unit="s")


def figure(
    name: str, first: float | None, second: float | None, text: Callable[[float], str], *, is_higher_better: bool | None
) -> Figure:
    """Return a figure with the better of its values. A load has no better value: `is_higher_better` is None."""
    shown = ["unknown" if value is None else text(value) for value in (first, second)]
    better = None
    if first is not None and second is not None and is_higher_better is not None and shown[0] != shown[1]:
        largest = max(abs(first), abs(second))
        if largest and abs(first - second) / largest >= _SAME:
            better = int((second > first) == is_higher_better)
    return Figure(name, first, second, shown[0], shown[1], better)


def _value(name: str) -> Callable[[Summary], float | None]:
    def get(summary: Summary) -> float | None:
        quantity = getattr(summary, name)
        return None if quantity is None else float(quantity.value)

    return get


def _error_rate(summary: Summary) -> float | None:
    return summary.errors / summary.requests if summary.requests else None


def _attainment(summary: Summary) -> float | None:
    return summary.attainment.value if summary.requests and summary.slo else None


def _sweep_rate(summary: Summary) -> float | None:
    return summary.sweep.rate if summary.sweep else None


_QUANTITIES: tuple[tuple[str, Callable[[Summary], float | None], Callable[[float], str], bool | None], ...] = (
    ("offered, requests/s", _value("offered_rate"), number, None),
    ("requests", lambda summary: float(summary.requests), number, None),
    ("completed, requests/s", _value("requests_per_second"), number, True),
    ("error rate", _error_rate, percent, False),
    ("attainment", _attainment, percent, True),
    ("goodput, requests/s", _value("goodput"), number, True),
    ("output, tokens/s", _value("output_tokens_per_second"), number, True),
    ("highest rate of the sweep, requests/s", _sweep_rate, number, True),
    ("input from the prefix cache", lambda summary: summary.cached_input_ratio, percent, None),
)


def _settings(first: Summary, second: Summary) -> Iterator[Setting]:
    """Yield the settings of the run document, and of the environment, that are not the same."""
    flat = [_flat(_described(summary)) for summary in (first, second)]
    for name in sorted(flat[0].keys() | flat[1].keys()):
        values = [side.get(name, "not set") for side in flat]
        if values[0] != values[1]:
            yield Setting(name, values[0], values[1])


def _described(summary: Summary) -> dict[str, Any]:
    known = summary.environment
    return {
        "run": summary.run or {"model": summary.model, "target": {"url": summary.target, "api": summary.api.value}},
        "server": known.server, "modelDigest": known.model_digest, "gpu": known.gpu, "pods": known.pods,
        "llmendpoint": known.version, "cpus": known.cpus,
    }  # fmt: skip


def _flat(value: object, path: str = "") -> dict[str, str]:
    if isinstance(value, dict):
        found: dict[str, str] = {}
        for name, item in value.items():
            found |= _flat(item, f"{path}.{name}" if path else str(name))
        return found
    return {} if value in (None, "") else {path: value if isinstance(value, str) else json.dumps(value)}


def as_json(comparison: Comparison) -> str:
    """Return a comparison as JSON."""
    first, second = comparison.names
    sides = {"first": comparison.first, "second": comparison.second}
    document = {
        "runs": [
            {"name": name, "startedAt": summary.started_at, "verdict": summary.verdict.value,
             "reason": summary.reason.value, "message": summary.message, "partial": summary.partial}
            for name, summary in zip((first, second), sides.values(), strict=True)
        ],
        "figures": [
            {"name": item.name, "first": item.first, "second": item.second, "change": item.change,
             "better": None if item.better is None else ("first", "second")[item.better]}
            for item in comparison.figures
        ],
        "settings": [{"name": name, "first": one, "second": two} for name, one, two in comparison.settings],
    }  # fmt: skip
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
