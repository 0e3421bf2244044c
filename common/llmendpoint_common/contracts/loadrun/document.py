"""The run document: a typed description of one load run, without secrets and without anything of one machine.

The operator writes it into a ConfigMap, `llmendpoint load` builds it from its flags, and the load generator reads it
with `--run FILE`. It has no version: fields are only ever added, as optional ones. An optional field without a value is
not written, and an unknown field is an error. An older load generator therefore runs a newer document if it can do
everything in it, and refuses it otherwise. All other fields are written even at their defaults: the document shows the
whole run.
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
#: The environment variable that brings the API key to the load generator: a document or a command line can be read by
#: everyone who may see ConfigMaps or pods.
API_KEY_VARIABLE = "LLMENDPOINT_LOAD_API_KEY"
#: Users of a closed loop if neither a concurrency nor a rate is given.
DEFAULT_CONCURRENCY = 1


class Category(StrEnum):
    """The shipped categories of questions. Users may add categories of their own."""

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
    """The API that the requests use."""

    OLLAMA_CHAT = "ollama-chat"
    OPENAI_CHAT = "openai-chat"


class Arrivals(StrEnum):
    """Distributions of the gaps between the requests of an open loop."""

    CONSTANT = "constant"
    POISSON = "poisson"


class Order(StrEnum):
    """Orders in which questions are asked."""

    SHUFFLED = "shuffled"
    SEQUENTIAL = "sequential"


class _Section(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """Base of the document and its parts."""


class RunTarget(_Section, frozen=True):
    """The server that gets the load."""

    url: Annotated[
        str, Meta(description="Base URL, such as http://127.0.0.1:11435. A path is a prefix; a final /v1 is ignored.")
    ]
    api: Annotated[Api, Meta(description="API that the requests use.")] = Api.OLLAMA_CHAT


class RunLoad(_Section, frozen=True):
    """How many requests are sent, and for how long. Exactly one of `concurrency` and `rate` is set."""

    concurrency: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(description="Closed loop: number of users. Each waits for its answer before it sends again."),
    ] = None
    rate: Annotated[
        Annotated[float, Meta(gt=0, le=100_000)] | None,
        Meta(description="Open loop: requests per second, independent of the answers."),
    ] = None
    arrivals: Annotated[
        Arrivals | None, Meta(description="Open loop: distribution of the gaps between requests. Without it: poisson.")
    ] = None
    duration_seconds: Annotated[float, Meta(ge=0, description="How long requests are sent, after the warm-up.")] = 30.0
    warmup_seconds: Annotated[
        float, Meta(ge=0, description="How long requests are sent before that. They do not count in the result.")
    ] = 0.0
    max_requests: Annotated[
        Annotated[int, Meta(ge=1)] | None, Meta(description="Number of requests after which the run ends early.")
    ] = None
    seed: Annotated[int, Meta(description="The same seed gives the same schedule and the same questions.")] = 1

    def __post_init__(self) -> None:
        if (self.concurrency is None) == (self.rate is None):
            raise ValueError("exactly one of concurrency (a closed loop) and rate (an open loop) is needed")
        if self.arrivals is not None and self.rate is None:
            raise ValueError("arrivals is only allowed with rate")


class RunQuestions(_Section, frozen=True):
    """Which questions are asked. Their files are a setting of the process."""

    categories: Annotated[tuple[str, ...], Meta(description="Categories to ask. All, if empty.")] = ()
    order: Annotated[Order, Meta(description="Shuffled by the seed, or in the order of the files.")] = Order.SHUFFLED


class RunRequest(_Section, frozen=True):
    """What all requests have in common."""

    stream: Annotated[bool, Meta(description="Request streams. Whole answers have no time to first token.")] = True
    max_tokens: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(description="Limit of tokens per answer. Without it, the limit of each question applies."),
    ] = None
    temperature: Annotated[
        float | None, Meta(description="Sampling temperature. Without it, the server uses its own.")
    ] = None
    timeout_seconds: Annotated[float, Meta(ge=0, description="Limit for one whole request.")] = 300.0


class Objective(_Section, frozen=True):
    """A bound of one metric. The attainment has a lower bound, every other metric an upper bound."""

    metric: Annotated[MetricName, Meta(description="The metric that is judged.")]
    threshold: Annotated[float, Meta(ge=0, description="Seconds for a latency, a fraction from 0 to 1 for a share.")]
    percentile: Annotated[
        Annotated[int, Meta(ge=1, le=99)] | None,
        Meta(description="Percentile of a latency. ErrorRate and Attainment have none."),
    ] = None

    def __post_init__(self) -> None:
        if METRICS[self.metric].is_latency:
            if self.percentile is None:
                raise ValueError(f"{self.metric} needs a percentile")
        elif self.percentile is not None:
            raise ValueError(f"{self.metric} is a share of all requests and has no percentile")
        elif self.threshold > 1:
            raise ValueError(f"the threshold of {self.metric} is a fraction from 0 to 1")


class RunDocument(_Section, frozen=True):
    """Everything that one load run does, as the load generator reads it with `--run FILE`."""

    target: Annotated[RunTarget, Meta(description="The server that gets the load.")]
    model: Annotated[str, Meta(min_length=1, description="Name of the model to ask.")]
    load: Annotated[RunLoad, Meta(description="How many requests are sent, and for how long.")]
    questions: Annotated[RunQuestions, Meta(description="Which questions are asked.")] = RunQuestions()
    request: Annotated[RunRequest, Meta(description="What all requests have in common.")] = RunRequest()
    objectives: Annotated[
        tuple[Objective, ...], Meta(description="Bounds that the verdict depends on. If empty, the run only reports.")
    ] = ()


def write_run_document(document: RunDocument) -> str:
    """Return a document as indented JSON, without optional fields that have no value."""
    fields = _without_null(msgspec.to_builtins(document))
    return msgspec.json.format(msgspec.json.encode(fields), indent=2).decode() + "\n"


def parse_run_document(data: bytes, file: str) -> RunDocument:
    """Return the document in `data`. RunDocumentError names `file` and the field."""
    try:
        return msgspec.json.decode(data, type=RunDocument)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).partition(" - at `$")
        field = path.strip(".`")
        raise RunDocumentError(f"{file}: {f'{field}: ' if field else ''}{reason}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RunDocumentError(f"{file}: not JSON: {error}") from error


def _without_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_null(item) for name, item in value.items() if item is not None}
    return [_without_null(item) for item in value] if isinstance(value, list | tuple) else value
