"""`spec.slo` and `spec.baselineRef`: what the verdict depends on."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field, model_validator

from llmendpoint_common.api import defaults
from llmendpoint_common.api.fields import ApiModel, ObjectName, rules
from llmendpoint_common.contracts.loadrun import METRICS, MetricName, Objective

_THRESHOLD = r"^([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$|^(100(\.0+)?|[0-9]{1,2}(\.[0-9]+)?)%$"


class SloItem(ApiModel):
    """An objective: a metric and its threshold."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "(self.metric in ['ErrorRate', 'Attainment']) != has(self.percentile)",
                "percentile is required for TTFT, TPOT and RequestLatency, and not allowed for ErrorRate and "
                "Attainment",
            ),
            (
                "(self.metric in ['ErrorRate', 'Attainment']) == self.threshold.endsWith('%')",
                "threshold must be a percentage such as 1% for ErrorRate and Attainment, and a duration such as 250ms "
                "for TTFT, TPOT and RequestLatency",
            ),
            (
                "self.threshold.endsWith('%') || !self.threshold.matches('[0-9]{9}|[0-9]{5}h') && "
                "duration(self.threshold) <= duration('720h')",
                "the threshold of a latency must be at most 720h (30 days)",
            ),
            (
                "self.metric != 'Attainment' || self.threshold.matches('[1-9]')",
                "the threshold of Attainment must be more than 0%, because every run meets 0%",
            ),
            (
                "self.metric != 'ErrorRate' || !self.threshold.endsWith('%') || "
                "double(self.threshold.replace('%', '')) < 100.0",
                "the threshold of ErrorRate must be less than 100%, because every run meets 100%",
            ),
        )
    )

    metric: MetricName = Field(
        description="Metric of the objective. TTFT: time to first token. TPOT: time per output token. RequestLatency: "
        "time from sending a request to the end of its response. ErrorRate: share of failed requests. Attainment: "
        "share of all requests, including failed ones, that met every latency objective."
    )
    percentile: int | None = Field(
        None,
        ge=1,
        le=99,
        description="Percentile of the latency over all requests, for example 95. A failed request counts as one that "
        "was never answered. Required for TTFT, TPOT and RequestLatency, and not allowed for ErrorRate and Attainment.",
    )
    threshold: Annotated[str, Field(pattern=_THRESHOLD, min_length=2, max_length=32)] = Field(
        description="Threshold of the metric: a percentage such as 1% for ErrorRate and Attainment, a duration such as "
        "250ms for all others. The measured value must be at least the threshold for Attainment, and at most the "
        "threshold for all other metrics. Attainment must be more than 0% and ErrorRate less than 100%, because every "
        "run meets those."
    )

    @model_validator(mode="after")
    def _check(self) -> SloItem:
        """Enforce the CEL rules also for clusters and files that bypass them."""
        Objective(self.metric, METRICS[self.metric].parse(self.threshold), self.percentile)
        return self


class BaselineReference(ApiModel):
    """An earlier load test, whose result this run is compared with."""

    name: ObjectName = Field(
        description="Name of a LoadTest in the same namespace that has ended with a complete result. The run waits for "
        "it, and uses a copy of its result from the time before the start."
    )
    max_regression: Annotated[str, Field(pattern=r"^[0-9]{1,3}(\.[0-9]{1,3})?%$", max_length=8)] = Field(
        defaults.MAX_REGRESSION,
        description="Percentage by which a latency may be higher, or the throughput lower, than that of the baseline. "
        "If it is more, and the difference is statistically significant, the verdict is Failed with the reason "
        f"Regression. Defaults to {defaults.MAX_REGRESSION}.",
    )
