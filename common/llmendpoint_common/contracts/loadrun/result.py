"""Result of a load run: verdicts with reasons and exit codes, `summary.json`, and the progress that `/status` shows.

The operator reads both from a pod that it does not trust, so every number and text has bounds, which decoding checks.
The bounds are far above what the load generator writes.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from llmendpoint_common.contracts.loadrun.barrier import StartState
from llmendpoint_common.contracts.loadrun.document import Api
from llmendpoint_common.contracts.loadrun.metrics import MetricName
from llmendpoint_common.process import exit_codes
from llmendpoint_common.process.errors import RunResultError

#: The port of `/status` and `/metrics` in a load pod.
STATUS_PORT = 8001
#: The key of the summary in the ConfigMap that receives the result.
RESULT_KEY = "summary.json"
#: Text of `ObjectiveResult.measured` if no request had a value of the metric.
NOTHING_MEASURED = "nothing measured"
#: Maximum size of a summary. A ConfigMap is not larger.
MAX_RESULT_BYTES = 1024 * 1024
#: Bounds of the categories of a run, and of the name of one.
MAX_CATEGORIES = 256
MAX_CATEGORY_LENGTH = 64
#: Maximum number of objectives that a load pod reports while it runs.
MAX_OBJECTIVES = 256
#: A text of one line, without control characters.
LINE_PATTERN = r"\A[^\x00-\x1f\x7f-\x9f\u2028\u2029]*\Z"

_Count = Annotated[int, Meta(ge=0, le=2**53)]
_Number = Annotated[float, Meta(ge=0, le=1e18)]
_Name = Annotated[str, Meta(max_length=MAX_CATEGORY_LENGTH, pattern=LINE_PATTERN)]
_Line = Annotated[str, Meta(max_length=4096, pattern=LINE_PATTERN)]
_Counts = Annotated[dict[str, int], Meta(max_length=100_000)]


class Verdict(StrEnum):
    """Verdicts of a run. `None` is the verdict of a run without objectives, and of one that was interrupted."""

    PASSED = "Passed"
    FAILED = "Failed"
    INVALID = "Invalid"
    ERROR = "Error"
    NONE = "None"


class VerdictReason(StrEnum):
    """Reasons of verdicts, which are also the reasons of the condition Passed."""

    OBJECTIVES_MET = "ObjectivesMet"
    OBJECTIVES_MISSED = "ObjectivesMissed"
    REGRESSION = "Regression"
    SATURATED = "Saturated"
    NOT_MEASURED = "NotMeasured"
    TARGET_UNREACHABLE = "TargetUnreachable"
    TOO_FEW_REQUESTS = "TooFewRequests"
    CLIENT_LIMITED = "ClientLimited"
    NO_OBJECTIVES = "NoObjectives"
    CANCELED = "Canceled"
    RUN_ERROR = "RunError"


_EXIT_CODES = {
    Verdict.PASSED: exit_codes.OK,
    Verdict.NONE: exit_codes.OK,
    Verdict.FAILED: exit_codes.FAILED,
    Verdict.INVALID: exit_codes.INVALID,
    Verdict.ERROR: exit_codes.ERROR,
}


def exit_code_of(verdict: Verdict, reason: VerdictReason) -> int:
    """Return the exit code of a load generator whose run ended with a verdict."""
    return exit_codes.INTERRUPTED if reason is VerdictReason.CANCELED else _EXIT_CODES[verdict]


class Quantity(msgspec.Struct, frozen=True):
    """A number with its unit: seconds, requests/s, tokens/s or ratio."""

    value: _Number
    unit: _Name


class Percentiles(msgspec.Struct, frozen=True):
    """Percentiles of a latency in `unit`, over the `count` requests for which it was measured."""

    count: _Count
    mean: _Number
    p50: _Number
    p90: _Number
    p95: _Number
    p99: _Number
    max: _Number
    unit: _Name = "seconds"


class ObjectiveResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """An objective with its threshold and the measured value, both as text with a unit (`250ms`, `1%`).

    `measured` is NOTHING_MEASURED if no request had a value. `low` and `high` are the bounds of its 95 % confidence
    interval, and `requests` is the number of requests that it was judged on, failed requests included. `judged` is
    false if the objective is neither met nor missed, and `met` is false then: it could not be measured, there were too
    few requests (`needed` is how many it needs), or the run cannot tell or was interrupted.
    """

    metric: MetricName
    threshold: _Name
    measured: _Name
    met: bool
    percentile: Annotated[int, Meta(ge=1, le=99)] | None = None
    low: _Name | None = None
    high: _Name | None = None
    requests: _Count = 0
    judged: bool = True
    needed: _Count = 0


class CategoryResult(msgspec.Struct, frozen=True, rename="camel"):
    """The result of a category of questions. Latencies cover successful requests only."""

    category: _Name
    requests: _Count
    errors: _Count
    #: None if the server reported no token counts.
    output_tokens: _Count | None
    ttft: Percentiles | None
    request_latency: Percentiles | None
    tpot: Percentiles | None = None
    #: Responses that were checked against `expect` of their questions, and those that matched.
    expected: _Count = 0
    matched: _Count = 0
    attained: _Count = 0


class ErrorResult(msgspec.Struct, frozen=True, rename="camel"):
    """A class of errors: their number, what the server said in one of them, without secrets, and what to do."""

    error_class: _Name
    count: _Count
    example: _Line = ""
    advice: _Line = ""


class Window(msgspec.Struct, frozen=True, rename="camel"):
    """Durations of the parts of a run in seconds. Rates are those of the load, which the warm-up precedes.

    `drained` is the number of requests that were answered after the load, and so are in no rate.
    """

    warmup_seconds: _Number
    load_seconds: _Number
    drain_seconds: _Number
    drained: _Count = 0


class Environment(msgspec.Struct, frozen=True, rename="camel"):
    """Where and against what a run ran. What is unknown is empty."""

    version: _Line = ""
    python: _Line = ""
    platform: _Line = ""
    cpus: _Number = 0.0
    server: _Line = ""
    model_digest: _Line = ""
    gpu: _Line = ""
    pods: _Count = 1


class TimelineBucket(msgspec.Struct, frozen=True, rename="camel"):
    """A part of the timeline. `start_seconds` counts from the end of the warm-up, and is negative before it.

    `in_flight` is the number of requests in flight at the end of the part. Latencies are those of the requests that
    were sent in it, to 3 %.
    """

    start_seconds: Annotated[float, Meta(ge=-1e18, le=1e18)]
    offered: _Count
    sent: _Count
    completed: _Count
    errors: _Count
    in_flight: _Count
    output_tokens: _Count
    ttft: Percentiles | None = None
    request_latency: Percentiles | None = None


class TtftPart(msgspec.Struct, frozen=True, rename="camel"):
    """A part of the time to first token: client, network, proxy, queue, load or prefill."""

    name: _Name
    latency: Percentiles


class StepResult(msgspec.Struct, frozen=True, rename="camel"):
    """A stage, or a rate of a sweep. `met` is unknown if the run has no objectives.

    `reason` says why a rate of a sweep was too high although it met the objectives. Otherwise it is empty.
    """

    name: _Name
    offered_rate: _Number
    completed_rate: _Number
    requests: _Count
    errors: _Count
    seconds: _Number
    ttft: Percentiles | None = None
    request_latency: Percentiles | None = None
    met: bool | None = None
    reason: _Line = ""


class SweepResult(msgspec.Struct, frozen=True, rename="camel"):
    """The highest rate that met the objectives, in requests per second, with its 95 % confidence interval."""

    rate: _Number | None
    low: _Number
    high: _Number
    message: _Line = ""


class Saturation(msgspec.Struct, frozen=True, rename="camel"):
    """Since when the server could not follow the offered rate, in seconds after the warm-up.

    The time is the beginning of the requests whose growth shows it, and not the time at which it was noticed.
    """

    at_seconds: _Number
    offered_rate: _Number
    message: _Line = ""


class RegressionResult(msgspec.Struct, frozen=True, rename="camel"):
    """A comparison with the baseline. `change` is relative, and positive if it is worse.

    `judged` is false if the comparison cannot tell whether the metric is worse by more than is allowed. `needed` is
    then about how many requests both runs need for it, or 0 if no number is enough or it is not known.
    """

    metric: _Name
    baseline: _Name
    measured: _Name
    change: Annotated[float, Meta(ge=-1e18, le=1e18)]
    regressed: bool
    message: _Line = ""
    judged: bool = True
    needed: _Count = 0


class MeterAudit(msgspec.Struct, frozen=True, rename="camel"):
    """Comparison of the tokens that the client was told with those that the sidecars metered, by request ID."""

    requests: _Count
    found: _Count
    client_tokens: _Count
    metered_tokens: _Count
    differing: _Count
    message: _Line = ""


class Summary(msgspec.Struct, frozen=True, rename="camel"):
    """The result of a run, as written to `summary.json`.

    Token counts and latencies cover requests that were answered with content. Rates are those of the load, so the drain
    is not part of them. `measurements` has everything that is needed to merge the results of several pods without loss,
    and to compare runs (`llmendpoint_common.results.measurements`). `partial` is true if the run was stopped before its
    end; its figures cover the requests that had ended by then. What is unknown is None.
    """

    verdict: Verdict
    reason: VerdictReason
    message: _Line
    target: _Line
    model: _Line
    api: Api
    seed: int
    duration: Quantity
    requests: _Count
    errors: _Count
    errors_by_class: _Counts
    requests_per_second: Quantity
    goodput: Quantity
    attainment: Quantity
    input_tokens: _Count | None
    output_tokens: _Count | None
    output_tokens_per_second: Quantity | None
    ttft: Percentiles | None
    tpot: Percentiles | None
    request_latency: Percentiles | None
    queue_delay: Percentiles | None
    ttft_scheduled: Percentiles | None
    request_latency_scheduled: Percentiles | None
    client_lag: Percentiles | None
    slo: Annotated[tuple[ObjectiveResult, ...], Meta(max_length=64)]
    categories: Annotated[tuple[CategoryResult, ...], Meta(max_length=MAX_CATEGORIES)]
    measurements: dict[str, object] = {}
    partial: bool = False
    started_at: _Line = ""
    ended_at: _Line = ""
    run: dict[str, object] | None = None
    environment: Environment = Environment()
    window: Window | None = None
    offered: _Count = 0
    sent: _Count = 0
    offered_rate: Quantity | None = None
    sent_rate: Quantity | None = None
    connect: Percentiles | None = None
    ttfo: Percentiles | None = None
    inter_chunk_latency: Percentiles | None = None
    server_queue: Percentiles | None = None
    server_load: Percentiles | None = None
    server_prefill: Percentiles | None = None
    server_decode: Percentiles | None = None
    server_tpot: Percentiles | None = None
    tokens_per_chunk: _Number | None = None
    #: Share of the input tokens that the server had in its prefix cache.
    cached_input_ratio: _Number | None = None
    #: One sentence per metric that could not be measured.
    unknown: Annotated[tuple[_Line, ...], Meta(max_length=64)] = ()
    error_details: Annotated[tuple[ErrorResult, ...], Meta(max_length=64)] = ()
    timeline: Annotated[tuple[TimelineBucket, ...], Meta(max_length=1000)] = ()
    ttft_split: Annotated[tuple[TtftPart, ...], Meta(max_length=16)] = ()
    steps: Annotated[tuple[StepResult, ...], Meta(max_length=1000)] = ()
    sweep: SweepResult | None = None
    saturation: Saturation | None = None
    regressions: Annotated[tuple[RegressionResult, ...], Meta(max_length=64)] = ()
    meter_audit: MeterAudit | None = None
    throttled_seconds: _Number = 0.0
    #: Failed requests of the class empty: answers without content.
    empty: _Count = 0
    #: Largest p99 of the delays of the event loop in any pod.
    max_lag_p99_seconds: _Number = 0.0
    #: What is not the same as in the baseline: model, digest, GPU or settings.
    baseline_differences: Annotated[tuple[_Line, ...], Meta(max_length=64)] = ()

    def __post_init__(self) -> None:
        """Refuse what contradicts itself: two categories of one name, or a verdict on a run that was interrupted.

        The name identifies a category in the status of a LoadTest.
        """
        if len({item.category for item in self.categories}) < len(self.categories):
            raise ValueError("two categories have the same name")
        if self.partial and self.verdict is not Verdict.NONE:
            raise ValueError(f"a partial result has the verdict {self.verdict}")


class ObjectiveSoFar(msgspec.Struct, frozen=True, rename="camel"):
    """An objective on the requests of one load pod until now. Counts of several pods can be added, percentiles cannot.

    `met` is the number of requests within the threshold (for ErrorRate, that did not fail), and `unknown` the number of
    those that cannot be judged. `value` is the percentile of a latency in seconds. It is None for shares, if nothing
    was measured, and if too many requests were never answered.
    """

    metric: MetricName
    percentile: Annotated[int, Meta(ge=1, le=99)] | None
    requests: _Count
    met: _Count
    unknown: _Count = 0
    value: _Number | None = None


class Progress(msgspec.Struct, frozen=True, rename="camel"):
    """Progress of a run: the body of the load pod's `/status`."""

    percent: Annotated[int, Meta(ge=0, le=100)]
    requests: _Count
    errors: _Count
    in_flight: _Count
    output_tokens: _Count
    elapsed_seconds: _Number
    ttft_p95_seconds: _Number | None = None
    #: What the run waits for, as a short sentence, and the stage or rate that is being run.
    awaiting: _Line = ""
    stage: _Line = ""
    offered_rate: _Number | None = None
    completed_rate: _Number | None = None
    #: The most frequent error, with its number and reason.
    error: _Line = ""
    #: Whether a pod of a run with several pods has started its load, or waits for the order to start.
    start: StartState = StartState.STARTED
    #: The objectives of the run document, in its order. Empty elsewhere than in `/status`.
    so_far: Annotated[tuple[ObjectiveSoFar, ...], Meta(max_length=MAX_OBJECTIVES)] = ()


def parse_result(text: str) -> Summary:
    """Return the summary in `text`. Raises RunResultError, which names the field and quotes no value."""
    if len(text) > MAX_RESULT_BYTES:
        raise RunResultError(f"the result is larger than {MAX_RESULT_BYTES // 1024} KiB")
    try:
        return msgspec.json.decode(text, type=Summary)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        reason = re.sub("(?s)(Invalid enum value) .* - at ", r"\1 - at ", str(error))
        raise RunResultError(f"the result is not valid: {reason}") from None
