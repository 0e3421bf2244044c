"""Sections of the page that are tables: objectives, categories, errors, comparison, quality, settings."""

from __future__ import annotations

import json

from llmendpoint_common.contracts.loadrun import Summary, Verdict
from llmendpoint_common.process.units import format_duration
from llmendpoint_common.results.figures import number, percent
from llmendpoint_common.results.words import since
from llmendpoint_loadjob.report.page.markup import Markup, join, tag
from llmendpoint_loadjob.report.page.tables import UNKNOWN, Cell, percentile_cells, table
from llmendpoint_loadjob.report.words import (
    KINDS,
    bound,
    comparison_of,
    errors_of,
    interval,
    objective_name,
    rate,
    result_of,
)

_SIGNS = {Verdict.PASSED: "✓", Verdict.FAILED: "✗", Verdict.ERROR: "✗", Verdict.INVALID: "?", Verdict.NONE: "-"}


def verdict(summary: Summary) -> Markup:
    """Return the verdict with its reason in one sentence."""
    return tag(
        "div",
        tag("b", f"{_SIGNS[summary.verdict]} {verdict_words(summary)}"),
        tag("p", f"{summary.reason.value}: {summary.message}"),
        class_=f"verdict {KINDS.get(summary.verdict, '')}".strip(),
    )


def verdict_words(summary: Summary) -> str:
    """Return the verdict as a headline."""
    if summary.partial:
        return "Interrupted: a partial result, which is not judged"
    return "No verdict" if summary.verdict is Verdict.NONE else summary.verdict.value


def figures(summary: Summary) -> Markup:
    """Return the most important figures."""
    output = summary.output_tokens_per_second
    request = summary.request_latency
    all_rates = ", all rates" if summary.sweep is not None else ""
    values = [
        ("requests", f"{summary.requests:,}"),
        ("failed", f"{summary.errors:,}"),
        ("completed, requests/s", number(summary.requests_per_second.value)),
        ("goodput, requests/s", number(summary.goodput.value)),
        ("attainment", rate(summary.attainment) if summary.requests else "unknown"),
        ("output, tokens/s", "unknown" if output is None else number(output.value)),
        (f"TTFT p95{all_rates}", format_duration(summary.ttft.p95) if summary.ttft else "unknown"),
        (f"TPOT p95{all_rates}", format_duration(summary.tpot.p95) if summary.tpot else "unknown"),
        (f"request p95{all_rates}", format_duration(request.p95) if request else "unknown"),
        ("duration", format_duration(summary.duration.value)),
    ]
    if summary.sweep is not None:
        highest = summary.sweep.rate
        values.insert(0, ("highest rate, requests/s", "none" if highest is None else number(highest)))
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in values), class_="figures")


def objectives(summary: Summary, name: str = "") -> Markup:
    """Return the objectives with the measured values. `name` is that of the run if the page has several."""
    if not summary.slo:
        return tag("p", "The run had no objectives, so nothing was judged.", class_="soft")
    rows = [
        (
            objective_name(item),
            bound(item),
            item.measured,
            interval(item) or "-",
            item.requests or "-",
            Cell(result := result_of(summary, item), {"met": "good", "missed": "bad"}.get(result, "warn")),
        )
        for item in summary.slo
    ]
    header = ("objective", "threshold", "measured", "95 % interval", "requests", "result")
    whose = f" of {name}" if name else ""
    return table(f"Objectives{whose}, judged over all requests: a failed one was never answered", header, rows)


def categories(summary: Summary) -> Markup:
    """Return a row per category of questions."""
    if not summary.categories:
        return tag("p", "No request was measured.", class_="soft")
    rows = [
        (
            item.category,
            item.requests,
            Cell(item.errors, "bad" if item.errors else None),
            UNKNOWN if item.output_tokens is None else item.output_tokens,
            *percentile_cells(item.ttft, ("p50", "p95")),
            *percentile_cells(item.tpot, ("p50",)),
            *percentile_cells(item.request_latency, ("p95",)),
            percent(item.attained / item.requests) if summary.slo and item.requests else "-",
            f"{percent(item.matched / item.expected)} of {item.expected}" if item.expected else "-",
        )
        for item in summary.categories
    ]
    header = (
        "category",
        "requests",
        "failed",
        "output tokens",
        "TTFT p50",
        "TTFT p95",
        "TPOT p50",
        "request p95",
        "attainment",
        "expected answer",
    )
    return table("Categories of questions", header, rows)


def errors(summary: Summary, name: str = "") -> Markup:
    """Return the classes of errors, with what the server said and what to do. `name` is that of the run."""
    if not summary.errors:
        return tag("p", "No request failed.")
    rows = [(item.error_class, Cell(item.count, "bad"), item.example, item.advice) for item in errors_of(summary)]
    header = ("class", "requests", "example", "what to do")
    whose = f" of {name}" if name else ""
    return table(f"Failed requests{whose} by class of error", header, rows, words=("example", "what to do"))


def regressions(summary: Summary) -> Markup:
    """Return the comparison with the baseline."""
    rows = [
        (
            item.metric,
            item.baseline,
            item.measured,
            Cell(change(item.change), "bad" if item.regressed else None),
            Cell(comparison_of(item), "bad" if item.regressed else "good" if item.judged else "warn"),
            item.message,
        )
        for item in summary.regressions
    ]
    header = ("metric", "baseline", "this run", "change", "result", "note")
    return table("Comparison with the baseline", header, rows, words=("note",))


def change(relative: float) -> str:
    """Return a relative change, positive if it is worse."""
    if abs(relative) < 0.0005:
        return "no change"
    return f"{abs(100 * relative):.1f} % {'worse' if relative > 0 else 'better'}"


def meter_audit(summary: Summary) -> Markup:
    """Return the comparison of the client's token counts with the meter's."""
    audit = summary.meter_audit
    if audit is None:
        return Markup("")
    rows = [
        ("requests", audit.requests),
        ("found in the sidecars' records", audit.found),
        ("tokens that the client was told", audit.client_tokens),
        ("tokens that the sidecars metered", audit.metered_tokens),
        ("requests whose counts differ", Cell(audit.differing, "bad" if audit.differing else "good")),
    ]
    return join((table("Meter audit", ("item", "value"), rows), tag("p", audit.message)))


def quality(summary: Summary) -> Markup:
    """Return what tells whether the load generator or the server was the limit."""
    window = summary.window
    rows: list[tuple[str, object]] = [
        ("offered", rate(summary.offered_rate)),
        ("sent", rate(summary.sent_rate)),
        ("completed", rate(summary.requests_per_second)),
        ("requests due and sent", f"{summary.offered:,} and {summary.sent:,}"),
        ("p99 lag of the load generator", format_duration(summary.client_lag.p99) if summary.client_lag else "unknown"),
        ("CPU throttling of the load generator", format_duration(summary.throttled_seconds)),
        ("tokens per chunk", "unknown" if summary.tokens_per_chunk is None else number(summary.tokens_per_chunk)),
        (
            "input tokens from the prefix cache",
            "unknown" if summary.cached_input_ratio is None else percent(summary.cached_input_ratio),
        ),
    ]
    if window is not None:
        rows += [
            ("warm-up", format_duration(window.warmup_seconds)),
            ("load", format_duration(window.load_seconds)),
            ("drain", format_duration(window.drain_seconds)),
        ]
    if summary.saturation is not None:
        offered = number(summary.saturation.offered_rate)
        rows.append(("saturated", f"{since(summary.saturation.at_seconds)}, at {offered} requests/s"))
    note = summary.saturation.message if summary.saturation else ""
    return join((table("Load generator and windows", ("item", "value"), rows), tag("p", note) if note else ""))


def settings(summary: Summary) -> Markup:
    """Return environment and run document."""
    known = summary.environment
    rows = [
        (name, value)
        for name, value in (
            ("target", summary.target),
            ("model", summary.model),
            ("API", summary.api.value),
            ("started", summary.started_at),
            ("ended", summary.ended_at),
            ("seed", summary.seed),
            ("server", known.server),
            ("model digest", known.model_digest),
            ("GPU", known.gpu),
            ("llmendpoint", known.version),
            ("Python", known.python),
            ("platform", known.platform),
            ("CPUs of the load generator", number(known.cpus) if known.cpus else ""),
            ("load pods", known.pods),
        )
        if value != ""
    ]
    parts = [table("Environment", ("item", "value"), [(name, Cell(value, "words")) for name, value in rows])]
    if summary.run:
        document = json.dumps(summary.run, indent=2, ensure_ascii=False)
        parts += [tag("h3", "Run document"), tag("pre", document, tabindex=0, role="region", aria_label="Run document")]
    return join(parts)
