"""Builds the page of one run."""

from __future__ import annotations

from llmendpoint_common.contracts.loadrun import Summary
from llmendpoint_common.process.version import VERSION
from llmendpoint_loadjob.report.page import sections
from llmendpoint_loadjob.report.page.latencies import distributions, latency_table, ttft_split
from llmendpoint_loadjob.report.page.markup import Markup, join, tag
from llmendpoint_loadjob.report.page.steps import steps
from llmendpoint_loadjob.report.page.style import STYLE, style_hash
from llmendpoint_loadjob.report.page.timeline import timeline

#: Nothing is loaded and nothing is run. The page has no script at all.
_POLICY = "default-src 'none'; style-src {style}; img-src data:; base-uri 'none'; form-action 'none'"


def report_page(summary: Summary) -> str:
    """Return the report of a run as one HTML file."""
    title = f"Load test of {summary.model}"
    started = f", {summary.started_at}" if summary.started_at else ""
    parts = [
        tag("header", tag("h1", title), tag("p", f"{summary.target} ({summary.api.value}){started}", class_="soft"),
            sections.verdict(summary), sections.figures(summary)),
        section("Objectives", sections.objectives(summary)),
        section("Errors", sections.errors(summary)),
        section("Load and latency over time", timeline(summary)),
        section("Latency", join((distributions([("this run", summary)]), latency_table(summary)))),
        section("Time to first token", ttft_split(summary)),
    ]  # fmt: skip
    if summary.steps or summary.sweep is not None:
        parts.append(section("Sweep" if summary.sweep is not None else "Steps", steps(summary)))
    parts.append(section("Categories", sections.categories(summary)))
    if summary.regressions:
        parts.append(section("Baseline", sections.regressions(summary)))
    if summary.meter_audit is not None:
        parts.append(section("Meter audit", sections.meter_audit(summary)))
    parts += [section("Quality of the measurement", sections.quality(summary)),
              section("Settings and environment", sections.settings(summary))]  # fmt: skip
    return document(title, parts)


def section(title: str, content: Markup) -> Markup:
    """Return a section with its heading."""
    return tag("section", tag("h2", title), content)


def document(title: str, parts: list[Markup]) -> str:
    """Return a whole page. It needs no network, and its policy allows neither a script nor a request."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY.format(style=style_hash())),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", title),
        tag("link", rel="icon", href="data:,"),
        tag("style", Markup(STYLE)),
    )
    note = (
        f"llmendpoint {VERSION}. Latencies are those of answered requests; an objective is judged over all requests. "
        "Percentiles come from HDR histograms with three significant digits."
    )
    footer = tag("footer", tag("p", note))
    return f"<!doctype html>\n{tag('html', head, tag('body', tag('main', *parts), footer), lang='en')}\n"
