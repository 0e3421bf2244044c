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

    `measured` is NOTHING_MEASURED if no request had a value.
    """

    metric: MetricName
    threshold: _Name
    measured: _Name
    met: bool
    percentile: Annotated[int, Meta(ge=1, le=99)] | None = None


class CategoryResult(msgspec.Struct, frozen=True, rename="camel"):
    """The result of a category of questions. Latencies cover successful requests only."""

    category: _Name
    requests: _Count
    errors: _Count
    output_tokens: _Count
    ttft: Percentiles | None
    request_latency: Percentiles | None


class Summary(msgspec.Struct, frozen=True, rename="camel"):
    """The result of a run, as written to `summary.json`.

    Token counts and latencies cover successful requests only. `histograms` holds the counts of HDR histograms by
    bucket, in microseconds; the histograms of several results can be merged without loss. `partial` is true if the run
    was stopped before its end; its figures cover the requests that had ended by then.
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
    input_tokens: _Count
    output_tokens: _Count
    output_tokens_per_second: Quantity
    ttft: Percentiles | None
    tpot: Percentiles | None
    request_latency: Percentiles | None
    queue_delay: Percentiles | None
    ttft_scheduled: Percentiles | None
    request_latency_scheduled: Percentiles | None
    client_lag: Percentiles | None
    slo: Annotated[tuple[ObjectiveResult, ...], Meta(max_length=64)]
    categories: Annotated[tuple[CategoryResult, ...], Meta(max_length=MAX_CATEGORIES)]
    histograms: Annotated[dict[str, _Counts], Meta(max_length=64)]
    partial: bool = False

    def __post_init__(self) -> None:
        """Refuse what contradicts itself: two categories of one name, or a verdict on a run that was interrupted.

        The name identifies a category in the status of a LoadTest.
        """
        if len({item.category for item in self.categories}) < len(self.categories):
            raise ValueError("two categories have the same name")
        if self.partial and self.verdict is not Verdict.NONE:
            raise ValueError(f"a partial result has the verdict {self.verdict}")


class Progress(msgspec.Struct, frozen=True, rename="camel"):
    """Progress of a run: the body of the load pod's `/status`."""

    percent: Annotated[int, Meta(ge=0, le=100)]
    requests: _Count
    errors: _Count
    in_flight: _Count
    output_tokens: _Count
    elapsed_seconds: _Number
    ttft_p95_seconds: _Number | None = None


def parse_result(text: str) -> Summary:
    """Return the summary in `text`. Raises RunResultError, which names the field and quotes no value."""
    if len(text) > MAX_RESULT_BYTES:
        raise RunResultError(f"the result is larger than {MAX_RESULT_BYTES // 1024} KiB")
    try:
        return msgspec.json.decode(text, type=Summary)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        reason = re.sub("(?s)(Invalid enum value) .* - at ", r"\1 - at ", str(error))
        raise RunResultError(f"the result is not valid: {reason}") from None
