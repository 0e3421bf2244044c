"""Numbers, objectives and settings as text, for verdicts, summaries, pages and the terminal."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import inf

from llmendpoint_common.contracts.loadrun import METRICS, Metric, MetricName
from llmendpoint_common.process.units import format_duration

#: Text of a latency percentile that so many requests missed that it has no value.
NEVER_ANSWERED = "never answered"

#: A number with its unit, as `format_duration` and `Metric.format` write it.
_AMOUNT = re.compile(r"(?<![\w.])(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)(ms|us|%))?(?!\w)")


def spaced(text: str) -> str:
    """Return a text in which durations and percentages are written as in a sentence.

    `1m30s` becomes `1 min 30 s`, `1m00s` becomes `1 min`, and `99.5%` becomes `99.5 %`.
    """
    return _AMOUNT.sub(_spaced, text)


def span(seconds: float) -> str:
    """Return a duration as in a sentence: `90 s` is `1 min 30 s`."""
    return spaced(format_duration(seconds))


def _spaced(match: re.Match[str]) -> str:
    hours, minutes, seconds, amount, unit = match.groups()
    parts = [(hours, "h"), (minutes, "min"), (seconds, "s"), (amount, unit)]
    given = [(float(value), value, name) for value, name in parts if value is not None]
    # Zeros of a duration say nothing, unless it has nothing else.
    shown = [part for part in given if part[0]] or given[-1:]
    return " ".join(f"{value if '.' in value else int(value)} {name}" for _, value, name in shown)


def objective_name(metric: MetricName, percentile: int | None) -> str:
    """Return the metric of an objective with its percentile, such as `TTFT p95` or `error rate`."""
    title = METRICS[metric].title
    return f"{title} p{percentile}" if percentile else title


def objective_text(metric: MetricName, percentile: int | None, threshold: str) -> str:
    """Return an objective, such as `TTFT p95 ≤ 2 s` or `error rate ≤ 1 %`."""
    sign = "≥" if METRICS[metric].higher_is_better else "≤"
    return f"{objective_name(metric, percentile)} {sign} {spaced(threshold)}"


def apart(metric: Metric, value: float | None, threshold: float) -> tuple[str, str]:
    """Return a value and a threshold as texts, which differ if the numbers do: with more digits if necessary."""
    limit = metric.format(threshold)
    if value is None:
        return "", limit
    if value == inf:
        return NEVER_ANSWERED, limit
    text = metric.format(value)
    if text == limit and value != threshold:
        return _exact(metric, value), _exact(metric, threshold)
    return text, limit


def plural(count: int, noun: str) -> str:
    """Return a number and its noun, such as `1 request` or `2 requests`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def listed(items: Sequence[str]) -> str:
    """Return texts as a list in a sentence: `a, b and c`."""
    return f"{', '.join(items[:-1])} and {items[-1]}" if len(items) > 1 else "".join(items)


def of(count: int, total: int, noun: str) -> str:
    """Return a part of a number, such as `1 of 2 requests`, or `the only request`."""
    return f"the only {noun}" if total == 1 and count == 1 else f"{count} of {plural(total, noun)}"


def part_of(count: int, answered: int) -> str:
    """Return a part of the answers, such as `1 of 2 answers`, or `all 2 answers`."""
    return f"all {plural(answered, 'answer')}" if count == answered else f"{count} of {plural(answered, 'answer')}"


def was(count: int) -> str:
    """Return `was` for one, and `were` for any other number."""
    return "was" if count == 1 else "were"


def _exact(metric: Metric, value: float) -> str:
    if not metric.is_latency:
        return f"{100 * value:.10g}%"
    return f"{value * 1e3:.10g}ms" if value < 1 else f"{value:.10g}s"


def since(seconds: float) -> str:
    """Return a time after the warm-up as the beginning of something that lasts: `from 42s on`, `from the start`."""
    return f"from {format_duration(round(seconds, 1))} on" if seconds >= 0.05 else "from the start"
