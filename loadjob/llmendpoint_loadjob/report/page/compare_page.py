"""Builds the page that compares two runs side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llmendpoint_common.contracts.loadrun import Summary
from llmendpoint_common.results.comparison import Comparison
from llmendpoint_loadjob.report.page import sections
from llmendpoint_loadjob.report.page.latencies import distributions
from llmendpoint_loadjob.report.page.markup import Markup, join, tag
from llmendpoint_loadjob.report.page.page import document, section
from llmendpoint_loadjob.report.page.tables import Cell, table


def comparison_page(comparison: Comparison) -> str:
    """Return a page with two runs. Their colours and dashes are the same in all charts."""
    title = f"{comparison.names[0]} and {comparison.names[1]}"
    runs = list(zip(comparison.names, (comparison.first, comparison.second), strict=True))
    parts = [
        tag(
            "header",
            tag("h1", f"Load tests {title}"),
            tag("div", *(_run(name, summary) for name, summary in runs), class_="sides"),
        ),
        section("Figures", _figures(comparison)),
        section("Settings", _settings(comparison)),
        section("Latency", distributions(runs)),
        section("Errors", _each(runs, sections.errors)),
        section("Objectives", _each(runs, sections.objectives)),
    ]
    return document(f"Load tests {title}", parts)


def _each(runs: Sequence[tuple[str, Summary]], show: Callable[[Summary, str], Markup]) -> Markup:
    """Return a part for each run, under its name."""
    return join(tag("div", tag("h3", name), show(summary, name)) for name, summary in runs)


def _run(name: str, summary: Summary) -> Markup:
    described = " · ".join(filter(None, (summary.model, summary.target, summary.started_at)))
    return tag("div", tag("p", tag("b", name)), tag("p", described, class_="soft"), sections.verdict(summary))


def _figures(comparison: Comparison) -> Markup:
    rows = []
    for item in comparison.figures:
        sides = [
            Cell(f"★ {text}" if item.better == side else text, "good" if item.better == side else None)
            for side, text in enumerate((item.first_text, item.second_text))
        ]
        rows.append((item.name, *sides, item.change_text))
    return table("★ marks the better value", ("figure", *comparison.names, "change"), rows)


def _settings(comparison: Comparison) -> Markup:
    if not comparison.settings:
        return tag("p", "Both runs had the same settings and environment.")
    rows = [(name, Cell(one, "words"), Cell(two, "words")) for name, one, two in comparison.settings]
    return table("Settings in which the runs differ", ("setting", *comparison.names), rows, words=comparison.names)
