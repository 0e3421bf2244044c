"""Result of a load run: verdicts with reasons and exit codes, `summary.json`, and the progress that `/status` shows."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from llmendpoint_common.contracts.loadrun.document import Api
from llmendpoint_common.contracts.loadrun.metrics import MetricName
from llmendpoint_common.process import exit_codes

#: The port of `/status` and `/metrics` in a load pod.
STATUS_PORT = 8001
#: The key of the summary in the ConfigMap that receives the result.
RESULT_KEY = "summary.json"
#: Text of `ObjectiveResult.measured` if no request had a value of the metric.
NOTHING_MEASURED = "nothing measured"


class Verdict(StrEnum):
    """Verdicts of a run. `None` is the verdict of a run without objectives."""

    PASSED = "Passed"
    FAILED = "Failed"
    INVALID = "Invalid"
    ERROR = "Error"
    NONE = "None"


class VerdictReason(StrEnum):
    """Reasons of verdicts, which are also the reasons of the condition Passed."""

    OBJECTIVES_MET = "ObjectivesMet"
    OBJECTIVES_MISSED = "ObjectivesMissed"
    TOO_FEW_REQUESTS = "TooFewRequests"
    CLIENT_LIMITED = "ClientLimited"
    NO_OBJECTIVES = "NoObjectives"
    RUN_ERROR = "RunError"


EXIT_CODES = {
    Verdict.PASSED: exit_codes.OK,
    Verdict.NONE: exit_codes.OK,
    Verdict.FAILED: exit_codes.FAILED,
    Verdict.INVALID: exit_codes.INVALID,
    Verdict.ERROR: exit_codes.ERROR,
}


class Quantity(msgspec.Struct, frozen=True):
    """A number with its unit: seconds, requests/s, tokens/s or ratio."""

    value: float
    unit: str


class Percentiles(msgspec.Struct, frozen=True):
    """Percentiles of a latency in `unit`, over the `count` requests for which it was measured."""

    count: int
    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    max: float
    unit: str = "seconds"


class ObjectiveResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """An objective with its threshold and the measured value, both as text with a unit (`250ms`, `1%`).

    `measured` is NOTHING_MEASURED if no request had a value.
    """

    metric: MetricName
    threshold: str
    measured: str
    met: bool
    percentile: int | None = None


class CategoryResult(msgspec.Struct, frozen=True, rename="camel"):
    """The result of a category of questions. Latencies cover successful requests only."""

    category: str
    requests: int
    errors: int
    output_tokens: int
    ttft: Percentiles | None
    request_latency: Percentiles | None


class Summary(msgspec.Struct, frozen=True, rename="camel"):
    """The result of a run, as written to `summary.json`.

    Token counts and latencies cover successful requests only. `histograms` holds the counts of HDR histograms by
    bucket, in microseconds; the histograms of several results can be merged without loss.
    """

    verdict: Verdict
    reason: VerdictReason
    message: str
    target: str
    model: str
    api: Api
    seed: int
    duration: Quantity
    requests: int
    errors: int
    errors_by_class: dict[str, int]
    requests_per_second: Quantity
    goodput: Quantity
    attainment: Quantity
    input_tokens: int
    output_tokens: int
    output_tokens_per_second: Quantity
    ttft: Percentiles | None
    tpot: Percentiles | None
    request_latency: Percentiles | None
    queue_delay: Percentiles | None
    ttft_scheduled: Percentiles | None
    request_latency_scheduled: Percentiles | None
    client_lag: Percentiles | None
    slo: tuple[ObjectiveResult, ...]
    categories: tuple[CategoryResult, ...]
    histograms: dict[str, dict[str, int]]


class Progress(msgspec.Struct, frozen=True, rename="camel"):
    """Progress of a run: the body of the load pod's `/status`."""

    percent: int
    requests: int
    errors: int
    in_flight: int
    output_tokens: int
    elapsed_seconds: float
    ttft_p95_seconds: float | None = None
