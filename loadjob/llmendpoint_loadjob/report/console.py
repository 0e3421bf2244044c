"""Console output: the progress of a run (one live line on a terminal, otherwise plain lines), and its result."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from llmendpoint_common.contracts import loadrun
from llmendpoint_common.contracts.loadrun import Summary, Verdict
from llmendpoint_common.process.units import format_duration

_LIVE_SECONDS = 0.2
_PLAIN_SECONDS = 5.0
_STYLES = {Verdict.PASSED: "bold green", Verdict.FAILED: "bold red", Verdict.INVALID: "bold yellow"}


async def show_progress(console: Console, progress: Callable[[], loadrun.Progress]) -> None:
    """Show the progress of a run until the task is cancelled."""
    if not console.is_terminal:
        await _plain(console, progress)
        return
    columns = (
        TextColumn("load"),
        BarColumn(24),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[line]}"),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("load", total=100, line="")
        while True:
            now = progress()
            bar.update(task, completed=now.percent, line=_line(now))
            await asyncio.sleep(_LIVE_SECONDS)


async def _plain(console: Console, progress: Callable[[], loadrun.Progress]) -> None:
    while True:
        await asyncio.sleep(_PLAIN_SECONDS)
        now = progress()
        console.print(f"{now.percent:3d} %  {_line(now)}", highlight=False, soft_wrap=True)


def _line(now: loadrun.Progress) -> str:
    ttft = f", TTFT p95 {format_duration(now.ttft_p95_seconds)}" if now.ttft_p95_seconds is not None else ""
    return f"{now.requests} requests, {now.errors} errors, {now.in_flight} in flight, {now.output_tokens} tokens{ttft}"


def show_summary(console: Console, summary: Summary) -> None:
    """Print latencies, counts, objectives and the verdict."""
    console.print(_latencies(summary))
    console.print(
        f"{summary.requests} requests in {format_duration(summary.duration.value)}, {summary.errors} errors"
        f"{_errors(summary)}; {summary.requests_per_second.value:.3g} requests/s, "
        f"{_tokens(summary)}",
        highlight=False,
        soft_wrap=True,
    )
    if summary.slo:
        console.print(_objectives(summary))
    style = _STYLES.get(summary.verdict, "bold")
    console.print(
        f"[{style}]{summary.verdict.value}[/] ({summary.reason}): {summary.message}", highlight=False, soft_wrap=True
    )


def _tokens(summary: Summary) -> str:
    rate = summary.output_tokens_per_second
    if summary.output_tokens is None or rate is None:
        return "output tokens unknown"
    return f"{summary.output_tokens} output tokens, {rate.value:.4g} tokens/s"


def _errors(summary: Summary) -> str:
    if not summary.errors_by_class:
        return ""
    return f" ({', '.join(f'{count} {name}' for name, count in sorted(summary.errors_by_class.items()))})"


def _latencies(summary: Summary) -> Table:
    table = Table(title=f"{summary.model} at {summary.target} ({summary.api.value})", title_justify="left")
    for column in ("latency", "mean", "p50", "p90", "p95", "p99", "max"):
        table.add_column(column, justify="left" if column == "latency" else "right")
    rows = {
        "TTFT": summary.ttft,
        "TPOT": summary.tpot,
        "request": summary.request_latency,
        "queue delay": summary.queue_delay,
    }
    for name, row in rows.items():
        if row is not None:
            values = (row.mean, row.p50, row.p90, row.p95, row.p99, row.max)
            table.add_row(name, *map(format_duration, values))
    return table


def _objectives(summary: Summary) -> Table:
    table = Table(title="objectives", title_justify="left")
    for column in ("objective", "threshold", "measured", ""):
        table.add_column(column)
    for result in summary.slo:
        name = f"{result.metric.value} p{result.percentile}" if result.percentile else result.metric.value
        mark = "[green]met[/]" if result.met else "[red]missed[/]"
        table.add_row(name, result.threshold, result.measured, mark)
    return table
