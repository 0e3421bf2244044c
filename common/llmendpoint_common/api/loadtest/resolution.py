"""The load and the objectives of a spec: what its scenario and its own fields become together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from llmendpoint_common.api import defaults
from llmendpoint_common.api.loadtest.load import LoadShape, Stage, Sweep
from llmendpoint_common.api.loadtest.slo import SloItem
from llmendpoint_common.contracts.loadrun import (
    MAX_SECONDS,
    METRICS,
    Arrivals,
    Objective,
    ResolvedLoad,
    RunLoad,
    RunSessions,
    RunStage,
    RunSweep,
    Scenario,
    apply_preset,
)
from llmendpoint_common.process.units import parse_duration


def resolve_load(
    load: LoadShape,
    slo: Sequence[SloItem],
    scenario: Scenario | None,
    *,
    is_trace: bool,
    stop_when_saturated: bool | None,
) -> ResolvedLoad:
    """Return the load and the objectives. Raises ValueError if the fields cannot be combined.

    `is_trace` is whether a trace determines when requests are sent.
    """
    given = _given(load) | {"stop_when_saturated": stop_when_saturated or None}
    objectives = tuple(_objective(item) for item in slo)
    if scenario is not None:
        resolved = apply_preset(scenario, given, objectives, is_trace=is_trace)
        if is_trace and load.duration is None:
            # A trace ends by itself, not after the duration of the scenario.
            resolved = resolved._replace(load=msgspec.structs.replace(resolved.load, duration_seconds=MAX_SECONDS))
        if stop_when_saturated is False and resolved.load.stop_when_saturated:
            return resolved._replace(load=msgspec.structs.replace(resolved.load, stop_when_saturated=None))
        return resolved
    fields = {name: value for name, value in given.items() if value is not None}
    if not is_trace and not any(fields.get(name) for name in ("concurrency", "sessions", "rate", "stages", "sweep")):
        fields["concurrency"] = defaults.LOAD_CONCURRENCY
    # A trace ends by itself.
    duration = MAX_SECONDS if is_trace else parse_duration(defaults.LOAD_DURATION)
    others = {
        "duration_seconds": duration,
        "warmup_seconds": parse_duration(defaults.LOAD_WARMUP),
        "drain_timeout_seconds": parse_duration(defaults.LOAD_DRAIN_TIMEOUT),
    }
    made = RunLoad(**{**others, **fields})
    if made.is_open and made.arrivals is None:
        made = msgspec.structs.replace(made, arrivals=Arrivals.POISSON)
    if made.sweep is not None and not objectives:
        raise ValueError("load.sweep requires objectives in slo, which decide whether a rate is too high")
    return ResolvedLoad(made, objectives)


def _given(load: LoadShape) -> dict[str, Any]:
    """Return the fields of `RunLoad` that a spec sets. The others are None."""
    return {
        "concurrency": load.concurrency,
        "rate": _number(load.rate),
        "stages": tuple(_stage(stage) for stage in load.stages) if load.stages else None,
        "sweep": _sweep(load.sweep) if load.sweep else None,
        "sessions": RunSessions(load.sessions.users, load.sessions.turns) if load.sessions else None,
        "arrivals": Arrivals(load.arrivals.lower()) if load.arrivals else None,
        "burstiness": _number(load.burstiness),
        "think_time_seconds": _seconds(load.think_time),
        "max_in_flight": load.max_in_flight,
        "duration_seconds": _seconds(load.duration),
        "drain_timeout_seconds": _seconds(load.drain_timeout),
        "warmup_seconds": _seconds(load.warmup),
        "max_requests": load.max_requests,
        "seed": load.seed,
    }


def _stage(stage: Stage) -> RunStage:
    return RunStage(parse_duration(stage.duration), stage.concurrency, _number(stage.rate), stage.ramp)


def _sweep(sweep: Sweep) -> RunSweep:
    return RunSweep(
        max_rate=float(sweep.max_rate),
        min_rate=float(sweep.min_rate),
        step_seconds=parse_duration(sweep.step_duration),
        precision=float(sweep.precision.removesuffix("%")) / 100,
    )


def _objective(item: SloItem) -> Objective:
    return Objective(item.metric, METRICS[item.metric].parse(item.threshold), item.percentile)


def _number(text: str | None) -> float | None:
    return None if text is None else float(text)


def _seconds(text: str | None) -> float | None:
    return None if text is None else parse_duration(text)
