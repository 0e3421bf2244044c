"""Parser for objectives on the command line: `ttft:p95=1s`, `error_rate=1%`, `attainment=95%`."""

from __future__ import annotations

import re

from llmendpoint_common.contracts.loadrun import METRICS, Objective

_METRICS = {metric.flag: metric for metric in METRICS.values()}
_FORM = re.compile(r"([a-z_]+)(?::p([0-9]{1,2}))?=(.+)")


def parse_objective(text: str) -> Objective:
    """Parse an objective of the form `METRIC:pPERCENTILE=DURATION` or `METRIC=SHARE`. Raises ValueError."""
    match = _FORM.fullmatch(text)
    metric = _METRICS.get(match[1]) if match else None
    if match is None or metric is None:
        raise ValueError(f"{text!r} is not an objective; write it like ttft:p95=1s, error_rate=1% or attainment=95%")
    percentile = int(match[2]) if match[2] else None
    if metric.is_latency and not percentile:
        raise ValueError(f"{text!r} has no percentile; write it like {match[1]}:p95={match[3]}")
    if not metric.is_latency and percentile is not None:
        raise ValueError(f"{text!r} must not have a percentile, because {match[1]} is a share of all requests")
    return Objective(metric.name, metric.parse(match[3]), percentile)
