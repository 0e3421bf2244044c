"""The run document: a typed description of a load run.

It contains no secrets and no settings that are specific to one machine. The operator writes it into a ConfigMap,
`llmendpoint load` builds it from its flags, and the load generator reads it with `--run FILE`.

The document has no version. New fields are always optional, an optional field without a value is omitted, and unknown
fields are rejected. An older load generator therefore accepts a newer document only if the document does not use fields
that it does not know. All other fields are written even if they have their defaults, so the document shows the whole
run.
"""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from llmendpoint_common.contracts.loadrun.headers import check_body, check_headers
from llmendpoint_common.contracts.loadrun.load import MAX_SECONDS, RunLoad, Section
from llmendpoint_common.contracts.loadrun.metrics import METRICS, MIN_SHARE_REQUESTS, MetricName, needed_for
from llmendpoint_common.process.errors import RunDocumentError

#: The key of the document in its ConfigMap, and the name of the mounted file.
RUN_KEY = "run.json"


class Api(StrEnum):
    """APIs of the requests."""

    OLLAMA_CHAT = "ollama-chat"
    OLLAMA_GENERATE = "ollama-generate"
    OPENAI_CHAT = "openai-chat"


class PrefixCache(StrEnum):
    """Whether requests can share the server's prefix cache. Unique puts random text in front of each prompt."""

    SHARED = "shared"
    UNIQUE = "unique"


class Order(StrEnum):
    """Orders of the questions."""

    SHUFFLED = "shuffled"
    SEQUENTIAL = "sequential"


class RunTarget(Section, frozen=True):
    """The server under test."""

    url: Annotated[
        str,
        Meta(
            description="URL of the server, such as http://127.0.0.1:11435. If it has a path, the path is prepended to "
            "the path of the API. A URL that ends with the path of the API, or with a part of it such as /v1 or /api, "
            "is also accepted. A query is sent with each request."
        ),
    ]
    api: Annotated[Api, Meta(description="API of the requests.")] = Api.OLLAMA_CHAT
    insecure_skip_verify: Annotated[
        bool | None,
        Meta(description="Whether any TLS certificate is accepted. The connection can then be intercepted."),
    ] = None


class RunSynthetic(Section, frozen=True):
    """Generated prompts of a given length, instead of questions."""

    input_tokens: Annotated[int, Meta(ge=1, le=1_000_000, description="Approximate number of tokens per prompt.")]
    output_tokens: Annotated[int, Meta(ge=1, le=1_000_000, description="Maximum number of tokens per response.")]


class RunTrace(Section, frozen=True):
    """Replay of a trace, which determines the times and the lengths of the requests.

    The file of the trace is not part of the document. It is set with `--trace`.
    """

    time_scale: Annotated[
        float, Meta(gt=0, le=1e6, description="Factor for the times of the trace: 0.5 replays it twice as fast.")
    ] = 1.0
    duration_seconds: Annotated[
        Annotated[float, Meta(gt=0, le=MAX_SECONDS)] | None,
        Meta(
            description="Part of the trace to replay, in seconds from its beginning, after scaling. Replaces "
            "load.durationSeconds. If absent, the whole trace is replayed."
        ),
    ] = None


class RunQuestions(Section, frozen=True):
    """Selection and order of the questions.

    The folder of question files is not part of the document. It is set with `--questions`.
    """

    categories: Annotated[tuple[str, ...], Meta(description="Categories of questions. If empty, all are used.")] = ()
    order: Annotated[Order, Meta(description="Shuffled with the seed, or in the order of the files.")] = Order.SHUFFLED


class RunRequest(Section, frozen=True):
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
    prefix_cache: Annotated[
        PrefixCache | None,
        Meta(
            description="unique puts random text in front of each prompt, so that no prompt is cached. Defaults to "
            "shared."
        ),
    ] = None
    options: Annotated[
        Annotated[dict[str, Any], Meta(max_length=64)] | None,
        Meta(description="Ollama: options of the model, such as num_ctx. They override maxTokens and temperature."),
    ] = None
    body: Annotated[
        Annotated[dict[str, Any], Meta(max_length=64)] | None,
        Meta(description="Additional fields of the request body, such as keep_alive or think."),
    ] = None
    headers: Annotated[
        Annotated[dict[str, str], Meta(max_length=64)] | None,
        Meta(description="Additional headers. Credentials do not belong here, because the document is not secret."),
    ] = None
    temperature: Annotated[
        float | None, Meta(description="Sampling temperature. If absent, the server's default applies.")
    ] = None
    timeout_seconds: Annotated[
        float,
        Meta(
            gt=0,
            le=MAX_SECONDS,
            description="Timeout in seconds for opening a connection, and again for the request with its response.",
        ),
    ] = 300.0

    def __post_init__(self) -> None:
        check_headers(self.headers or {})
        check_body(self.body or {})


class Objective(Section, frozen=True):
    """A metric and its threshold: the minimum of Attainment, the maximum of every other metric."""

    metric: Annotated[MetricName, Meta(description="Metric of the objective.")]
    threshold: Annotated[float, Meta(ge=0, description="Seconds for a latency, a fraction from 0 to 1 for a share.")]
    percentile: Annotated[
        Annotated[int, Meta(ge=1, le=99)] | None,
        Meta(description="Percentile of the latency. Not allowed for ErrorRate and Attainment."),
    ] = None

    @property
    def needed(self) -> int:
        """The number of requests that the objective needs to be judged."""
        return MIN_SHARE_REQUESTS if self.percentile is None else needed_for(self.percentile)

    def __post_init__(self) -> None:
        if METRICS[self.metric].is_latency:
            if self.percentile is None:
                raise ValueError(f"percentile is required for {self.metric}")
            # The comparison with NaN is false too.
            if not self.threshold <= MAX_SECONDS:
                raise ValueError(f"the threshold of {self.metric} must be at most {MAX_SECONDS / 3600:.0f}h (30 days)")
        elif self.percentile is not None:
            raise ValueError(f"percentile is not allowed for {self.metric}, which is a share of all requests")
        elif self.threshold > 1:
            raise ValueError(f"the threshold of {self.metric} must be a fraction from 0 to 1")
        elif self.metric is MetricName.ATTAINMENT and self.threshold == 0:
            raise ValueError("the threshold of Attainment must be more than 0%, because every run meets 0%")
        elif self.metric is MetricName.ERROR_RATE and self.threshold == 1:
            raise ValueError("the threshold of ErrorRate must be less than 100%, because every run meets 100%")


class RunBaseline(Section, frozen=True):
    """Comparison with an earlier run, whose summary is set with `--baseline`."""

    max_regression: Annotated[
        float,
        Meta(ge=0, le=10, description="Allowed relative regression of a latency or of the throughput: 0.1 is 10 %."),
    ] = 0.1


class RunDocument(Section, frozen=True):
    """Description of a load run, which the load generator reads with `--run FILE`."""

    target: Annotated[RunTarget, Meta(description="Server under test.")]
    model: Annotated[str, Meta(min_length=1, description="Model to send requests to.")]
    load: Annotated[RunLoad, Meta(description="Amount and duration of the load.")]
    questions: Annotated[RunQuestions, Meta(description="Selection and order of the questions.")] = RunQuestions()
    synthetic: Annotated[RunSynthetic | None, Meta(description="Generated prompts instead of questions.")] = None
    trace: Annotated[RunTrace | None, Meta(description="Replay of a trace instead of questions and load.")] = None
    baseline: Annotated[RunBaseline | None, Meta(description="Comparison with an earlier run.")] = None
    request: Annotated[RunRequest, Meta(description="Settings that apply to every request.")] = RunRequest()
    objectives: Annotated[
        tuple[Objective, ...],
        Meta(description="Objectives that the verdict depends on. If empty, the verdict is None."),
    ] = ()

    @property
    def has_conversations(self) -> bool:
        """Whether the run asks questions in conversations of several turns."""
        sessions = self.load.sessions
        return sessions is not None and sessions.turns != 1 and self.synthetic is None

    def __post_init__(self) -> None:
        if self.synthetic is not None and self.trace is not None:
            raise ValueError("set only one of synthetic and trace")
        if self.request.options is not None and self.target.api is Api.OPENAI_CHAT:
            raise ValueError("request.options is only allowed with the APIs of Ollama; use request.body")
        load = self.load
        has_load = any(
            item is not None for item in (load.concurrency, load.sessions, load.rate, load.stages, load.sweep)
        )
        if has_load == (self.trace is not None):
            raise ValueError(
                "load.concurrency, sessions, rate, stages and sweep are not allowed with trace"
                if has_load
                else "set one of load.concurrency, load.sessions, load.rate, load.stages and load.sweep, or trace"
            )
        if load.sweep is not None and not self.objectives:
            raise ValueError("load.sweep requires objectives, which decide whether a rate is too high")


def write_run_document(document: RunDocument) -> str:
    """Return a document as indented JSON, without optional fields that have no value."""
    fields = _without_null(msgspec.to_builtins(document))
    return msgspec.json.format(msgspec.json.encode(fields), indent=2).decode() + "\n"


def parse_run_document(data: bytes, file: str) -> RunDocument:
    """Return the document in `data`. Raises RunDocumentError, which names `file` and the field."""
    try:
        document = msgspec.json.decode(data, type=RunDocument)
        # msgspec keeps the last value of a repeated field. Numbers are not parsed, because Python limits their length.
        json.loads(data.decode(), object_pairs_hook=_unrepeated, parse_int=str, parse_float=str)
        return document
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$")
        field = path.strip(".`")
        raise RunDocumentError(f"{file}: {f'{field}: ' if field else ''}{reason}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RunDocumentError(f"{file}: not valid JSON: {error}") from error
    except _RepeatedFieldError as error:
        raise RunDocumentError(f"{file}: {error}") from None


class _RepeatedFieldError(Exception):
    """An object of a document has a field twice."""


def _unrepeated(pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise _RepeatedFieldError(f"the field {name!r} is repeated in one object")
        seen.add(name)


def _without_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_null(item) for name, item in value.items() if item is not None}
    return [_without_null(item) for item in value] if isinstance(value, list | tuple) else value
