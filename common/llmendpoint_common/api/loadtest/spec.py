"""Typed models of LoadTest: the source of its CustomResourceDefinition, and the spec that the operator reads.

The status is in a module of its own. `kubectl explain` shows the descriptions. Readers see each one without the others,
so it names the unit, the default, and the effect of an absent field.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from llmendpoint_common.api import defaults
from llmendpoint_common.api.fields import (
    AddedLabels,
    ApiModel,
    Labels,
    LocalReference,
    Name,
    ObjectName,
    PodAnnotations,
    Resources,
    SecretReference,
    Toleration,
    rules,
)
from llmendpoint_common.api.loadtest.fields import (
    BaseURL,
    BoundedDuration,
    Category,
    PositiveDuration,
    Rate,
    ServedModel,
    Temperature,
)
from llmendpoint_common.api.loadtest.status import LoadTestStatus
from llmendpoint_common.contracts.loadrun import MAX_CONCURRENCY, MAX_RATE, METRICS, MetricName

_THRESHOLD = r"^([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$|^(100(\.0+)?|[0-9]{1,2}(\.[0-9]+)?)%$"


class Protocol(StrEnum):
    """APIs of model servers."""

    OLLAMA = "Ollama"
    OPENAI = "OpenAI"


class Target(ApiModel):
    """A server that is not an LLMEndpoint of this namespace, inside or outside the cluster."""

    url: BaseURL = Field(
        description="Base URL of the server, for example http://vllm.models.svc:8000. A trailing /v1 is ignored. User, "
        "query and fragment are not allowed."
    )
    protocol: Protocol = Field(
        Protocol.OLLAMA,
        description="API of the requests: Ollama (/api/chat) or OpenAI (/v1/chat/completions). "
        f"Defaults to {Protocol.OLLAMA}.",
    )


class ArrivalLaw(StrEnum):
    """Distributions of the gaps between the requests of an open loop."""

    CONSTANT = "Constant"
    POISSON = "Poisson"


class LoadShape(ApiModel):
    """Amount and duration of the load."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "!(has(self.concurrency) && has(self.rate))",
                "set at most one of concurrency (closed loop) and rate (open loop)",
            ),
            ("!has(self.arrivals) || has(self.rate)", "arrivals requires rate"),
        )
    )

    concurrency: int | None = Field(
        None,
        ge=1,
        le=MAX_CONCURRENCY,
        description="Number of concurrent users in a closed loop. Each user waits for a response before it sends the "
        f"next request. Cannot be combined with rate. Defaults to {defaults.LOAD_CONCURRENCY} if rate is absent.",
    )
    rate: Rate | None = Field(
        None,
        description="Number of requests per second in an open loop, for example 0.5; more than 0, and at most "
        f"{MAX_RATE}. Requests are sent at this rate "
        "regardless of response times. Cannot be combined with concurrency. If absent, the load is a closed loop.",
    )
    arrivals: ArrivalLaw | None = Field(
        None,
        description="Distribution of the gaps between the requests of an open loop: Constant for equal gaps, Poisson "
        f"for random gaps. Only allowed with rate. Defaults to {ArrivalLaw.POISSON}.",
    )
    duration: PositiveDuration = Field(
        defaults.LOAD_DURATION,
        description="Duration of the load after the warm-up, as a duration such as 90s or 5m. After that, the run "
        f"waits for the requests that are still in flight. Defaults to {defaults.LOAD_DURATION}.",
    )
    warmup: BoundedDuration = Field(
        defaults.LOAD_WARMUP,
        description="Duration of the load before the measurement starts, as a duration such as 10s. Requests of the "
        f"warm-up are not part of the result. Defaults to {defaults.LOAD_WARMUP}.",
    )
    max_requests: int | None = Field(
        None,
        ge=1,
        le=100_000_000,
        description="Maximum number of requests, including those of the warm-up. The load ends early when it is "
        "reached. If absent, the number is not limited.",
    )
    seed: int = Field(
        defaults.LOAD_SEED,
        ge=0,
        le=2_147_483_647,
        description="Seed of the random numbers. The same seed gives the same schedule and the same order of "
        f"questions. Defaults to {defaults.LOAD_SEED}.",
    )


class Order(StrEnum):
    """Orders of the questions."""

    SHUFFLED = "Shuffled"
    SEQUENTIAL = "Sequential"


class Questions(ApiModel):
    """Selection and order of the questions."""

    categories: list[Category] = Field(
        default_factory=list,
        max_length=64,
        description="Categories of questions to ask, for example Coding. If empty, all categories are used.",
    )
    config_map_refs: list[LocalReference] = Field(
        default_factory=list,
        max_length=32,
        description="ConfigMaps with your own question files, in the namespace of the LoadTest. They replace the "
        "default questions. If empty, the run uses the default questions: all ConfigMaps in the operator's namespace "
        "with the label llmendpoint.dev/questions=true, which include the shipped questions.",
    )
    order: Order = Field(
        Order.SHUFFLED,
        description="Order of the questions: Shuffled for an order that the seed determines, Sequential for the order "
        f"of the files. Defaults to {Order.SHUFFLED}.",
    )


class Dataset(ApiModel):
    """Content of the requests."""

    questions: Questions = Field(default_factory=Questions, description="Questions from ConfigMaps.")


class SecretKeyReference(ApiModel):
    """Reference to one entry of a Secret in the same namespace."""

    name: Name = Field(description="Name of the Secret.")
    key: Annotated[str, Field(pattern="^[-._a-zA-Z0-9]+$", max_length=253)] = Field(description="Name of the entry.")


class RequestType(StrEnum):
    """Types of requests."""

    CHAT = "Chat"


class Request(ApiModel):
    """Settings that apply to every request of a run."""

    type: RequestType = Field(
        RequestType.CHAT, description="Type of the requests. Chat is the only supported value, and the default."
    )
    stream: bool = Field(
        True,
        description="Whether to request streamed responses. Responses that are not streamed have no time to first "
        "token. Defaults to true.",
    )
    max_tokens: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="Maximum number of generated tokens per response. If absent, the limit of each question applies.",
    )
    temperature: Temperature | None = Field(
        None,
        description="Sampling temperature from 0 to 100, for example 0.7. If absent, the server's default applies.",
    )
    timeout: PositiveDuration = Field(
        defaults.REQUEST_TIMEOUT,
        description="Time limit of a request, as a duration such as 90s. It applies to opening a connection, if a new "
        "one is needed, and again to the request with its response. A request that takes longer fails. "
        f"Defaults to {defaults.REQUEST_TIMEOUT}.",
    )
    api_key_secret_ref: SecretKeyReference | None = Field(
        None,
        description="Entry of a Secret with the API key, in the namespace of the LoadTest. The key is sent as a bearer "
        "token. If absent, no key is sent.",
    )


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
        description="Percentile of the latency, for example 95. Required for TTFT, TPOT and RequestLatency, and not "
        "allowed for ErrorRate and Attainment.",
    )
    threshold: Annotated[str, Field(pattern=_THRESHOLD, min_length=2, max_length=32)] = Field(
        description="Threshold of the metric: a percentage such as 1% for ErrorRate and Attainment, a duration such as "
        "250ms for all others. The measured value must be at least the threshold for Attainment, and at most the "
        "threshold for all other metrics."
    )

    @model_validator(mode="after")
    def _check(self) -> SloItem:
        """Enforce the CEL rules also for clusters and files that bypass them."""
        metric = METRICS[self.metric]
        if metric.is_latency == (self.percentile is None):
            raise ValueError(f"percentile is {'required' if metric.is_latency else 'not allowed'} for {self.metric}")
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
    node_selector: Labels = Field(
        default_factory=dict, description="Labels that a node must have to run the pod. If empty, any node is used."
    )
    tolerations: list[Toleration] = Field(
        default_factory=list, max_length=32, description="Taints of nodes that the pod tolerates."
    )
    labels: AddedLabels = Field(default_factory=dict, description="Additional labels of the pod.")
    annotations: PodAnnotations = Field(
        default_factory=dict,
        description="Additional annotations of the pod. Those that choose AppArmor or seccomp profiles are not "
        "allowed.",
    )
    image_pull_secrets: list[SecretReference] = Field(
        default_factory=list,
        max_length=16,
        description="Secrets with credentials for the image, in the namespace of the LoadTest. The Secrets of the "
        "operator's flag --image-pull-secret are added.",
    )
    priority_class_name: ObjectName | None = Field(
        None, description="PriorityClass of the pod. If absent, the cluster's default priority applies."
    )


class LoadTestSpec(ApiModel):
    """Specification of a load test. Once the run has started, only the fields in `CHANGEABLE` can be changed."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            ("has(self.endpointRef) != has(self.target)", "set exactly one of endpointRef and target"),
            ("!has(self.target) || has(self.model)", "model is required if target is set"),
        )
    )

    endpoint_ref: LocalReference | None = Field(
        None,
        description="LLMEndpoint to test, in the namespace of the LoadTest. The run starts when the LLMEndpoint is "
        "Ready. Exactly one of endpointRef and target is required.",
    )
    target: Target | None = Field(
        None,
        description="Server to test that is not an LLMEndpoint. Exactly one of endpointRef and target is required.",
    )
    model: ServedModel | None = Field(
        None,
        description="Model to send requests to, for example llama3.2:3b. Required if target is set, or if the "
        "LLMEndpoint has several models. Defaults to the model of the LLMEndpoint if it has only one.",
    )
    load: LoadShape = Field(
        default_factory=LoadShape,
        description="Amount and duration of the load. "
        f"Defaults to {defaults.LOAD_CONCURRENCY} user for {defaults.LOAD_DURATION}.",
    )
    dataset: Dataset = Field(
        default_factory=Dataset, description="Content of the requests. Defaults to the operator's default questions."
    )
    request: Request = Field(
        default_factory=Request, description="Settings that apply to every request, such as its timeout."
    )
    slo: list[SloItem] = Field(
        default_factory=list,
        max_length=32,
        description="Objectives that the verdict depends on. If empty, no objectives are checked and the verdict is "
        "None.",
    )
    pod: LoadPod = Field(
        default_factory=LoadPod, description="Resources, metadata and placement of the load generator's pod."
    )
    ttl_seconds_after_finished: int | None = Field(
        None,
        ge=0,
        le=2_147_483_647,
        description="Number of seconds after the end of the run after which the LoadTest is deleted, together with its "
        "Job and ConfigMaps. If absent, the LoadTest is kept. Can be changed at any time.",
    )


#: Fields of the spec that do not affect the run, so that they can be changed after it has started.
CHANGEABLE = frozenset({"ttlSecondsAfterFinished"})


def _unchanged() -> str:
    """Return the CEL expression that is true if all other fields of the spec are the same as before.

    CEL cannot compare objects without some of their fields.
    """
    names = [str(field.alias) for field in LoadTestSpec.model_fields.values() if field.alias not in CHANGEABLE]
    return " && ".join(
        f"has(self.spec.{name}) == has(oldSelf.spec.{name}) && "
        f"(!has(self.spec.{name}) || self.spec.{name} == oldSelf.spec.{name})"
        for name in names
    )


class LoadTest(BaseModel):
    """A load test of an LLMEndpoint or of another server. It runs once and ends with a verdict."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "self.metadata.name.size() <= 50 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
                "metadata.name must start with a letter, end with a letter or digit, contain only lowercase letters, "
                "digits and dashes, and have at most 50 characters",
            ),
            (
                f"!has(oldSelf.status) || !has(oldSelf.status.startTime) || ({_unchanged()})",
                f"spec cannot be changed once the run has started, except {', '.join(sorted(CHANGEABLE))}; create "
                "another LoadTest",
            ),
        )
    )

    spec: LoadTestSpec = Field(
        description="Specification of the run. Once the run has started, it cannot be changed, except "
        f"{', '.join(sorted(CHANGEABLE))}."
    )
    status: LoadTestStatus | None = Field(
        None, description="Observed progress and result of the run. The operator writes it."
    )


def parse_spec(manifest: dict[str, Any]) -> LoadTestSpec:
    """Return the spec of a LoadTest. Raises pydantic.ValidationError, which names the field."""
    return LoadTestSpec.model_validate(manifest.get("spec", {}))
