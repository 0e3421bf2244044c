"""Objectives as people write them: `ttft:p95=1s`, `error_rate=1%`, `attainment=95%`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from llmendpoint_common.contracts.loadrun import LATENCY_METRICS, MetricName
from llmendpoint_common.process.units import format_duration, parse_duration, parse_share

_NAMES = {
    "ttft": MetricName.TTFT,
    "tpot": MetricName.TPOT,
    "request_latency": MetricName.REQUEST_LATENCY,
    "error_rate": MetricName.ERROR_RATE,
    "attainment": MetricName.ATTAINMENT,
}
_FORM = re.compile(r"([a-z_]+)(?::p([0-9]{1,2}))?=(.+)")


@dataclass(frozen=True)
class Objective:
    """A bound: seconds for latencies, a fraction for shares. Attainment is bounded from below, all else from above."""

    metric: MetricName
    percentile: int | None
    threshold: float

    def shown(self, value: float) -> str:
        """Return a value of this metric as a person reads it."""
        return format_duration(value) if self.metric in LATENCY_METRICS else f"{100 * value:.4g}%"

    def met_by(self, value: float) -> bool:
        """Tell whether a measured value keeps the bound."""
        return value >= self.threshold if self.metric is MetricName.ATTAINMENT else value <= self.threshold


def parse_objective(text: str) -> Objective:
    """Return the objective; ValueError says what is wrong with it."""
    match = _FORM.fullmatch(text)
    metric = _NAMES.get(match[1]) if match else None
    if match is None or metric is None:
        raise ValueError(f"{text!r} is not an objective; write it like ttft:p95=1s, error_rate=1% or attainment=95%")
    percentile = int(match[2]) if match[2] else None
    if metric in LATENCY_METRICS:
        if not percentile:
            raise ValueError(f"{text!r}: a latency needs a percentile, like {match[1]}:p95={match[3]}")
        return Objective(metric, percentile, parse_duration(match[3]))
    if percentile is not None:
        raise ValueError(f"{text!r}: {match[1]} is a share of all requests and has no percentile")
    return Objective(metric, None, parse_share(match[3]))
