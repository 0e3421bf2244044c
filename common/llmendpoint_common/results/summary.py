"""The summary of a run, computed from its measurements.

Rates are those of the load: requests that ended in the drain after it, or whose requests belong to the warm-up, do not
count toward them. Latencies cover answered requests. What was not reported, or cannot be
measured, is None and has a sentence in `unknown`.
"""

from __future__ import annotations

from collections.abc import Iterator

from llmendpoint_common.contracts.loadrun import (
    CategoryResult,
    Environment,
    ErrorClass,
    ErrorResult,
    MeterAudit,
    Percentiles,
    Quantity,
    RunDocument,
    StepResult,
    Summary,
    TimelineBucket,
    TtftPart,
    Unit,
    Window,
    advice,
    without_secrets,
)
from llmendpoint_common.process.errors import RunResultError
from llmendpoint_common.process.units import format_duration
from llmendpoint_common.results.differences import as_json
from llmendpoint_common.results.histogram import MICROSECONDS, Histogram, rank_of
from llmendpoint_common.results.join import audit_of
from llmendpoint_common.results.measurements import Group, Measurements, Step
from llmendpoint_common.results.objectives import Judged, State, are_met_on_time, judge_group
from llmendpoint_common.results.regression import compare
from llmendpoint_common.results.unknown import unknown_sentences
from llmendpoint_common.results.verdict import Evidence, judge

_REQUESTS = "requests/s"
_TOKENS = "tokens/s"
#: Relative rounding of a rate in a document or result.
_ROUNDING = 1e-6


def summarize(
    measurements: Measurements,
    document: RunDocument,
    *,
    environment: Environment | None = None,
    started_at: str = "",
    ended_at: str = "",
    baseline: Summary | None = None,
) -> Summary:
    """Return the summary of a run, with its verdict.

    `started_at` and `ended_at` are times in RFC 3339. `baseline` is the summary that the run is compared with if the
    document has a baseline. Raises RunResultError if the measurements are of a run with other objectives.
    """
    if measurements.objectives != document.objectives:
        raise RunResultError("the measurements are of a run with other objectives")
    document = without_secrets(document)
    whole = measurements.whole
    group, judged = _judged(measurements, document)
    where = environment or Environment(pods=measurements.pods)
    comparison = compare(measurements, document, baseline, where)
    judgement = judge(Evidence(measurements, document, group, judged, comparison))
    seconds = _load_seconds(measurements)
    return Summary(
        verdict=judgement.verdict,
        reason=judgement.reason,
        message=judgement.message,
        target=document.target.url,
        model=document.model,
        api=document.target.api,
        seed=document.load.seed,
        duration=Quantity(seconds, Unit.SECONDS),
        requests=whole.requests,
        errors=whole.errors,
        errors_by_class={name: error.count for name, error in sorted(measurements.errors.items())},
        requests_per_second=_rate(whole.completed, seconds, _REQUESTS),
        goodput=_rate(whole.attained_in_time, seconds, _REQUESTS),
        attainment=Quantity(whole.attained / whole.requests if whole.requests else 0.0, Unit.SHARE),
        input_tokens=_tokens(whole, whole.input_tokens),
        output_tokens=_tokens(whole, whole.output_tokens),
        output_tokens_per_second=_token_rate(whole, seconds),
        ttft=percentiles(whole.histogram("ttft")),
        tpot=percentiles(whole.histogram("tpot")),
        request_latency=percentiles(whole.histogram("request_latency")),
        queue_delay=percentiles(whole.histogram("queue_delay")),
        ttft_scheduled=percentiles(whole.histogram("ttft_scheduled")),
        request_latency_scheduled=percentiles(whole.histogram("request_latency_scheduled")),
        client_lag=percentiles(measurements.lag),
        slo=tuple(item.result(is_judged=judgement.is_told) for item in judged),
        categories=tuple(_categories(measurements)),
        measurements=measurements.encode(),
        partial=measurements.interrupted,
        started_at=started_at,
        ended_at=ended_at,
        run=as_json(document),
        environment=where,
        window=_window(measurements),
        offered=measurements.offered,
        sent=measurements.sent,
        offered_rate=_rate(measurements.offered, seconds, _REQUESTS),
        sent_rate=_rate(measurements.sent, seconds, _REQUESTS),
        connect=percentiles(whole.histogram("connect")),
        ttfo=percentiles(whole.histogram("ttfo")),
        inter_chunk_latency=percentiles(whole.histogram("inter_chunk_latency")),
        server_queue=percentiles(measurements.join.parts.get("queue", Histogram())),
        server_load=percentiles(whole.histogram("server_load")),
        server_prefill=percentiles(whole.histogram("server_prefill")),
        server_decode=percentiles(whole.histogram("server_decode")),
        server_tpot=percentiles(whole.histogram("server_tpot")),
        tokens_per_chunk=whole.chunk_tokens / whole.chunks if whole.chunks else None,
        cached_input_ratio=whole.cached_tokens / whole.cached_of_tokens if whole.cached_of_tokens else None,
        unknown=tuple(unknown_sentences(measurements, document)),
        error_details=tuple(_errors(measurements, document)),
        timeline=tuple(_timeline(measurements)),
        ttft_split=tuple(_split(measurements)),
        steps=tuple(_steps(measurements, document)),
        sweep=measurements.sweep,
        saturation=measurements.saturation,
        regressions=comparison.results if comparison is not None else (),
        baseline_differences=comparison.differences if comparison is not None else (),
        meter_audit=_audit(measurements),
        throttled_seconds=measurements.throttled / MICROSECONDS,
        empty=measurements.errors[ErrorClass.EMPTY].count if ErrorClass.EMPTY in measurements.errors else 0,
        max_lag_p99_seconds=measurements.worst_lag / MICROSECONDS,
    )


def percentiles(histogram: Histogram) -> Percentiles | None:
    """Return the percentiles of a histogram in seconds, or None if it is empty."""
    if not histogram.counts:
        return None
    count = histogram.count
    p50, p90, p95, p99 = histogram.values_at(*(rank_of(percent, count) for percent in (50, 90, 95, 99)))
    return Percentiles(count, round(histogram.mean, 6), p50, p90, p95, p99, histogram.max)


def _judged(measurements: Measurements, document: RunDocument) -> tuple[Group, tuple[Judged, ...]]:
    """Return the requests that the objectives are judged on, and their states.

    A sweep finds out which rates are too high, so its objectives are judged at the highest rate up to its result that
    met all of them, also for the search, or at the lowest rate if none did.
    """
    if document.load.sweep is None or not measurements.steps:
        return measurements.whole, judge_group(measurements.whole, document.objectives)
    steps = sorted(measurements.steps, key=lambda step: step.offered_rate, reverse=True)
    found = measurements.sweep.rate if measurements.sweep is not None else None
    for step in steps:
        judged = judge_group(step.group, document.objectives)
        is_result = found is not None and step.offered_rate <= found * (1 + _ROUNDING)
        if is_result and step.met is not False and all(item.state is State.MET for item in judged):
            return step.group, judged
    return steps[-1].group, judge_group(steps[-1].group, document.objectives)


def _load_seconds(measurements: Measurements) -> float:
    return measurements.load / MICROSECONDS


def _rate(count: int, seconds: float, unit: str) -> Quantity:
    return Quantity(count / seconds if seconds > 0 else 0.0, unit)


def _tokens(group: Group, tokens: int) -> int | None:
    """Return a number of tokens, or None if no answer reported any."""
    return None if group.answered and group.without_usage == group.answered else tokens


def _token_rate(group: Group, seconds: float) -> Quantity | None:
    return None if _tokens(group, 0) is None else _rate(group.completed_tokens, seconds, _TOKENS)


def _window(measurements: Measurements) -> Window:
    return Window(
        warmup_seconds=measurements.warmup / MICROSECONDS,
        load_seconds=measurements.load / MICROSECONDS,
        drain_seconds=measurements.drain / MICROSECONDS,
        drained=measurements.whole.answered - measurements.whole.completed,
    )


def _categories(measurements: Measurements) -> Iterator[CategoryResult]:
    for name, group in sorted(measurements.categories.items()):
        yield CategoryResult(
            category=name,
            requests=group.requests,
            errors=group.errors,
            output_tokens=_tokens(group, group.output_tokens),
            ttft=percentiles(group.histogram("ttft")),
            request_latency=percentiles(group.histogram("request_latency")),
            tpot=percentiles(group.histogram("tpot")),
            expected=group.expected,
            matched=group.matched,
            attained=group.attained,
        )


def _errors(measurements: Measurements, document: RunDocument) -> Iterator[ErrorResult]:
    """Yield the classes of errors, the most frequent first, with what to do about them."""
    for name, error in sorted(measurements.errors.items(), key=lambda item: (-item[1].count, item[0])):
        what_to_do = advice(name, document.target.api, document.target.url, error.example)
        yield ErrorResult(name, error.count, error.example, what_to_do)


def _timeline(measurements: Measurements) -> Iterator[TimelineBucket]:
    """Yield the buckets of the timeline, empty ones included."""
    timeline, in_flight = measurements.timeline, 0
    if not timeline.buckets:
        return
    for index in range(min(timeline.buckets), max(timeline.buckets) + 1):
        start = float(index * timeline.width)
        bucket = timeline.buckets.get(index)
        if bucket is None:
            yield TimelineBucket(start, 0, 0, 0, 0, in_flight, 0)
            continue
        in_flight = max(0, in_flight + bucket.sent - bucket.completed - bucket.errors)
        yield TimelineBucket(
            start,
            bucket.offered,
            bucket.sent,
            bucket.completed,
            bucket.errors,
            in_flight,
            bucket.output_tokens,
            percentiles(bucket.ttft),
            percentiles(bucket.request_latency),
        )


def _steps(measurements: Measurements, document: RunDocument) -> Iterator[StepResult]:
    for step in measurements.steps:
        yield step_result(step, document)


def step_result(step: Step, document: RunDocument) -> StepResult:
    """Return the result of a stage, or of a rate of a sweep, which is as the search has judged it."""
    seconds = (step.end - step.begin) / MICROSECONDS
    states = {item.state for item in judge_group(step.group, document.objectives)}
    met = states == {State.MET} if states and states <= {State.MET, State.MISSED} else None
    met = False if State.MISSED in states else met
    is_on_time = not step.is_late and are_met_on_time(step.group, document.objectives)
    reason = ""
    if step.met is False and step.growth > 0 and met is not False:
        reason = f"latencies grew by {format_duration(step.growth / MICROSECONDS)}"
    elif met and not is_on_time:
        met, reason = False, "requests were sent late"
    return StepResult(
        name=step.name,
        offered_rate=step.offered_rate,
        completed_rate=_rate(step.group.completed, seconds, _REQUESTS).value,
        requests=step.group.requests,
        errors=step.group.errors,
        seconds=max(0.0, seconds),
        ttft=percentiles(step.group.histogram("ttft")),
        request_latency=percentiles(step.group.histogram("request_latency")),
        met=met if step.met is None else step.met,
        reason=reason,
    )


def _split(measurements: Measurements) -> Iterator[TtftPart]:
    for name, histogram in measurements.join.parts.items():
        latency = percentiles(histogram)
        if latency is not None:
            yield TtftPart(name, latency)


def _audit(measurements: Measurements) -> MeterAudit | None:
    return audit_of(measurements.join) if measurements.join.requests else None
