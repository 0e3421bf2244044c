"""Status of a LoadTest. The operator writes it."""

from __future__ import annotations

from pydantic import Field

from llmendpoint_common.api.fields import ApiModel, ConditionState, list_map
from llmendpoint_common.contracts.loadrun import NOTHING_MEASURED, MetricName, Verdict


class LatencyState(ApiModel):
    """Percentiles of a latency over all successful requests, as durations such as 212ms."""

    p50: str = Field(description="Median, as a duration such as 212ms.")
    p95: str = Field(description="95th percentile, as a duration such as 212ms.")
    p99: str = Field(description="99th percentile, as a duration such as 212ms.")


class CategoryState(ApiModel):
    """Result of a category of questions."""

    category: str = Field(description="Name of the category.")
    requests: int = Field(description="Number of measured requests with questions of this category.")
    errors: int = Field(description="Number of these requests that failed.")
    ttft_p95: str | None = Field(
        None,
        description="95th percentile of the time to first token, as a duration such as 212ms. Absent if it was not "
        "measured.",
    )


class SummaryState(ApiModel):
    """Summary of the results. The result ConfigMap has the complete results."""

    partial: bool | None = Field(
        None,
        description="True if the run was interrupted. The summary then covers the requests that had ended by then.",
    )
    requests: int = Field(description="Number of measured requests. Requests of the warm-up are not measured.")
    errors: int = Field(description="Number of measured requests that failed.")
    requests_per_second: str = Field(description="Number of successful requests per second.")
    input_tokens: int = Field(
        description="Number of prompt tokens of all successful requests, as reported by the server.",
        json_schema_extra={"format": "int64"},
    )
    output_tokens: int = Field(
        description="Number of generated tokens of all successful requests, as reported by the server.",
        json_schema_extra={"format": "int64"},
    )
    output_tokens_per_second: str | None = Field(
        None, description="Number of generated tokens of successful requests per second."
    )
    ttft: LatencyState | None = Field(
        None, description="Time to first token of successful requests. Absent if responses were not streamed."
    )
    tpot: LatencyState | None = Field(
        None,
        description="Time per output token after the first one, of successful requests. Absent if it was not measured.",
    )
    request_latency: LatencyState | None = Field(
        None, description="Time from sending a request to the end of its response, of successful requests."
    )
    categories: list[CategoryState] = Field(
        default_factory=list,
        description="Result of each category of questions.",
        json_schema_extra=list_map("category"),
    )


class SloState(ApiModel):
    """An objective with its threshold and the measured value."""

    metric: MetricName = Field(description="Metric of the objective.")
    percentile: int | None = Field(None, description="Percentile of the latency. Absent for ErrorRate and Attainment.")
    threshold: str = Field(description="Threshold, as a duration such as 1s or a percentage such as 1%.")
    measured: str = Field(
        description="Measured value, as a duration such as 212ms or a percentage such as 0.5%, or the text "
        f"{NOTHING_MEASURED}."
    )
    met: bool = Field(description="Whether the measured value meets the threshold. False if nothing was measured.")


class ResultReference(ApiModel):
    """The ConfigMap that receives the result of a run."""

    name: str = Field(description="Name of the ConfigMap.")
    uid: str = Field(description="UID of the ConfigMap. A ConfigMap with another UID is not used.")


class LoadTestStatus(ApiModel):
    """Observed state of a load test."""

    observed_generation: int | None = Field(
        None,
        description="Generation of the spec that the operator processed last.",
        json_schema_extra={"format": "int64"},
    )
    start_time: str | None = Field(
        None,
        description="Time at which the run started, just before its Job was allowed to create a pod. From then on, the "
        "spec cannot be changed, except ttlSecondsAfterFinished.",
        json_schema_extra={"format": "date-time"},
    )
    start_deadline: str | None = Field(
        None,
        description="Time at which the run ends with the verdict Error if its pod has not started by then. The message "
        "of the conditions says what keeps it from starting. Absent while the run waits for its LLMEndpoint, and once "
        "the pod has started.",
        json_schema_extra={"format": "date-time"},
    )
    completion_time: str | None = Field(
        None, description="Time at which the run ended.", json_schema_extra={"format": "date-time"}
    )
    job_name: str | None = Field(None, description="Name of the Job that sends the requests.")
    result_config_map: ResultReference | None = Field(
        None, description="ConfigMap that receives the complete result of the run. Only the load pod writes it."
    )
    target: str | None = Field(None, description="Base URL of the server under test.")
    model: str | None = Field(None, description="Model that the requests were sent to.")
    model_digest: str | None = Field(
        None,
        description="Digest of the model on the LLMEndpoint when the run started. If replicas have different digests, "
        "they are separated by commas. Absent for other servers.",
    )
    gpu: str | None = Field(
        None,
        description="Number and type of the GPUs of one replica of the LLMEndpoint when the run started. Absent for "
        "other servers.",
    )
    replicas: int | None = Field(
        None,
        description="Number of replicas of the LLMEndpoint that were ready when the run started. Absent for other "
        "servers.",
    )
    configuration_hash: str | None = Field(
        None,
        description="Hash of the GPUs of a replica, and of the image and settings of Ollama, when the run started: the "
        "value of status.configurationHash of the LLMEndpoint. Absent for other servers.",
    )
    progress_percent: int = Field(0, description="Progress of the run, in percent.")
    verdict: Verdict | None = Field(
        None,
        description="Passed: all objectives were met. Failed: at least one was missed, or no request was measured. "
        "Invalid: the load generator was the bottleneck, so the measurements say nothing about the server. Error: the "
        "run could not be completed. None: there are no objectives, or the run was interrupted. Absent until the run "
        "has ended.",
    )
    summary: SummaryState | None = Field(None, description="Summary of the results.")
    slo: list[SloState] = Field(
        default_factory=list, description="Each objective of spec.slo with its threshold and the measured value."
    )
    conditions: list[ConditionState] = Field(
        default_factory=list,
        description="Conditions of the types Complete, Passed, Reconciling and Stalled.",
        json_schema_extra=list_map("type"),
    )
