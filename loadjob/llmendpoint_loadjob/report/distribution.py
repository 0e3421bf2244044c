"""Cumulative distributions of latencies, read from the histograms of a summary."""

from __future__ import annotations

from typing import NamedTuple

from llmendpoint_common.contracts.loadrun import Summary
from llmendpoint_loadjob.result.histogram import Histogram

_POINTS = 200


class Distribution(NamedTuple):
    """Shares of all requests whose latency is at most a value. `points` are pairs of seconds and share.

    The last share is less than 1 if requests failed, because a failed request was never answered.
    """

    points: tuple[tuple[float, float], ...]
    count: int


def distribution(summary: Summary, name: str) -> Distribution | None:
    """Return the distribution of a latency, by its field in the summary, or None if it was not measured."""
    fields = summary.histograms.get(name)
    if not fields:
        return None
    histogram = Histogram.load(fields)
    if not histogram.count:
        return None
    measured = histogram.count / max(summary.requests, histogram.count)
    # Requests without a value of this latency, such as one token for TPOT, are neither failed nor answered late.
    answered = 1 - summary.errors / summary.requests if summary.requests else 1.0
    top = max(measured, answered) if measured else answered
    shares = sorted({*(index / _POINTS for index in range(1, _POINTS + 1)), 0.99, 0.999, 1.0})
    points = [(histogram.percentile(100 * share), share * top) for share in shares]
    return Distribution(((points[0][0], 0.0), *points), histogram.count)
