"""The result of a run on the terminal. It is readable at 40 columns: numbers are never cut, and sentences wrap."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.style import Style
from rich.table import Table
from rich.text import Text

from llmendpoint_common.contracts.loadrun import Percentiles, StepResult, Summary, Verdict
from llmendpoint_common.process.units import format_duration
from llmendpoint_common.results.figures import LATENCIES, latency_of, number, percent, sweep_interval
from llmendpoint_common.results.words import since
from llmendpoint_loadjob.report.streams import print_sentence
from llmendpoint_loadjob.report.words import (
    SHOWN,
    bound,
    comparison_of,
    count_of,
    errors_of,
    interval,
    is_repeated,
    objective_name,
    rate,
    result_of,
)

PERCENTILES = ("mean", "p50", "p90", "p95", "p99", "max")
_STYLES = {
    Verdict.PASSED: "bold green",
    Verdict.FAILED: "bold red",
    Verdict.ERROR: "bold red",
    Verdict.INVALID: "bold yellow",
}
_GAP = 2


def show_summary(console: Console, summary: Summary) -> None:
    """Print latencies, counts, errors, objectives and, last, the verdict."""
    _say(console, f"{summary.model} at {summary.target} ({summary.api.value})", "bold")
    _latencies(console, summary)
    _counts(console, summary)
    _errors(console, summary)
    _steps(console, summary)
    for item in summary.regressions:
        _say(console, f"baseline: {item.metric} {item.baseline} -> {item.measured}, {comparison_of(item)}")
    _objectives(console, summary)
    for sentence in summary.unknown:
        _say(console, f"not measured: {sentence}", "dim")
    if summary.meter_audit is not None:
        _say(console, f"meter audit: {summary.meter_audit.message}")
    line = Text(summary.verdict.value, _STYLES.get(summary.verdict, "bold"))
    line.append(f" ({summary.reason.value}): {summary.message}", Style(bold=False))
    print_sentence(console, line)


def _say(console: Console, sentence: str, style: str = "") -> None:
    print_sentence(console, Text(_one_line(sentence), style))


def _one_line(text: str) -> str:
    """Return a text in which no character can move the cursor or change the colours of the terminal."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


def _latencies(console: Console, summary: Summary) -> None:
    rows = [
        (item.name, values)
        for item in LATENCIES
        if item.field in SHOWN
        and not is_repeated(summary, item.field)
        and (values := latency_of(summary, item.field)) is not None
    ]
    if rows:
        grid = [("", *PERCENTILES), *((name, *_durations(values)) for name, values in rows)]
        print_grid(console, grid)


def _durations(values: Percentiles) -> list[str]:
    return [format_duration(getattr(values, name)) for name in PERCENTILES]


def print_grid(console: Console, grid: Sequence[Sequence[str]]) -> None:
    """Print rows with a header row and header column. If they are too wide, print the columns as rows, in parts."""
    if _width(grid) <= console.width:
        console.print(_table(grid))
        return
    columns = list(zip(*grid, strict=True))
    header, *others = zip(*columns, strict=True)
    for part in _parts(header, others, console.width):
        # A single column may be too wide. Its words are then folded and not cut.
        console.print(_table(part, is_folded=_width(part) > console.width))


def _parts(header: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> Iterator[list[Sequence[str]]]:
    """Yield tables with the rows as columns, each with as many of them as fit into the width."""
    shown: list[Sequence[str]] = []
    for row in rows:
        turned = list(zip(header, *shown, row, strict=True))
        if shown and _width(turned) > width:
            yield list(zip(header, *shown, strict=True))
            shown = []
        shown.append(row)
    yield list(zip(header, *shown, strict=True))


def _width(grid: Sequence[Sequence[str]]) -> int:
    return sum(max(map(cell_len, column)) + _GAP for column in zip(*grid, strict=True)) - _GAP


def _table(grid: Sequence[Sequence[str]], *, is_folded: bool = False) -> Table:
    header, *rows = grid
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="dim", collapse_padding=True)
    for index, title in enumerate(header):
        table.add_column(title, justify="left" if index == 0 else "right", no_wrap=not is_folded, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, _cell_style(cell)) for cell in row))
    return table


def _cell_style(cell: str) -> str:
    return {"met": "green", "missed": "red"}.get(cell.partition(":")[0], "")


def _counts(console: Console, summary: Summary) -> None:
    tokens = "output tokens unknown"
    if summary.output_tokens is not None:
        tokens = f"{count_of(summary.output_tokens, 'output token')}, {rate(summary.output_tokens_per_second)}"
    _say(
        console,
        f"{count_of(summary.requests, 'request')} in {format_duration(summary.duration.value)}, "
        f"{count_of(summary.errors, 'error')}; {rate(summary.requests_per_second)}, {tokens}",
    )
    if summary.offered_rate is not None and summary.sent_rate is not None:
        _say(console, f"offered {rate(summary.offered_rate)}, sent {rate(summary.sent_rate)}")
    if summary.cached_input_ratio is not None:
        _say(console, f"{percent(summary.cached_input_ratio)} of the input tokens came from the server's prefix cache")
    expected, matched = (sum(getattr(c, name) for c in summary.categories) for name in ("expected", "matched"))
    if expected:
        _say(console, f"{matched} of {count_of(expected, 'response')} had the expected content")
    if summary.saturation is not None:
        _say(console, f"saturated {since(summary.saturation.at_seconds)}: {summary.saturation.message}", "yellow")


def _errors(console: Console, summary: Summary) -> None:
    for item in errors_of(summary):
        example = f": {item.example}" if item.example else ""
        _say(console, f"{item.count} x {item.error_class}{example}", "red")
        if item.advice:
            _say(console, f"  {item.advice}")


def _steps(console: Console, summary: Summary) -> None:
    if summary.steps:
        grid = [("step", "offered/s", "done/s", "failed", "TTFT p95", "")]
        for step in summary.steps:
            met = "" if step.met is None else "met" if step.met else "missed"
            met += f": {step.reason}" if step.reason else ""
            ttft = "unknown" if step.ttft is None else format_duration(step.ttft.p95)
            grid.append((_one_line(step.name), _rate_of(step), number(step.completed_rate), str(step.errors),
                         ttft, met))  # fmt: skip
        print_grid(console, grid)
    if summary.sweep is not None:
        found = summary.sweep
        between = sweep_interval(summary)
        _say(console, f"sweep: {found.message}{f'; 95 % interval {between} requests/s' if between else ''}")


def _rate_of(step: StepResult) -> str:
    """Return the offered rate of a step. A closed loop has none."""
    return number(step.offered_rate) if step.offered_rate else "-"


def _objectives(console: Console, summary: Summary) -> None:
    if not summary.slo:
        return
    grid = [("objective", "threshold", "measured", "95 % interval", "")]
    grid += [
        (objective_name(item), bound(item), item.measured, interval(item), result_of(summary, item))
        for item in summary.slo
    ]
    if _width(grid) <= console.width:
        console.print(_table(grid))
        return
    for name, threshold, measured, between, mark in grid[1:]:
        line = Text(f"{name} {threshold}: {measured}{f' (95 %: {between})' if between else ''}, ")
        line.append(mark, _cell_style(mark))
        print_sentence(console, line)
