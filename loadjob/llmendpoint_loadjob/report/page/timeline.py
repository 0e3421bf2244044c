"""Charts over time: offered and completed load with the failures, and latencies."""

from __future__ import annotations

from collections.abc import Sequence

from llmendpoint_common.contracts.loadrun import Summary, TimelineBucket
from llmendpoint_common.process.units import format_duration
from llmendpoint_common.results.figures import number
from llmendpoint_loadjob.report.page.chart import Axis, Frame, Legend, Series, axes, bar, failure, figure, line
from llmendpoint_loadjob.report.page.markup import Markup, join, tag
from llmendpoint_loadjob.report.page.scales import Scale, linear
from llmendpoint_loadjob.report.page.tables import percentile_cells, table


def timeline(summary: Summary) -> Markup:
    """Return the charts over time with their table, or a sentence if nothing was measured over time."""
    buckets = summary.timeline
    if not buckets:
        return tag("p", "The run was too short for a timeline.", class_="soft")
    seconds = _width(summary)
    return join((_load(buckets, seconds, summary), _latency(buckets, seconds), _table(buckets, seconds)))


def _width(summary: Summary) -> float:
    """Return the duration of a bucket in seconds."""
    buckets = summary.timeline
    if len(buckets) > 1:
        return max(1e-9, buckets[1].start_seconds - buckets[0].start_seconds)
    return max(1e-9, summary.duration.value)


def _time(buckets: Sequence[TimelineBucket], seconds: float, frame: Frame) -> Axis:
    first, last = buckets[0].start_seconds, buckets[-1].start_seconds + seconds
    scale = Scale(first, max(last, first + 1e-9), frame.left, frame.right)
    return Axis(scale, "time since the end of the warm-up", _clock)


def _clock(seconds: float) -> str:
    return "0" if not seconds else f"-{format_duration(-seconds)}" if seconds < 0 else format_duration(seconds)


def _edges(buckets: Sequence[TimelineBucket], values: Sequence[float], seconds: float) -> list[tuple[float, float]]:
    """Return the points of a line with one step per bucket."""
    points = [(bucket.start_seconds, value) for bucket, value in zip(buckets, values, strict=True)]
    return [*points, (buckets[-1].start_seconds + seconds, values[-1])]


def _load(buckets: Sequence[TimelineBucket], seconds: float, summary: Summary) -> Markup:
    offered = [bucket.offered / seconds for bucket in buckets]
    completed = [bucket.completed / seconds for bucket in buckets]
    in_flight = [float(bucket.in_flight) for bucket in buckets]
    failed = [bucket for bucket in buckets if bucket.errors]

    def draw(frame: Frame) -> Markup:
        x = _time(buckets, seconds, frame)
        y = Axis(linear(max(*offered, *completed, *in_flight), frame.bottom, frame.top), "", number)
        series = (Series("offered", _edges(buckets, offered, seconds), 1, is_stepped=True),
                  Series("completed", _edges(buckets, completed, seconds), 2, is_stepped=True),
                  Series("in flight", _edges(buckets, in_flight, seconds), 3, is_stepped=True))  # fmt: skip
        marks = [failure(x.scale(bucket.start_seconds + seconds / 2), frame.bottom) for bucket in failed]
        return join((_outside(buckets, seconds, summary, frame), axes(frame, x, y),
                     *(line(item, x.scale, y.scale) for item in series), *marks))  # fmt: skip

    errors = sum(bucket.errors for bucket in buckets)
    description = (
        f"Requests per second over time: offered up to {number(max(offered))}, completed up to "
        f"{number(max(completed))}; up to {number(max(in_flight))} in flight; {errors} failed. "
        "The table below has all values."
    )
    legend = [Legend("offered, requests/s", "line s1"), Legend("completed, requests/s", "line s2"),
              Legend("in flight", "line s3")]  # fmt: skip
    if failed:
        legend.append(Legend("failed requests", "failure"))
    return figure("load", "Load over time", description, legend, draw)


def _outside(buckets: Sequence[TimelineBucket], seconds: float, summary: Summary, frame: Frame) -> Markup:
    """Return the shade of the times before and after the load: the warm-up and the drain."""
    x = _time(buckets, seconds, frame).scale
    end = summary.window.load_seconds if summary.window else x.high
    parts = [(x.low, 0.0), (end, x.high)]
    return join(
        bar(x(low), frame.top, x(high) - x(low), frame.bottom - frame.top, "outside")
        for low, high in parts
        if high > low
    )


def _latency(buckets: Sequence[TimelineBucket], seconds: float) -> Markup:
    middle = seconds / 2

    def points(field: str, percentile: str) -> list[tuple[float, float | None]]:
        return [
            (
                bucket.start_seconds + middle,
                None if (row := getattr(bucket, field)) is None else getattr(row, percentile),
            )
            for bucket in buckets
        ]

    lines = [Series("TTFT p50", points("ttft", "p50"), 1), Series("TTFT p95", points("ttft", "p95"), 2),
             Series("request p95", points("request_latency", "p95"), 3)]  # fmt: skip
    shown = [item for item in lines if any(value is not None for _, value in item.points)]
    if not shown:
        return Markup("")
    highest = max(value for item in shown for _, value in item.points if value is not None)

    def draw(frame: Frame) -> Markup:
        x = _time(buckets, seconds, frame)
        y = Axis(linear(highest, frame.bottom, frame.top), "", _clock)
        marks = [failure(x.scale(b.start_seconds + middle), frame.bottom) for b in buckets if b.errors]
        return join((axes(frame, x, y), *(line(item, x.scale, y.scale) for item in shown), *marks))

    legend = [Legend(item.name, f"line s{item.number}") for item in shown]
    if any(bucket.errors for bucket in buckets):
        legend.append(Legend("failed requests", "failure"))
    description = (
        f"Latencies of the answered requests over time, up to {format_duration(highest)}. The table below has all "
        "values."
    )
    return figure("latency", "Latency over time", description, legend, draw)


def _table(buckets: Sequence[TimelineBucket], seconds: float) -> Markup:
    rows = [
        (_clock(bucket.start_seconds), bucket.offered, bucket.completed, bucket.errors, bucket.in_flight,
         bucket.output_tokens, *percentile_cells(bucket.ttft, ("p50", "p95")),
         *percentile_cells(bucket.request_latency, ("p95",)))
        for bucket in buckets
    ]  # fmt: skip
    header = ("from", "offered", "completed", "failed", "in flight", "output tokens", "TTFT p50", "TTFT p95",
              "request p95")  # fmt: skip
    return table(f"Load and latency in parts of {format_duration(seconds)}", header, rows)
