"""Status of a LoadTest. The operator writes it."""

from __future__ import annotations

from pydantic import Field

from llmendpoint_common.api.fields import ApiModel, ConditionState, list_map
from llmendpoint_common.api.loadtest.load import LoadShape
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


class ErrorClassState(ApiModel):
    """A class of errors."""

    name: str = Field(description="Class of the errors, such as refused, timeout or 5xx. docs/load-tests.md lists all.")
    count: int = Field(description="Number of measured requests that failed with an error of this class.")
    example: str | None = Field(
        None, description="What the server or the connection said in one of them, shortened and without secrets."
    )


class TtftPartState(ApiModel):
    """A part of the time to first token."""

    name: str = Field(description="Name of the part: client, network, proxy, queue, load or prefill.")
    p50: str = Field(description="Median, as a duration such as 212ms.")
    p95: str = Field(description="95th percentile, as a duration such as 212ms.")


class SweepState(ApiModel):
    """The highest rate at which every objective was met."""

    rate: str | None = Field(
        None, description="Highest rate that met every objective, in requests per second. Absent if no rate did."
    )
    low: str = Field(description="Lower bound of its 95 % confidence interval, in requests per second.")
    high: str | None = Field(
        None,
        description="Upper bound of its 95 % confidence interval, in requests per second. Absent if the capacity may "
        "be above the highest rate that was tried, so that low is only a lower bound.",
    )


class SaturationState(ApiModel):
    """When the server stopped following the offered rate."""

    after: str = Field(
        description="Time from the end of the warm-up until latency and requests in flight began to grow, as a "
        "duration such as 90s. The growth is noticed later."
    )
    offered_rate: str = Field(description="Offered rate at that time, in requests per second.")


class RegressionState(ApiModel):
    """A comparison with the baseline."""

    metric: str = Field(description="What was compared, for example the 95th percentile of TTFT.")
    baseline: str = Field(description="Value of the baseline, with its unit.")
    measured: str = Field(description="Value of this run, with its unit.")
    change: str = Field(description="Relative change as a percentage; positive if it is worse.")
    regressed: bool = Field(description="Whether it is a significant regression of more than maxRegression.")
    judged: bool | None = Field(
        None,
        description="Whether the comparison can tell if the metric is worse by more than maxRegression. If it is "
        "false, one of the runs has too few requests for that.",
    )


class MeterAuditState(ApiModel):
    """Comparison of the tokens that the server reported to the run with those that the sidecars metered."""

    requests: int = Field(description="Number of requests that were looked up in the sidecars' records.")
    found: int = Field(description="Number of these requests for which a record was found.")
    client_tokens: int = Field(
        description="Tokens of these requests that were reported to the run.", json_schema_extra={"format": "int64"}
    )
    metered_tokens: int = Field(
        description="Tokens of these requests in the records.", json_schema_extra={"format": "int64"}
    )
    differing: int = Field(description="Number of requests whose tokens differ.")


class SummaryState(ApiModel):
    """Summary of the results. The result ConfigMap has the complete results."""

    partial: bool | None = Field(
        None,
        description="True if the run, or one of its pods, was interrupted. The summary then covers the requests that "
        "had ended by then.",
    )
    requests: int = Field(description="Number of measured requests. Requests of the warm-up are not measured.")
    errors: int = Field(description="Number of measured requests that failed.")
    requests_per_second: str = Field(description="Number of successful requests per second.")
    input_tokens: int | None = Field(
        None,
        description="Number of prompt tokens of all successful requests, as reported by the server. Absent if it "
        "reported none.",
        json_schema_extra={"format": "int64"},
    )
    output_tokens: int | None = Field(
        None,
        description="Number of generated tokens of all successful requests, as reported by the server. Absent if it "
        "reported none.",
        json_schema_extra={"format": "int64"},
    )
    output_tokens_per_second: str | None = Field(
        None, description="Number of generated tokens of successful requests per second."
    )
    offered_rate: str | None = Field(
        None, description="Number of requests per second that were due. Absent in a closed loop."
    )
    attainment: str | None = Field(
        None, description="Share of all requests that met every latency objective, as a percentage such as 99.5%."
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
    error_classes: list[ErrorClassState] = Field(
        default_factory=list,
        description="Classes of the errors, the most frequent first.",
        json_schema_extra=list_map("name"),
    )
    ttft_split: list[TtftPartState] = Field(
        default_factory=list,
        description="Parts of the time to first token, from the records of the endpoint's sidecars. Empty for other "
        "servers.",
        json_schema_extra=list_map("name"),
    )
    sweep: SweepState | None = Field(None, description="Result of a sweep. Absent for other loads.")
    saturation: SaturationState | None = Field(
        None, description="Since when the server could not follow the offered rate. Absent if it could."
    )
    regressions: list[RegressionState] = Field(
        default_factory=list,
        description="Comparison with the baseline. Empty without baselineRef.",
        json_schema_extra=list_map("metric"),
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
    low: str | None = Field(
        None, description="Lower bound of the 95 % confidence interval of the measured value. Absent if unknown."
    )
    high: str | None = Field(
        None, description="Upper bound of the 95 % confidence interval of the measured value. Absent if unknown."
    )
    requests: int | None = Field(None, description="Number of requests that the objective was judged on.")
    met: bool | None = Field(
        None,
        description="Whether the measured value meets the threshold. Absent if the objective was not judged: the run "
        "was interrupted or is Invalid, nothing was measured, or there were too few requests.",
    )


class ObjectiveProgressState(ApiModel):
    """An objective with the value that was measured until now."""

    metric: MetricName = Field(description="Metric of the objective.")
    percentile: int | None = Field(None, description="Percentile of the latency. Absent for ErrorRate and Attainment.")
    threshold: str = Field(description="Threshold, as a duration such as 1s or a percentage such as 1%.")
    measured: str = Field(
        description="Value measured until now, as a duration such as 212ms or a percentage such as 0.5%, or the text "
        f"{NOTHING_MEASURED}. With several load pods, a latency is a range such as 212ms to 240ms, from the lowest to "
        "the highest percentile of a pod. The percentile of all requests is within it."
    )
    met: bool | None = Field(
        None,
        description="Whether the requests until now meet the threshold. This is not a verdict. Absent if they are too "
        "few to tell, nothing was measured, or a load pod does not answer.",
    )


class ProgressState(ApiModel):
    """Numbers of a run that has not ended, added up over its load pods. They include the warm-up, except slo."""

    requests: int = Field(
        description="Number of requests that have ended, including failed ones.", json_schema_extra={"format": "int64"}
    )
    errors: int = Field(description="Number of requests that have failed.", json_schema_extra={"format": "int64"})
    in_flight: int = Field(description="Number of requests that are in flight.", json_schema_extra={"format": "int64"})
    requests_per_second: str | None = Field(
        None,
        description="Number of requests per second that were answered lately. Absent before the load.",
    )
    awaiting: str | None = Field(
        None, description="What the load pods wait for, for example the start signal. Absent once they send requests."
    )
    slo: list[ObjectiveProgressState] = Field(
        default_factory=list,
        description="Objectives of the run with what was measured until now. The warm-up does not count. Empty if the "
        "run has no objectives.",
    )


class ResultReference(ApiModel):
    """A ConfigMap that receives the result of a run or of one of its pods."""

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
        "spec cannot be changed, except suspend and ttlSecondsAfterFinished.",
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
        None,
        description="ConfigMap with the complete result of the run, under the key summary.json. With one load pod, it "
        "is the pod's own. With several, the operator creates it when the run has ended.",
    )
    pod_result_config_maps: list[ResultReference] = Field(
        default_factory=list,
        description="ConfigMaps that receive the results of the load pods, if there are several.",
        json_schema_extra=list_map("name"),
    )
    resolved_load: LoadShape | None = Field(
        None, description="Load of the run: what the scenario and the fields of spec.load became together."
    )
    pods: int | None = Field(None, description="Number of load pods. Absent if it is 1.")
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
    progress: ProgressState | None = Field(
        None,
        description="What the load pods report while the run is in progress, every 5 seconds. Removed when the run "
        "ends; summary and slo then have its result. Absent if no load pod has answered yet.",
    )
    verdict: Verdict | None = Field(
        None,
        description="Passed: all objectives were met. Failed: at least one was missed, there was a regression, or the "
        "server was saturated. Invalid: the measurements cannot tell, for example because the load generator was the "
        "bottleneck or there were too few requests. Error: the run could not be completed, or nothing was answered. "
        "None: there are no objectives, or the run was canceled. Absent until the run has ended.",
    )
    summary: SummaryState | None = Field(None, description="Summary of the results.")
    slo: list[SloState] = Field(
        default_factory=list, description="Each objective of spec.slo with its threshold and the measured value."
    )
    meter_audit: MeterAuditState | None = Field(
        None,
        description="Comparison of the tokens that were reported to the run with those that the sidecars of the "
        "LLMEndpoint metered. Absent for other servers.",
    )
    conditions: list[ConditionState] = Field(
        default_factory=list,
        description="Conditions of the types Complete, Passed, Reconciling and Stalled.",
        json_schema_extra=list_map("type"),
    )
