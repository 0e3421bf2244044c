"""LoadTest as typed models: the source of its CustomResourceDefinition, and the spec that the operator reads.

The status is in a module of its own. `kubectl explain` shows the descriptions: each is read alone, names unit and
default, and says what happens if the field is absent.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from llmendpoint_common.api import defaults
from llmendpoint_common.api.fields import (
    ApiModel,
    Decimal,
    Duration,
    LocalReference,
    Name,
    Resources,
    ShortText,
    Toleration,
    rules,
)
from llmendpoint_common.api.loadtest_status import LoadTestStatus
from llmendpoint_common.contracts.loadrun import METRICS, MetricName

_THRESHOLD = r"^([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$|^(100(\.0+)?|[0-9]{1,2}(\.[0-9]+)?)%$"
_LABELS = Annotated[dict[str, ShortText], Field(max_length=64)]


class Protocol(StrEnum):
    """API that a server offers."""

    OLLAMA = "Ollama"
    OPENAI = "OpenAI"


class Target(ApiModel):
    """A server that is not an LLMEndpoint of this namespace, in the cluster or outside of it."""

    url: Annotated[str, Field(pattern=r"^https?://[^\s]+$", max_length=2048)] = Field(
        description="Base URL of the server, for example http://vllm.models.svc:8000. A final /v1 is ignored."
    )
    protocol: Protocol = Field(
        Protocol.OLLAMA,
        description="API that the requests use. Ollama sends to /api/chat, OpenAI to /v1/chat/completions. "
        f"Defaults to {Protocol.OLLAMA}.",
    )


class ArrivalLaw(StrEnum):
    """Distributions of the gaps between the requests of an open loop."""

    CONSTANT = "Constant"
    POISSON = "Poisson"


class LoadShape(ApiModel):
    """How many requests are sent, and for how long."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "!(has(self.concurrency) && has(self.rate))",
                "concurrency and rate exclude each other: a closed loop, or an open one",
            ),
            ("!has(self.arrivals) || has(self.rate)", "arrivals goes with rate only"),
        )
    )

    concurrency: int | None = Field(
        None,
        ge=1,
        le=100_000,
        description="Number of users in a closed loop. Each user waits for an answer before it sends the next request. "
        f"Excludes rate. Defaults to {defaults.LOAD_CONCURRENCY} if rate is absent.",
    )
    rate: Decimal | None = Field(
        None,
        description="Requests per second in an open loop, for example 0.5. They are sent at this rate even if answers "
        "are late. Excludes concurrency. If absent, the load is a closed loop.",
    )
    arrivals: ArrivalLaw | None = Field(
        None,
        description="Gaps between the requests of an open loop: Constant for equal gaps, Poisson for random ones. Only "
        f"allowed with rate. Defaults to {ArrivalLaw.POISSON}.",
    )
    duration: Duration = Field(
        defaults.LOAD_DURATION,
        description="How long requests are sent after the warm-up, as a duration such as 90s or 5m. Answers in flight "
        f"are then awaited. Defaults to {defaults.LOAD_DURATION}.",
    )
    warmup: Duration = Field(
        defaults.LOAD_WARMUP,
        description="How long requests are sent before the measurement starts, as a duration such as 10s. They do not "
        f"count in the result. Defaults to {defaults.LOAD_WARMUP}.",
    )
    max_requests: int | None = Field(
        None,
        ge=1,
        le=100_000_000,
        description="Number of requests after which the run ends early. If absent, only the duration ends the run.",
    )
    seed: int = Field(
        defaults.LOAD_SEED,
        ge=0,
        le=2_147_483_647,
        description="Seed of the schedule and of the order of questions. The same seed gives the same run. "
        f"Defaults to {defaults.LOAD_SEED}.",
    )


class Order(StrEnum):
    """Orders in which questions are asked."""

    SHUFFLED = "Shuffled"
    SEQUENTIAL = "Sequential"


class Questions(ApiModel):
    """The questions that a run asks."""

    categories: list[Annotated[str, Field(min_length=1, max_length=64)]] = Field(
        default_factory=list,
        max_length=64,
        description="Categories of questions to ask, for example Coding. If empty, all categories are asked.",
    )
    config_map_refs: list[LocalReference] = Field(
        default_factory=list,
        max_length=32,
        description="ConfigMaps with question files of your own, in the namespace of the LoadTest. They replace the "
        "shipped questions. If empty, the shipped questions are used.",
    )
    order: Order = Field(
        Order.SHUFFLED,
        description="Shuffled asks the questions in an order that the seed determines, Sequential in the order of the "
        f"files. Defaults to {Order.SHUFFLED}.",
    )


class Dataset(ApiModel):
    """The content of the requests."""

    questions: Questions = Field(default_factory=Questions, description="Questions from ConfigMaps.")


class SecretKeyReference(ApiModel):
    """Reference to one entry of a Secret in the same namespace."""

    name: Name = Field(description="Name of the Secret.")
    key: Name = Field(description="Name of the entry.")


class RequestType(StrEnum):
    """Types of requests."""

    CHAT = "Chat"


class Request(ApiModel):
    """Settings that all requests of a run have in common."""

    type: RequestType = Field(
        RequestType.CHAT, description=f"Type of the requests. Only Chat exists. Defaults to {RequestType.CHAT}."
    )
    stream: bool = Field(
        True,
        description="Whether answers are streamed. Answers that are not streamed have no time to first token. "
        "Defaults to true.",
    )
    max_tokens: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="Maximum number of generated tokens per answer. If absent, the limit of each question applies.",
    )
    temperature: Decimal | None = Field(
        None, description="Sampling temperature, for example 0.7. If absent, the server's own default applies."
    )
    timeout: Duration = Field(
        defaults.REQUEST_TIMEOUT,
        description="Time limit for one whole request, as a duration such as 90s. A request that takes longer fails. "
        f"Defaults to {defaults.REQUEST_TIMEOUT}.",
    )
    api_key_secret_ref: SecretKeyReference | None = Field(
        None,
        description="Secret entry with the API key, in the namespace of the LoadTest. It is sent as a bearer token. If "
        "absent, no key is sent.",
    )


class SloItem(ApiModel):
    """An objective: the bound of one metric."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "(self.metric in ['ErrorRate', 'Attainment']) != has(self.percentile)",
                "latencies need a percentile, like {metric: TTFT, percentile: 95, threshold: 1s}; shares have none",
            ),
            (
                "(self.metric in ['ErrorRate', 'Attainment']) == self.threshold.endsWith('%')",
                "ErrorRate and Attainment take a share like 1%, latencies a duration like 250ms",
            ),
        )
    )

    metric: MetricName = Field(
        description="Metric that is judged. TTFT: time to first token. TPOT: time per output token. RequestLatency: "
        "time of a whole request. ErrorRate: share of failed requests. Attainment: share of all requests that met "
        "every latency objective."
    )
    percentile: int | None = Field(
        None,
        ge=1,
        le=99,
        description="Percentile of the latency, for example 95. Required for TTFT, TPOT and RequestLatency, and not "
        "allowed for ErrorRate and Attainment.",
    )
    threshold: Annotated[str, Field(pattern=_THRESHOLD, min_length=2, max_length=32)] = Field(
        description="Threshold of the metric: a duration such as 250ms for latencies, a share such as 1% for ErrorRate "
        "and Attainment. Attainment has to be at least as high, all other metrics at most."
    )

    @model_validator(mode="after")
    def _check(self) -> SloItem:
        """Check what the CEL rules check, for clusters and files that bypass them."""
        metric = METRICS[self.metric]
        if metric.is_latency == (self.percentile is None):
            raise ValueError(f"{self.metric} {'needs a' if metric.is_latency else 'has no'} percentile")
        metric.parse(self.threshold)
        return self


class LoadPod(ApiModel):
    """Resources, metadata and placement of the load generator's pod."""

    resources: Resources = Field(
        default_factory=Resources,
        description="Compute resources of the load generator. "
        f"Requests default to {defaults.in_words(defaults.LOADJOB_REQUESTS)}, "
        f"limits to {defaults.in_words(defaults.LOADJOB_LIMITS)}.",
    )
    node_selector: _LABELS = Field(
        default_factory=dict, description="Labels that a node must have to run the pod. If empty, any node is used."
    )
    tolerations: list[Toleration] = Field(
        default_factory=list, max_length=32, description="Taints of nodes that the pod tolerates."
    )
    labels: _LABELS = Field(
        default_factory=dict, description="Additional labels of the pod. The operator's own labels take precedence."
    )
    annotations: _LABELS = Field(default_factory=dict, description="Additional annotations of the pod.")
    image_pull_secrets: list[LocalReference] = Field(
        default_factory=list,
        max_length=16,
        description="Secrets with credentials for the image, in the namespace of the LoadTest. Those of the operator's "
        "settings are added.",
    )
    priority_class_name: Name | None = Field(
        None, description="PriorityClass of the pod. If absent, the cluster's default priority applies."
    )


class LoadTestSpec(ApiModel):
    """Desired run of a load test. It cannot be changed once the run has started."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            ("has(self.endpointRef) != has(self.target)", "exactly one of endpointRef and target is needed"),
            ("!has(self.target) || has(self.model)", "a target needs a model"),
        )
    )

    endpoint_ref: LocalReference | None = Field(
        None,
        description="LLMEndpoint in the namespace of the LoadTest that gets the load. The run starts when it is Ready. "
        "Exactly one of endpointRef and target is required.",
    )
    target: Target | None = Field(
        None,
        description="Any other server that gets the load. Exactly one of endpointRef and target is required.",
    )
    model: Annotated[str, Field(min_length=1, max_length=253)] | None = Field(
        None,
        description="Name of the model to ask, for example llama3.2:3b. Required for a target, and for an endpoint "
        "with several models. Defaults to the model of the endpoint if it has only one.",
    )
    load: LoadShape = Field(
        default_factory=LoadShape,
        description="How many requests are sent, and for how long. "
        f"Defaults to {defaults.LOAD_CONCURRENCY} user for {defaults.LOAD_DURATION}.",
    )
    dataset: Dataset = Field(
        default_factory=Dataset, description="The content of the requests. Defaults to all shipped questions."
    )
    request: Request = Field(
        default_factory=Request, description="Settings that all requests have in common, such as their timeout."
    )
    slo: list[SloItem] = Field(
        default_factory=list,
        max_length=32,
        description="Objectives that the verdict depends on. If empty, the run only reports, and its verdict is None.",
    )
    pod: LoadPod = Field(
        default_factory=LoadPod, description="Resources, metadata and placement of the load generator's pod."
    )
    ttl_seconds_after_finished: int | None = Field(
        None,
        ge=0,
        le=2_147_483_647,
        description="Time in seconds after the end of the run until the LoadTest is deleted, with everything that it "
        "owns. If absent, it is kept.",
    )


class LoadTest(BaseModel):
    """A load test of an LLMEndpoint or of any other server. It runs once and ends with a verdict."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "self.metadata.name.size() <= 50 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
                "metadata.name must begin with a letter, hold only a-z, 0-9 and dashes, and have at most 50 characters",
            ),
            (
                "!has(oldSelf.status) || !has(oldSelf.status.startTime) || self.spec == oldSelf.spec",
                "spec cannot be changed once the run has started; make another LoadTest",
            ),
        )
    )

    spec: LoadTestSpec = Field(description="Desired run. It cannot be changed once the run has started.")
    status: LoadTestStatus | None = Field(
        None, description="Observed progress and result of the run. Written by the operator."
    )


def parse_spec(manifest: dict[str, Any]) -> LoadTestSpec:
    """Return the spec of a LoadTest. Raises pydantic.ValidationError, which names the field."""
    return LoadTestSpec.model_validate(manifest.get("spec", {}))
