"""The stages of a run, or the rates of a sweep."""

from __future__ import annotations

from llmendpoint_common.contracts.loadrun import StepResult, Summary
from llmendpoint_common.process.units import format_duration
from llmendpoint_common.results.figures import number, sweep_interval
from llmendpoint_loadjob.report.page.chart import Axis, Frame, Legend, Series, axes, bar, figure, line, words
from llmendpoint_loadjob.report.page.markup import Markup, join, tag
from llmendpoint_loadjob.report.page.scales import Scale, linear
from llmendpoint_loadjob.report.page.tables import Cell, percentile_cells, table

_MOST_LABELS = 12


def steps(summary: Summary) -> Markup:
    """Return the chart and the table of the steps. A sweep is ordered by its rates, stages by their times."""
    rows = list(summary.steps)
    if summary.sweep is not None:
        rows.sort(key=lambda step: step.offered_rate)
    parts = [_sweep(summary)]
    if rows:
        parts += [_rates(rows), _latencies(rows), _table(rows)]
    return join(parts)


def _sweep(summary: Summary) -> Markup:
    found = summary.sweep
    if found is None:
        return Markup("")
    sentence = found.message or (
        "No rate met the objectives."
        if found.rate is None
        else f"The highest rate that met the objectives is {number(found.rate)} requests/s."
    )
    if found.rate is None:
        return tag("p", sentence)
    between = f"95 % confidence interval: {sweep_interval(summary)} requests/s."
    return join((tag("p", tag("b", sentence)), tag("p", between)))


def _places(rows: list[StepResult], frame: Frame) -> tuple[Axis, float]:
    """Return the axis of the steps, and the width of one."""
    scale = Scale(-0.5, len(rows) - 0.5, frame.left, frame.right)
    labels = 4 if frame.is_narrow else _MOST_LABELS
    every = -(-len(rows) // labels)

    class Steps(Scale):
        __slots__ = ()

        def ticks(self, count: int) -> list[float]:
            """Return the numbers of the steps that have a label. `count` is that of the axis."""
            del count
            return [float(index) for index in range(0, len(rows), every)]

    axis = Axis(Steps(*scale), "step", lambda index: rows[int(index)].name[:14])
    return axis, (frame.right - frame.left) / len(rows)


def _rates(rows: list[StepResult]) -> Markup:
    highest = max(max(step.offered_rate, step.completed_rate) for step in rows)

    def draw(frame: Frame) -> Markup:
        x, width = _places(rows, frame)
        y = Axis(linear(highest, frame.bottom, frame.top), "", number)
        drawn = [axes(frame, x, y)]
        for index, step in enumerate(rows):
            left = x.scale(index) - width * 0.4
            for offset, value, kind in ((0.0, step.offered_rate, "f1"), (0.4, step.completed_rate, "f2")):
                top = y.scale(value)
                drawn.append(bar(left + offset * width, top, width * 0.36, frame.bottom - top, kind))
            if step.met is not None:
                mark = "✓" if step.met else "✗"
                drawn.append(
                    words(x.scale(index), frame.top + 8, mark, f"middle strong {'met' if step.met else 'missed'}")
                )
        return join(drawn)

    described = "; ".join(
        f"{s.name}: {number(s.offered_rate)} offered, {number(s.completed_rate)} completed" for s in rows[:20]
    )
    legend = [Legend("offered, requests/s", "bar f1"), Legend("completed, requests/s", "bar f2")]
    if any(step.met is not None for step in rows):
        legend.append(Legend("✓ objectives met, ✗ missed", "bar none"))
    return figure("steps", "Offered and completed rate of each step", f"{described}.", legend, draw)


def _latencies(rows: list[StepResult]) -> Markup:
    lines = [
        Series("TTFT p50", [(i, s.ttft.p50 if s.ttft else None) for i, s in enumerate(rows)], 1),
        Series("TTFT p95", [(i, s.ttft.p95 if s.ttft else None) for i, s in enumerate(rows)], 2),
        Series(
            "request p95", [(i, s.request_latency.p95 if s.request_latency else None) for i, s in enumerate(rows)], 3
        ),
    ]
    shown = [item for item in lines if any(value is not None for _, value in item.points)]
    if not shown or len(rows) < 2:
        return Markup("")
    highest = max(value for item in shown for _, value in item.points if value is not None)

    def draw(frame: Frame) -> Markup:
        x, _ = _places(rows, frame)
        y = Axis(linear(highest, frame.bottom, frame.top), "", lambda value: format_duration(value) if value else "0")
        return join((axes(frame, x, y), *(line(item, x.scale, y.scale) for item in shown)))

    legend = [Legend(item.name, f"line s{item.number}") for item in shown]
    return figure(
        "step-latency",
        "Latency of each step",
        f"Up to {format_duration(highest)}. The table below has all values.",
        legend,
        draw,
    )


def _table(rows: list[StepResult]) -> Markup:
    met = {True: Cell("met", "good"), False: Cell("missed", "bad"), None: Cell("-")}
    cells = [
        (
            step.name,
            format_duration(step.seconds),
            number(step.offered_rate) if step.offered_rate else "-",
            number(step.completed_rate),
            step.requests,
            Cell(step.errors, "bad" if step.errors else None),
            *percentile_cells(step.ttft, ("p50", "p95")),
            *percentile_cells(step.request_latency, ("p95",)),
            Cell(f"missed: {step.reason}", "bad") if step.reason else met[step.met],
        )
        for step in rows
    ]
    header = (
        "step",
        "duration",
        "offered/s",
        "completed/s",
        "requests",
        "failed",
        "TTFT p50",
        "TTFT p95",
        "request p95",
        "objectives",
    )
    return table("Steps", header, cells)
