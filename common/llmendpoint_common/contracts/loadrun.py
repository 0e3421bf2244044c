"""What other components may know of a load run: result schema, verdicts, exit codes and names in the cluster."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from llmendpoint_common.process import exit_codes

STATUS_PORT = 8001
RESULT_KEY = "summary.json"


class Category(StrEnum):
    """The shipped categories of questions; users may add their own names."""

    CODING = "Coding"
    CREATIVE = "Creative"
    ANALYSIS = "Analysis"
    REASONING = "Reasoning"
    MATH = "Math"
    SCIENCE = "Science"
    HUMANITIES = "Humanities"
    SUMMARIZATION = "Summarization"
    EXTRACTION = "Extraction"
    ROLEPLAY = "Roleplay"
    MULTILINGUAL = "Multilingual"


class Api(StrEnum):
    """Which API the requests speak."""

    OLLAMA_CHAT = "ollama-chat"
    OPENAI_CHAT = "openai-chat"


class Verdict(StrEnum):
    """How a run ended; None is a run without objectives."""

    PASSED = "Passed"
    FAILED = "Failed"
    INVALID = "Invalid"
    ERROR = "Error"
    NONE = "None"


EXIT_CODES = {
    Verdict.PASSED: exit_codes.OK,
    Verdict.NONE: exit_codes.OK,
    Verdict.FAILED: exit_codes.FAILED,
    Verdict.INVALID: exit_codes.INVALID,
    Verdict.ERROR: exit_codes.ERROR,
}


class MetricName(StrEnum):
    """What an objective can bound (vLLM's names; `docs/load-tests.md` has the formulas)."""

    TTFT = "TTFT"
    TPOT = "TPOT"
    REQUEST_LATENCY = "RequestLatency"
    ERROR_RATE = "ErrorRate"
    ATTAINMENT = "Attainment"


LATENCY_METRICS = frozenset({MetricName.TTFT, MetricName.TPOT, MetricName.REQUEST_LATENCY})


class Quantity(msgspec.Struct, frozen=True):
    """A number and its unit: seconds, requests/s, tokens/s or ratio."""

    value: float
    unit: str


class Percentiles(msgspec.Struct, frozen=True):
    """Percentiles of a latency, in `unit`; `count` requests had one."""

    count: int
    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    max: float
    unit: str = "seconds"


class ObjectiveResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """One objective, threshold and measured value side by side, as people read them."""

    metric: MetricName
    threshold: str
    measured: str
    met: bool
    percentile: int | None = None


class CategoryResult(msgspec.Struct, frozen=True, rename="camel"):
    """One category of questions."""

    category: str
    requests: int
    errors: int
    output_tokens: int
    ttft: Percentiles | None
    request_latency: Percentiles | None


class Summary(msgspec.Struct, frozen=True, rename="camel"):
    """The result of a run: `summary.json`. `histograms` are HDR counts in microseconds, so that runs merge exactly."""

    verdict: Verdict
    reason: str
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
    """How far a run is: the body of the load pod's `/status`."""

    percent: int
    requests: int
    errors: int
    in_flight: int
    output_tokens: int
    elapsed_seconds: float
    ttft_p95_seconds: float | None = None
