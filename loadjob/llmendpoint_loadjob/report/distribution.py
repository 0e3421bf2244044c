"""Cumulative distributions of latencies, read from the histograms of a summary."""

from __future__ import annotations

from typing import NamedTuple

from llmendpoint_common.contracts.loadrun import Summary
from llmendpoint_common.process.errors import RunResultError
from llmendpoint_common.results.measurements import Measurements

#: Shares of the answered requests at which the curve is drawn.
_SHARES = tuple(sorted({*(index / 200 for index in range(1, 201)), 0.99, 0.999}))


class Distribution(NamedTuple):
    """Shares of all requests whose latency is at most a value. `points` are pairs of seconds and share.

    The last share is less than 1 if requests failed, because a failed request was never answered.
    """

    points: tuple[tuple[float, float], ...]
    requests: int


def distribution(summary: Summary, name: str) -> Distribution | None:
    """Return the distribution of a latency, by its field in the summary, or None if it was not measured."""
    try:
        whole = Measurements.decode(summary.measurements).whole
    except RunResultError:
        return None
    histogram = whole.histograms.get(name)
    if histogram is None or not histogram.count:
        return None
    # A request that was answered and has no such latency is unknown, and neither early nor late.
    unknown = max(0, whole.answered - histogram.count)
    top = histogram.count / max(1, whole.requests - unknown)
    points = [(histogram.percentile(100 * share), share * top) for share in _SHARES]
    return Distribution(((points[0][0], 0.0), *points), histogram.count)
