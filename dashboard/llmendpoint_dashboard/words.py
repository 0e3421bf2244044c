"""Sentences about load tests: the load of a run document, and its objectives."""

from __future__ import annotations

from llmendpoint_common.contracts.loadrun import (
    METRICS,
    NOTHING_MEASURED,
    MetricName,
    ObjectiveResult,
    RunDocument,
    RunLoad,
    RunStage,
)
from llmendpoint_common.process.units import format_duration
from llmendpoint_common.results.words import plural


def load_sentence(document: RunDocument) -> str:
    """Return the load of a run, such as `4 users for 5m00s`."""
    if document.trace is not None:
        return "replay of a trace"
    load = document.load
    text = _shape(load)
    if load.max_requests is not None:
        text += f", at most {plural(load.max_requests, 'request')}"
    if load.warmup_seconds:
        text += f", after a warm-up of {format_duration(load.warmup_seconds)}"
    return text


def objective_text(metric: MetricName, percentile: int | None, threshold: str) -> str:
    """Return an objective, such as `TTFT p95 ≤ 2s`."""
    name = f"{metric.value} p{percentile}" if percentile else metric.value
    return f"{name} {'≥' if METRICS[metric].higher_is_better else '≤'} {threshold}"


def is_met(result: ObjectiveResult, *, partial: bool) -> bool | None:
    """Return whether an objective was met. None if it was not judged."""
    return None if partial or not result.judged or result.measured == NOTHING_MEASURED else result.met


def _shape(load: RunLoad) -> str:
    if load.sweep is not None:
        return f"search for the highest rate from {load.sweep.min_rate:g} to {load.sweep.max_rate:g} requests/s"
    if load.stages:
        seconds = sum(stage.duration_seconds for stage in load.stages)
        return f"{_stages(load.stages)} in {format_duration(seconds)}"
    duration = format_duration(load.duration_seconds)
    if load.sessions is not None:
        return f"{plural(load.sessions.users, 'conversation')} for {duration}"
    if load.rate is not None:
        return f"{load.rate:g} requests/s for {duration}"
    return f"{plural(load.concurrency or 1, 'user')} for {duration}"


def _stages(stages: tuple[RunStage, ...]) -> str:
    if stages[0].rate is not None:
        levels = [f"{stage.rate:g}" for stage in stages]
        unit = "requests/s"
    else:
        levels = [f"{stage.concurrency}" for stage in stages]
        unit = "users"
    shown = levels if len(levels) <= 6 else [*levels[:5], "…"]
    ramp = "rising to " if len(stages) == 1 and stages[0].ramp else ""
    return f"{ramp}{', '.join(shown)} {unit}"
