"""Numbers as text, for verdicts and summaries."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from llmendpoint_common.contracts.loadrun import Metric

#: Text of a latency percentile that so many requests missed that it has no value.
NEVER_ANSWERED = "never answered"


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


def was(count: int) -> str:
    """Return `was` for one, and `were` for any other number."""
    return "was" if count == 1 else "were"


def _exact(metric: Metric, value: float) -> str:
    if not metric.is_latency:
        return f"{100 * value:.10g}%"
    return f"{value * 1e3:.10g}ms" if value < 1 else f"{value:.10g}s"
