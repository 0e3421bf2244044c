"""LoadTest as typed models: the source of the CRD, and what the operator reads."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from llmendpoint_common.api.fields import (
    ApiModel,
    ConditionState,
    Decimal,
    Duration,
    LocalReference,
    Name,
    Resources,
    ShortText,
    Toleration,
    list_map,
    rules,
)
from llmendpoint_common.contracts.loadrun import MetricName, Verdict

_THRESHOLD = r"^([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$|^(100|[0-9]{1,2})(\.[0-9]+)?%$"


class Protocol(StrEnum):
    """Which API a target speaks."""

    OLLAMA = "Ollama"
    OPENAI = "OpenAI"


class Target(ApiModel):
    """Any server, in the cluster or outside."""

    url: Annotated[str, Field(pattern=r"^https?://[^\s]+$", max_length=2048)] = Field(description="Base URL.")
    protocol: Protocol = Field(Protocol.OLLAMA, description="Ollama or OpenAI.")


class ArrivalLaw(StrEnum):
    """The gaps between requests of an open loop."""

    CONSTANT = "Constant"
    POISSON = "Poisson"


class LoadShape(ApiModel):
    """How much load, how long. With neither concurrency nor rate: a concurrency of 1."""

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
        None, ge=1, le=100_000, description="Closed loop: users that each wait for an answer."
    )
    rate: Decimal | None = Field(None, description="Open loop: requests a second, whatever the answers do.")
    arrivals: ArrivalLaw | None = Field(None, description="Gaps of the open loop; absent: Poisson.")
    duration: Duration = Field("30s", description="How long requests are sent.")
    warmup: Duration = Field("0s", description="Sent before, and left out of the result.")
    max_requests: int | None = Field(None, ge=1, le=100_000_000, description="End after so many requests.")
    seed: int = Field(1, ge=0, le=2_147_483_647, description="The same seed gives the same schedule and questions.")


class Order(StrEnum):
    """In which order questions are asked."""

    SHUFFLED = "Shuffled"
    SEQUENTIAL = "Sequential"


class Questions(ApiModel):
    """Which questions are asked."""

    categories: list[Annotated[str, Field(min_length=1, max_length=64)]] = Field(
        default_factory=list, max_length=64, description="Categories; empty: all."
    )
    config_map_refs: list[LocalReference] = Field(
        default_factory=list, max_length=32, description="Your own question files, instead of the shipped ones."
    )
    order: Order = Field(Order.SHUFFLED, description="Shuffled by the seed, or as in the files.")


class Dataset(ApiModel):
    """What is asked."""

    questions: Questions = Field(default_factory=Questions, description="Questions from ConfigMaps.")


class SecretKeyReference(ApiModel):
    """One entry of a Secret."""

    name: Name = Field(description="The Secret.")
    key: Name = Field(description="Its entry.")


class RequestType(StrEnum):
    """What a request asks for."""

    CHAT = "Chat"


class Request(ApiModel):
    """What all requests share."""

    type: RequestType = Field(RequestType.CHAT, description="Chat.")
    stream: bool = Field(True, description="Stream the answer; else no time to first token.")
    max_tokens: int | None = Field(
        None, ge=1, le=1_000_000, description="Bound of an answer; absent: the question's own."
    )
    temperature: Decimal | None = Field(None, description="Sampling temperature; absent: the server's.")
    timeout: Duration = Field("5m", description="For one whole request.")
    api_key_secret_ref: SecretKeyReference | None = Field(
        None, description="The API key to send, in a Secret of this namespace; absent: none."
    )


class SloItem(ApiModel):
    """One objective."""

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

    metric: MetricName = Field(description="What is bounded.")
    percentile: int | None = Field(None, ge=1, le=99, description="Of latencies.")
    threshold: Annotated[
        str,
        Field(
            pattern=_THRESHOLD,
            min_length=2,
            max_length=32,
        ),
    ] = Field(description="A duration for latencies, a share for the others.")


class LoadPod(ApiModel):
    """What the cluster wants to know of the load pod."""

    resources: Resources = Field(
        default_factory=Resources, description="Absent: requests of 500m CPU and 128Mi memory."
    )
    node_selector: Annotated[dict[str, ShortText], Field(max_length=64)] = Field(
        default_factory=dict, description="Labels of the nodes."
    )
    tolerations: list[Toleration] = Field(default_factory=list, max_length=32, description="Tolerated taints.")
    labels: Annotated[dict[str, ShortText], Field(max_length=64)] = Field(
        default_factory=dict, description="More labels."
    )
    annotations: Annotated[dict[str, ShortText], Field(max_length=64)] = Field(
        default_factory=dict, description="More annotations."
    )
    image_pull_secrets: list[LocalReference] = Field(
        default_factory=list, max_length=16, description="Secrets for the image."
    )
    priority_class_name: Name | None = Field(None, description="Priority of the pod.")


class LoadTestSpec(ApiModel):
    """What is asked of whom. Immutable once the run has started."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            ("has(self.endpointRef) != has(self.target)", "exactly one of endpointRef and target is needed"),
            ("!has(self.target) || has(self.model)", "a target needs a model"),
        )
    )

    endpoint_ref: LocalReference | None = Field(
        None, description="An LLMEndpoint in this namespace; the run waits until it is Ready."
    )
    target: Target | None = Field(None, description="Any other server.")
    model: Annotated[str, Field(min_length=1, max_length=253)] | None = Field(
        None, description="The model; may be absent where the endpoint has one."
    )
    load: LoadShape = Field(default_factory=LoadShape, description="How much load, how long.")
    dataset: Dataset = Field(default_factory=Dataset, description="What is asked.")
    request: Request = Field(default_factory=Request, description="What all requests share.")
    slo: list[SloItem] = Field(
        default_factory=list, max_length=32, description="Objectives; empty: the run only reports."
    )
    pod: LoadPod = Field(default_factory=LoadPod, description="What the cluster wants to know of the load pod.")
    ttl_seconds_after_finished: int | None = Field(
        None, ge=0, le=2_147_483_647, description="Delete this LoadTest so long after its end; absent: keep it."
    )


class LatencyState(ApiModel):
    """Percentiles of a latency, as durations."""

    p50: str = Field(description="Median.")
    p95: str = Field(description="95th percentile.")
    p99: str = Field(description="99th percentile.")


class CategoryState(ApiModel):
    """One category of questions."""

    category: str = Field(description="Its name.")
    requests: int = Field(description="Requests.")
    errors: int = Field(description="Of these, failed.")
    ttft_p95: str | None = Field(None, description="95th percentile of the time to first token.")


class SummaryState(ApiModel):
    """The result, short."""

    requests: int = Field(description="Requests that were measured.")
    errors: int = Field(description="Of these, failed.")
    requests_per_second: str = Field(description="Answered requests a second.")
    input_tokens: int = Field(description="Prompt tokens.", json_schema_extra={"format": "int64"})
    output_tokens: int = Field(description="Generated tokens.", json_schema_extra={"format": "int64"})
    ttft: LatencyState | None = Field(None, description="Time to first token.")
    tpot: LatencyState | None = Field(None, description="Time per output token.")
    request_latency: LatencyState | None = Field(None, description="Whole requests.")
    categories: list[CategoryState] = Field(
        default_factory=list, description="By category.", json_schema_extra=list_map("category")
    )


class SloState(ApiModel):
    """One objective, threshold and measured value side by side."""

    metric: MetricName = Field(description="What is bounded.")
    percentile: int | None = Field(None, description="Of latencies.")
    threshold: str = Field(description="The bound.")
    measured: str = Field(description="What was measured.")
    met: bool = Field(description="Whether the bound was kept.")


class LoadTestStatus(ApiModel):
    """How far the run is, and what came of it."""

    observed_generation: int | None = Field(
        None, description="Generation that was reconciled.", json_schema_extra={"format": "int64"}
    )
    start_time: str | None = Field(
        None, description="When the Job was made.", json_schema_extra={"format": "date-time"}
    )
    completion_time: str | None = Field(
        None, description="When the run ended.", json_schema_extra={"format": "date-time"}
    )
    job_name: str | None = Field(None, description="The Job.")
    target: str | None = Field(None, description="What is driven.")
    model: str | None = Field(None, description="The model.")
    model_digest: str | None = Field(None, description="Its digest when the run began.")
    gpu: str | None = Field(None, description="GPUs of the endpoint when the run began.")
    progress_percent: int = Field(0, description="How far the run is.")
    verdict: Verdict | None = Field(None, description="Passed, Failed, Invalid, Error or None.")
    summary: SummaryState | None = Field(None, description="The result, short.")
    slo: list[SloState] = Field(default_factory=list, description="Objectives and what was measured.")
    conditions: list[ConditionState] = Field(
        default_factory=list, description="Complete and Passed.", json_schema_extra=list_map("type")
    )


class LoadTest(BaseModel):
    """A load test of an endpoint or of any server, ending in a verdict."""

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

    spec: LoadTestSpec = Field(description="What is asked of whom.")
    status: LoadTestStatus | None = Field(
        None, description="How far the run is, and what came of it; written by the operator."
    )


def parse_spec(manifest: dict[str, Any]) -> LoadTestSpec:
    """Return the spec of an object; pydantic.ValidationError names the field."""
    return LoadTestSpec.model_validate(manifest.get("spec", {}))
