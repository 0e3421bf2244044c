"""The run document: a typed description of a load run.

It contains no secrets and no settings that are specific to one machine. The operator writes it into a ConfigMap,
`llmendpoint load` builds it from its flags, and the load generator reads it with `--run FILE`.

The document has no version. New fields are always optional, an optional field without a value is omitted, and unknown
fields are rejected. An older load generator therefore accepts a newer document only if the document does not use fields
that it does not know. All other fields are written even if they have their defaults, so the document shows the whole
run.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from llmendpoint_common.contracts.loadrun.metrics import METRICS, MetricName
from llmendpoint_common.process.errors import RunDocumentError

#: The key of the document in its ConfigMap, and the name of the mounted file.
RUN_KEY = "run.json"
#: Users of a closed loop if neither a concurrency nor a rate is given.
DEFAULT_CONCURRENCY = 1
MAX_CONCURRENCY = 100_000
#: Requests per second.
MAX_RATE = 100_000


class Api(StrEnum):
    """APIs of the requests."""

    OLLAMA_CHAT = "ollama-chat"
    OPENAI_CHAT = "openai-chat"


class Arrivals(StrEnum):
    """Distributions of the gaps between the requests of an open loop."""

    CONSTANT = "constant"
    POISSON = "poisson"


class Order(StrEnum):
    """Orders of the questions."""

    SHUFFLED = "shuffled"
    SEQUENTIAL = "sequential"


class _Section(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Base of the document and its parts."""


class RunTarget(_Section, frozen=True):
    """The server under test."""

    url: Annotated[
        str,
        Meta(
            description="Base URL, such as http://127.0.0.1:11435. If it has a path, the path is prepended to the path "
            "of the API. A trailing /v1 is ignored."
        ),
    ]
    api: Annotated[Api, Meta(description="API of the requests.")] = Api.OLLAMA_CHAT


class RunLoad(_Section, frozen=True):
    """Amount and duration of the load. Exactly one of `concurrency` and `rate` is set."""

    concurrency: Annotated[
        Annotated[int, Meta(ge=1, le=MAX_CONCURRENCY)] | None,
        Meta(
            description="Closed loop: number of concurrent users. Each user sends the next request after the previous "
            "response has ended."
        ),
    ] = None
    rate: Annotated[
        Annotated[float, Meta(gt=0, le=MAX_RATE)] | None,
        Meta(description="Open loop: number of requests per second, regardless of response times."),
    ] = None
    arrivals: Annotated[
        Arrivals | None,
        Meta(description="Open loop: distribution of the gaps between requests. Defaults to poisson."),
    ] = None
    duration_seconds: Annotated[
        float, Meta(ge=0, description="Duration of the load in seconds, after the warm-up.")
    ] = 30.0
    warmup_seconds: Annotated[
        float,
        Meta(ge=0, description="Duration of the warm-up in seconds. Its requests are not part of the result."),
    ] = 0.0
    max_requests: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(
            description="Maximum number of requests, including those of the warm-up. If absent, the number is not "
            "limited."
        ),
    ] = None
    seed: Annotated[int, Meta(description="The same seed gives the same schedule and order of questions.")] = 1

    def __post_init__(self) -> None:
        if (self.concurrency is None) == (self.rate is None):
            raise ValueError("set exactly one of concurrency (closed loop) and rate (open loop)")
        if self.arrivals is not None and self.rate is None:
            raise ValueError("arrivals is only allowed with rate")


class RunQuestions(_Section, frozen=True):
    """Selection and order of the questions.

    The folder of question files is not part of the document. It is set with `--questions`.
    """

    categories: Annotated[tuple[str, ...], Meta(description="Categories of questions. If empty, all are used.")] = ()
    order: Annotated[Order, Meta(description="Shuffled with the seed, or in the order of the files.")] = Order.SHUFFLED


class RunRequest(_Section, frozen=True):
    """Settings that apply to every request."""

    stream: Annotated[
        bool,
        Meta(
            description="Whether to request streamed responses. A response that is not streamed has no time to first "
            "token."
        ),
    ] = True
    max_tokens: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(description="Maximum number of tokens per response. If absent, the limit of each question applies."),
    ] = None
    temperature: Annotated[
        float | None, Meta(description="Sampling temperature. If absent, the server's default applies.")
    ] = None
    timeout_seconds: Annotated[
        float,
        Meta(
            ge=0,
            description="Timeout in seconds for opening a connection, and again for the request with its response.",
        ),
    ] = 300.0


class Objective(_Section, frozen=True):
    """A metric and its threshold: the minimum of Attainment, the maximum of every other metric."""

    metric: Annotated[MetricName, Meta(description="Metric of the objective.")]
    threshold: Annotated[float, Meta(ge=0, description="Seconds for a latency, a fraction from 0 to 1 for a share.")]
    percentile: Annotated[
        Annotated[int, Meta(ge=1, le=99)] | None,
        Meta(description="Percentile of the latency. Not allowed for ErrorRate and Attainment."),
    ] = None

    def __post_init__(self) -> None:
        if METRICS[self.metric].is_latency:
            if self.percentile is None:
                raise ValueError(f"percentile is required for {self.metric}")
        elif self.percentile is not None:
            raise ValueError(f"percentile is not allowed for {self.metric}, which is a share of all requests")
        elif self.threshold > 1:
            raise ValueError(f"the threshold of {self.metric} must be a fraction from 0 to 1")


class RunDocument(_Section, frozen=True):
    """Description of a load run, which the load generator reads with `--run FILE`."""

    target: Annotated[RunTarget, Meta(description="Server under test.")]
    model: Annotated[str, Meta(min_length=1, description="Model to send requests to.")]
    load: Annotated[RunLoad, Meta(description="Amount and duration of the load.")]
    questions: Annotated[RunQuestions, Meta(description="Selection and order of the questions.")] = RunQuestions()
    request: Annotated[RunRequest, Meta(description="Settings that apply to every request.")] = RunRequest()
    objectives: Annotated[
        tuple[Objective, ...],
        Meta(description="Objectives that the verdict depends on. If empty, the verdict is None."),
    ] = ()


def write_run_document(document: RunDocument) -> str:
    """Return a document as indented JSON, without optional fields that have no value."""
    fields = _without_null(msgspec.to_builtins(document))
    return msgspec.json.format(msgspec.json.encode(fields), indent=2).decode() + "\n"


def parse_run_document(data: bytes, file: str) -> RunDocument:
    """Return the document in `data`. Raises RunDocumentError, which names `file` and the field."""
    try:
        return msgspec.json.decode(data, type=RunDocument)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$")
        field = path.strip(".`")
        raise RunDocumentError(f"{file}: {f'{field}: ' if field else ''}{reason}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RunDocumentError(f"{file}: not valid JSON: {error}") from error


def _without_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_null(item) for name, item in value.items() if item is not None}
    return [_without_null(item) for item in value] if isinstance(value, list | tuple) else value
