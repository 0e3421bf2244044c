"""Sentences about the load of a run document, and the state of its objectives."""

from __future__ import annotations

from llmendpoint_common.contracts.loadrun import (
    NOTHING_MEASURED,
    ObjectiveResult,
    RunDocument,
    RunLoad,
    RunStage,
)
from llmendpoint_common.results.words import plural, spaced, span


def load_sentence(document: RunDocument) -> str:
    """Return the load of a run, such as `4 users for 5 min`."""
    if document.trace is not None:
        return "replay of a trace"
    load = document.load
    text = _shape(load)
    if load.max_requests is not None:
        text += f", at most {plural(load.max_requests, 'request')}"
    if load.warmup_seconds:
        text += f", after a warm-up of {span(load.warmup_seconds)}"
    return text


def is_met(result: ObjectiveResult, *, partial: bool) -> bool | None:
    """Return whether an objective was met. None if it was not judged."""
    return None if partial or not result.judged or result.measured == NOTHING_MEASURED else result.met


def measured_text(measured: str) -> str:
    """Return what was measured for an objective, with a space before the unit. Empty if nothing was measured."""
    return "" if measured == NOTHING_MEASURED else spaced(measured)


def _shape(load: RunLoad) -> str:
    if load.sweep is not None:
        return f"search for the highest rate from {load.sweep.min_rate:g} to {load.sweep.max_rate:g} requests/s"
    if load.stages:
        seconds = sum(stage.duration_seconds for stage in load.stages)
        return f"{_stages(load.stages)} in {span(seconds)}"
    duration = span(load.duration_seconds)
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
