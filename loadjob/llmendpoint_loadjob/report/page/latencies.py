"""Distributions of latencies with the thresholds of objectives, and the parts of the time to first token."""

from __future__ import annotations

from collections.abc import Sequence

from llmendpoint_common.contracts.loadrun import METRICS, MetricName, Summary
from llmendpoint_common.process.units import format_duration
from llmendpoint_common.results.figures import LATENCIES, latency_of
from llmendpoint_loadjob.report.distribution import Distribution, distribution
from llmendpoint_loadjob.report.page.chart import (
    Axis,
    Frame,
    Legend,
    Series,
    axes,
    bar,
    figure,
    line,
    threshold,
    words,
)
from llmendpoint_loadjob.report.page.markup import Markup, join, tag
from llmendpoint_loadjob.report.page.scales import Scale, linear, logarithmic
from llmendpoint_loadjob.report.page.tables import PERCENTILES, Cell, percentile_cells, table
from llmendpoint_loadjob.report.words import bound, is_repeated

_CURVES = (("ttft", "Time to first token (TTFT)", MetricName.TTFT),
           ("request_latency", "Request latency (end to end)", MetricName.REQUEST_LATENCY))  # fmt: skip
_SMALLEST = 1e-6
_SHARES = (0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999)


def distributions(runs: Sequence[tuple[str, Summary]]) -> Markup:
    """Return the distribution of each latency, with one curve per run. The objectives are those of the last run."""
    parts = []
    for field, title, metric in _CURVES:
        curves = [(name, found) for name, summary in runs if (found := distribution(summary, field)) is not None]
        if curves:
            chart = _curve(f"cdf-{field.replace('_', '-')}", title, curves, _thresholds(runs[-1][1], metric))
            parts.append(tag("div", chart, _curve_table(title, curves), class_="pair"))
    if not parts:
        return tag("p", "No latency was measured.", class_="soft")
    note = (
        "The share is one of all requests. A curve that ends below 100 % shows that requests failed: they were never "
        "answered."
    )
    return join((*parts, tag("p", note, class_="soft")))


def _thresholds(summary: Summary, metric: MetricName) -> list[tuple[float, str]]:
    """Return value and words of each objective on a latency."""
    return [
        (METRICS[metric].parse(result.threshold), f"p{result.percentile} {bound(result)}")
        for result in summary.slo
        if result.metric is metric
    ]


def _curve(
    identity: str, title: str, curves: Sequence[tuple[str, Distribution]], limits: Sequence[tuple[float, str]]
) -> Markup:
    values = [max(_SMALLEST, at) for _, curve in curves for at, _ in curve.points]
    low, high = min(values), max(*values, *(max(_SMALLEST, at) for at, _ in limits), _SMALLEST)

    def draw(frame: Frame) -> Markup:
        x = Axis(logarithmic(low, high, frame.left, frame.right), "latency, logarithmic", format_duration)
        y = Axis(Scale(0.0, 1.0, frame.bottom, frame.top), "", lambda share: f"{100 * share:.0f} %")
        lines = [
            line(Series(name, [(max(_SMALLEST, at), share) for at, share in curve.points], index + 1), x.scale, y.scale)
            for index, (name, curve) in enumerate(curves)
        ]
        marks = [threshold(frame, x.scale, at, label) for at, label in limits]
        return join((axes(frame, x, y), *lines, *marks))

    described = "; ".join(
        f"{name}: half of the requests within {_at(curve, 0.5)}, 95 % within {_at(curve, 0.95)}"
        for name, curve in curves
    )
    asked = "".join(f" The objective is {label}." for _, label in limits)
    legend = [Legend(name, f"line s{index + 1}") for index, (name, _) in enumerate(curves)]
    return figure(identity, title, f"Share of all requests by latency. {described}.{asked}", legend, draw)


def _at(curve: Distribution, share: float) -> str:
    """Return the latency that a share of all requests does not exceed."""
    found = next((at for at, reached in curve.points if reached >= share - 1e-9), None)
    return "never" if found is None else format_duration(found)


def _curve_table(title: str, curves: Sequence[tuple[str, Distribution]]) -> Markup:
    rows = [(f"{100 * share:g} %", *(_at(curve, share) for _, curve in curves)) for share in _SHARES]
    return table(f"{title}: latency that a share of all requests does not exceed",
                 ("share", *(name for name, _ in curves)), rows)  # fmt: skip


def latency_table(summary: Summary) -> Markup:
    """Return the percentiles of all latencies that were measured, and a sentence for each that was not."""
    rows = [
        (item.name, Cell(item.formula, "words"), values.count, *percentile_cells(values))
        for item in LATENCIES
        if not is_repeated(summary, item.field) and (values := latency_of(summary, item.field)) is not None
    ]
    unknown = tag("ul", *(tag("li", sentence) for sentence in summary.unknown)) if summary.unknown else ""
    header = ("latency", "from - to", "requests", *PERCENTILES)
    return join((
        table("Percentiles of the answered requests", header, rows, words=("from - to",)) if rows else "",
        tag("h3", "Not measured") if summary.unknown else "",
        unknown,
    ))  # fmt: skip


def ttft_split(summary: Summary) -> Markup:
    """Return how the time to first token is spent. Means are drawn, because means add up and percentiles do not."""
    parts = summary.ttft_split
    if not parts:
        sentence = (
            "Not measured: the parts come from the records of the sidecars. On one machine, pass the address of its "
            "admin port with --sidecar."
        )
        return tag("p", sentence, class_="soft")
    total = sum(part.latency.mean for part in parts)

    def draw(frame: Frame) -> Markup:
        left = 76
        x = Axis(linear(total, left, frame.right), "mean time", lambda at: format_duration(at) if at else "0")
        step = (frame.bottom - frame.top) / len(parts)
        drawn = [axes(frame._replace(left=left), x, Axis(Scale(0, 1, 0, 1), "", lambda _: ""))]
        begin = 0.0
        for index, part in enumerate(parts):
            top = frame.top + index * step + 3
            width = x.scale(begin + part.latency.mean) - x.scale(begin)
            drawn.append(words(left - 6, top + step / 2 + 2, part.name, "end"))
            drawn.append(bar(x.scale(begin), top, max(1.0, width), step - 8, f"f{index % 6 + 1}"))
            begin += part.latency.mean
        return join(drawn)

    described = ", ".join(f"{part.name} {format_duration(part.latency.mean)}" for part in parts)
    chart = figure("split", "Where the time to first token goes", f"Mean parts: {described}.", [], draw,
                   height=60 + 30 * len(parts))  # fmt: skip
    rows = [
        (part.name, f"{100 * part.latency.mean / total:.1f} %" if total else "", part.latency.count,
         *percentile_cells(part.latency))
        for part in parts
    ]  # fmt: skip
    return join((chart, table("Parts of the time to first token", ("part", "share of the mean", "requests",
                                                                   *PERCENTILES), rows)))  # fmt: skip
