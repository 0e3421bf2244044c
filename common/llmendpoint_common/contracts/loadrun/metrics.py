"""Table of the metrics of objectives: API name, flag, field of the summary, unit and direction.

The names are vLLM's; `docs/load-tests.md` has the formulas.
"""

from __future__ import annotations

from enum import StrEnum
from math import ceil
from typing import NamedTuple

from llmendpoint_common.process.units import format_duration, parse_duration, parse_share

#: Requests that a share needs to be judged. One of them is 5 %, as for the 95th percentile.
MIN_SHARE_REQUESTS = 20
#: Bounds of token counts that can be true. The longest contexts of models have 10 million tokens, and the fastest
#: servers of 2026 generate some thousand tokens per second for one request.
MAX_INPUT_TOKENS = 10_000_000
MAX_OUTPUT_TOKENS_PER_SECOND = 100_000


class MetricName(StrEnum):
    """Metric names, as written in the API, the run document and the summary."""

    TTFT = "TTFT"
    TPOT = "TPOT"
    REQUEST_LATENCY = "RequestLatency"
    ERROR_RATE = "ErrorRate"
    ATTAINMENT = "Attainment"


class Unit(StrEnum):
    """Units of metrics. Their names are those of `Quantity` in the summary."""

    SECONDS = "seconds"
    SHARE = "ratio"


class Metric(NamedTuple):
    """A row of the table.

    `flag` is the name in `--slo`, and `title` the name in a sentence. `field` is the field of a latency in the summary
    and in a sample, and empty for a share. A value in seconds has percentiles; a share is one number for the whole run.
    """

    name: MetricName
    flag: str
    title: str
    field: str
    unit: Unit
    higher_is_better: bool = False

    @property
    def is_latency(self) -> bool:
        """Whether the metric is a time measured per request. Objectives of such a metric have a percentile."""
        return self.unit is Unit.SECONDS

    def parse(self, text: str) -> float:
        """Return a threshold such as `250ms` in seconds, or a share such as `1%` as a fraction. Raises ValueError."""
        return parse_duration(text) if self.is_latency else parse_share(text)

    def format(self, value: float) -> str:
        """Return a value in seconds, or a fraction, as text with its unit."""
        return format_duration(value) if self.is_latency else f"{100 * value:.4g}%"

    def meets(self, value: float, threshold: float) -> bool:
        """Return whether a value is at least as good as the threshold."""
        return value >= threshold if self.higher_is_better else value <= threshold


_TABLE = (
    Metric(MetricName.TTFT, "ttft", "TTFT", "ttft", Unit.SECONDS),
    Metric(MetricName.TPOT, "tpot", "TPOT", "tpot", Unit.SECONDS),
    Metric(MetricName.REQUEST_LATENCY, "request_latency", "request latency", "request_latency", Unit.SECONDS),
    Metric(MetricName.ERROR_RATE, "error_rate", "error rate", "", Unit.SHARE),
    Metric(MetricName.ATTAINMENT, "attainment", "attainment", "", Unit.SHARE, higher_is_better=True),
)

METRICS = {metric.name: metric for metric in _TABLE}
LATENCY_METRICS = frozenset(metric.name for metric in _TABLE if metric.is_latency)


def needed_for(percent: int) -> int:
    """Return the number of requests that a percentile needs to be judged: 2 for p50, 20 for p95, 100 for p99."""
    return ceil(100 / (100 - percent))
