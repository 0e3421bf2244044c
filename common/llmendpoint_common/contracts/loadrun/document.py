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

from llmendpoint_common.contracts.loadrun.headers import check_body, check_headers
from llmendpoint_common.contracts.loadrun.metrics import METRICS, MIN_SHARE_REQUESTS, MetricName, needed_for
from llmendpoint_common.process.errors import RunDocumentError

#: The key of the document in its ConfigMap, and the name of the mounted file.
RUN_KEY = "run.json"
#: Users of a closed loop if neither a concurrency nor a rate is given.
DEFAULT_CONCURRENCY = 1
MAX_CONCURRENCY = 100_000
#: Requests per second.
MAX_RATE = 100_000


#: Upper bound of durations in seconds: 30 days.
MAX_SECONDS = 30 * 86400.0
MAX_STAGES = 100


class Api(StrEnum):
    """APIs of the requests."""

    OLLAMA_CHAT = "ollama-chat"
    OLLAMA_GENERATE = "ollama-generate"
    OPENAI_CHAT = "openai-chat"


class Arrivals(StrEnum):
    """Distributions of the gaps between the requests of an open loop."""

    CONSTANT = "constant"
    POISSON = "poisson"
    GAMMA = "gamma"


class PrefixCache(StrEnum):
    """Whether requests can share the server's prefix cache. Unique puts random text in front of each prompt."""

    SHARED = "shared"
    UNIQUE = "unique"


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


class RunStage(_Section, frozen=True):
    """A part of the load. Exactly one of `concurrency` and `rate` is set, and it is the same one in all stages."""

    duration_seconds: Annotated[float, Meta(gt=0, le=MAX_SECONDS, description="Duration of the stage in seconds.")]
    concurrency: Annotated[
        Annotated[int, Meta(ge=0, le=MAX_CONCURRENCY)] | None, Meta(description="Number of concurrent users.")
    ] = None
    rate: Annotated[
        Annotated[float, Meta(ge=0, le=MAX_RATE)] | None, Meta(description="Number of requests per second.")
    ] = None
    ramp: Annotated[
        bool,
        Meta(
            description="Whether the load changes linearly from that of the previous stage, or from 0, to that of this "
            "stage. If false, it changes immediately."
        ),
    ] = False

    def __post_init__(self) -> None:
        if (self.concurrency is None) == (self.rate is None):
            raise ValueError("set exactly one of concurrency and rate")


class RunSweep(_Section, frozen=True):
    """Search for the highest rate at which every objective is met."""

    max_rate: Annotated[float, Meta(gt=0, le=MAX_RATE, description="Highest rate to try, in requests per second.")]
    min_rate: Annotated[float, Meta(gt=0, le=MAX_RATE, description="Lowest rate to try, in requests per second.")] = 0.1
    step_seconds: Annotated[
        float, Meta(gt=0, le=MAX_SECONDS, description="Duration of the load at each rate, in seconds.")
    ] = 60.0
    precision: Annotated[
        float, Meta(gt=0, lt=1, description="Relative width of the interval at which the search ends.")
    ] = 0.05

    def __post_init__(self) -> None:
        if self.min_rate >= self.max_rate:
            raise ValueError("minRate must be less than maxRate")


class RunSessions(_Section, frozen=True):
    """Closed loop of conversations. Each request contains the conversation so far."""

    users: Annotated[int, Meta(ge=1, le=MAX_CONCURRENCY, description="Number of concurrent conversations.")]
    turns: Annotated[
        Annotated[int, Meta(ge=1, le=100)] | None,
        Meta(
            description="Maximum number of turns per conversation. If absent, a question has 1 + its number of turns."
        ),
    ] = None


class RunLoad(_Section, frozen=True):
    """Amount and duration of the load.

    Exactly one of `concurrency`, `sessions`, `rate`, `stages` and `sweep` is set, or none of them if the document has a
    `trace`, which then determines when the requests are sent.
    """

    concurrency: Annotated[
        Annotated[int, Meta(ge=1, le=MAX_CONCURRENCY)] | None,
        Meta(
            description="Closed loop: number of concurrent users. Each user sends the next request after the previous "
            "response has ended."
        ),
    ] = None
    sessions: Annotated[RunSessions | None, Meta(description="Closed loop of conversations with several turns.")] = None
    think_time_seconds: Annotated[
        Annotated[float, Meta(ge=0, le=MAX_SECONDS)] | None,
        Meta(
            description="Closed loop: mean time in seconds between a response and the next request of the same user, "
            "exponentially distributed. Defaults to 0."
        ),
    ] = None
    rate: Annotated[
        Annotated[float, Meta(gt=0, le=MAX_RATE)] | None,
        Meta(description="Open loop: number of requests per second, regardless of response times."),
    ] = None
    arrivals: Annotated[
        Arrivals | None,
        Meta(
            description="Open loop (rate, stages with rates, sweep): distribution of the gaps between requests. "
            "Defaults to poisson."
        ),
    ] = None
    burstiness: Annotated[
        Annotated[float, Meta(gt=0, le=1000)] | None,
        Meta(
            description="Shape of gamma arrivals: 1 is Poisson, less than 1 is burstier, more than 1 is more even. "
            "Required for gamma, and not allowed for the others."
        ),
    ] = None
    max_in_flight: Annotated[
        Annotated[int, Meta(ge=1, le=MAX_CONCURRENCY)] | None,
        Meta(
            description="Open loop: maximum number of requests in flight. If it is reached, a request that is due "
            "waits, which counts in the latencies from the schedule. If absent, the number is not limited."
        ),
    ] = None
    stages: Annotated[
        Annotated[tuple[RunStage, ...], Meta(min_length=1, max_length=MAX_STAGES)] | None,
        Meta(description="Loads one after the other. Their durations replace durationSeconds."),
    ] = None
    sweep: Annotated[
        RunSweep | None,
        Meta(description="Search for the highest rate that meets the objectives. Replaces durationSeconds."),
    ] = None
    stop_when_saturated: Annotated[
        bool | None,
        Meta(
            description="Open loop: whether to end when the server cannot follow the offered rate. Defaults to false."
        ),
    ] = None
    duration_seconds: Annotated[
        float, Meta(ge=0, le=MAX_SECONDS, description="Duration of the load in seconds, after the warm-up.")
    ] = 30.0
    warmup_seconds: Annotated[
        float,
        Meta(
            ge=0,
            le=MAX_SECONDS,
            description="Duration of the warm-up in seconds. Its requests are not part of the result.",
        ),
    ] = 0.0
    drain_timeout_seconds: Annotated[
        float,
        Meta(
            ge=0,
            le=MAX_SECONDS,
            description="Time in seconds for which the run waits for requests that are in flight at the end of the "
            "load. Requests that have not ended by then fail as unfinished.",
        ),
    ] = 60.0
    max_requests: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(description="Maximum number of measured requests. If absent, the number is not limited."),
    ] = None
    seed: Annotated[int, Meta(description="The same seed gives the same schedule and order of questions.")] = 1

    @property
    def is_open(self) -> bool:
        """Whether requests are sent on a schedule, regardless of response times."""
        stages = self.stages or ()
        return self.rate is not None or self.sweep is not None or any(stage.rate is not None for stage in stages)

    def __post_init__(self) -> None:
        shapes = {"concurrency": self.concurrency, "sessions": self.sessions, "rate": self.rate, "stages": self.stages,
                  "sweep": self.sweep}  # fmt: skip
        given = [name for name, value in shapes.items() if value is not None]
        if len(given) > 1:
            raise ValueError(f"set only one of {', '.join(shapes)}, not {' and '.join(given)}")
        if self.stages and len({stage.rate is None for stage in self.stages}) > 1:
            raise ValueError("stages must all have a rate, or all have a concurrency")
        self._check_open()

    def _check_open(self) -> None:
        for name, value in (("arrivals", self.arrivals), ("maxInFlight", self.max_in_flight),
                            ("stopWhenSaturated", self.stop_when_saturated)):  # fmt: skip
            if value is not None and not self.is_open:
                raise ValueError(f"{name} is only allowed with a rate")
        if self.think_time_seconds is not None and self.is_open:
            raise ValueError("thinkTimeSeconds is only allowed with concurrency or sessions")
        if (self.burstiness is None) == (self.arrivals is Arrivals.GAMMA):
            raise ValueError("burstiness is required for gamma arrivals, and not allowed for others")


class RunSynthetic(_Section, frozen=True):
    """Generated prompts of a given length, instead of questions."""

    input_tokens: Annotated[int, Meta(ge=1, le=1_000_000, description="Approximate number of tokens per prompt.")]
    output_tokens: Annotated[int, Meta(ge=1, le=1_000_000, description="Maximum number of tokens per response.")]


class RunTrace(_Section, frozen=True):
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


class Objective(_Section, frozen=True):
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
        elif self.percentile is not None:
            raise ValueError(f"percentile is not allowed for {self.metric}, which is a share of all requests")
        elif self.threshold > 1:
            raise ValueError(f"the threshold of {self.metric} must be a fraction from 0 to 1")
        elif self.metric is MetricName.ATTAINMENT and self.threshold == 0:
            raise ValueError("the threshold of Attainment must be more than 0%, because every run meets 0%")
        elif self.metric is MetricName.ERROR_RATE and self.threshold == 1:
            raise ValueError("the threshold of ErrorRate must be less than 100%, because every run meets 100%")


class RunBaseline(_Section, frozen=True):
    """Comparison with an earlier run, whose summary is set with `--baseline`."""

    max_regression: Annotated[
        float,
        Meta(ge=0, le=10, description="Allowed relative regression of a latency or of the throughput: 0.1 is 10 %."),
    ] = 0.1


class RunDocument(_Section, frozen=True):
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
