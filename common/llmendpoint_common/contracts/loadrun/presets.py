"""Presets of load runs: a table of scenarios, and the load that each one becomes together with the given fields.

A preset has a level (a number of users, or a rate) and, if its load changes, stages as shares of that level and of the
duration. Therefore a given `concurrency` or `rate` sets the highest load of the preset and keeps its shape, and a given
`duration_seconds` stretches it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from llmendpoint_common.contracts.loadrun.document import Objective
from llmendpoint_common.contracts.loadrun.load import MAX_SECONDS, Arrivals, RunLoad, RunStage, RunSweep
from llmendpoint_common.contracts.loadrun.metrics import MetricName


class Scenario(StrEnum):
    """Names of the presets, as written in the API."""

    SMOKE = "Smoke"
    BASELINE = "Baseline"
    RAMP = "Ramp"
    SPIKE = "Spike"
    SOAK = "Soak"
    STRESS = "Stress"
    SWEEP = "Sweep"
    TRAFFIC = "Traffic"


class StageShare(NamedTuple):
    """A stage of a preset: its share of the duration, and its load as a share of the highest load."""

    duration: float
    level: float
    ramp: bool = False


class Preset(NamedTuple):
    """A row of the table.

    `load` has fields of `RunLoad`, of which `concurrency` or `rate` is the highest load if there are `stages`.
    `open_loop` has fields that are added if the load is a rate. `objectives` apply if none are given.
    """

    scenario: Scenario
    description: str
    load: Mapping[str, Any]
    stages: tuple[StageShare, ...] = ()
    open_loop: Mapping[str, Any] = {}
    objectives: tuple[Objective, ...] = ()


class ResolvedLoad(NamedTuple):
    """The load and the objectives that a preset became together with the given fields."""

    load: RunLoad
    objectives: tuple[Objective, ...]


_TABLE = (
    Preset(
        Scenario.SMOKE,
        "One user sends 5 requests, or as many as the objectives need, one after the other, to check that the server "
        "answers.",
        {"concurrency": 1, "max_requests": 5, "duration_seconds": 300.0},
    ),
    Preset(
        Scenario.BASELINE,
        "4 users for 5 minutes, after a warm-up of 30 seconds: a reference to compare later runs with.",
        {"concurrency": 4, "duration_seconds": 300.0, "warmup_seconds": 30.0},
    ),
    Preset(
        Scenario.RAMP,
        "The number of users grows steadily from 0 to 16 in 10 minutes, to show how latency depends on the load.",
        {"concurrency": 16, "duration_seconds": 600.0},
        stages=(StageShare(1.0, 1.0, ramp=True),),
    ),
    Preset(
        Scenario.SPIKE,
        "2 users, then suddenly 20 for a minute, then 2 again, to show how fast the server recovers. 5 minutes.",
        {"concurrency": 20, "duration_seconds": 300.0},
        stages=(StageShare(0.4, 0.1), StageShare(0.2, 1.0), StageShare(0.4, 0.1)),
    ),
    Preset(
        Scenario.SOAK,
        "4 users for an hour, after a warm-up of a minute, to find leaks and slow degradation.",
        {"concurrency": 4, "duration_seconds": 3600.0, "warmup_seconds": 60.0},
    ),
    Preset(
        Scenario.STRESS,
        "The number of users doubles every 2 minutes from 4 to 64, to show where latency and errors get out of hand.",
        {"concurrency": 64, "duration_seconds": 600.0},
        stages=tuple(StageShare(0.2, share) for share in (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)),
        open_loop={"stop_when_saturated": True},
    ),
    Preset(
        Scenario.SWEEP,
        "Searches for the highest rate at which every objective is met, with a confidence interval.",
        {"sweep": RunSweep(max_rate=100.0, min_rate=0.25, step_seconds=60.0), "drain_timeout_seconds": 30.0},
        objectives=(Objective(MetricName.TTFT, 2.0, 95), Objective(MetricName.ERROR_RATE, 0.01)),
    ),
    Preset(
        Scenario.TRAFFIC,
        "About 12 requests per minute at random times until it is stopped: background traffic for dashboards and "
        "alerts.",
        {"rate": 0.2, "arrivals": Arrivals.POISSON, "max_in_flight": 8, "duration_seconds": MAX_SECONDS,
         "drain_timeout_seconds": 10.0},
    ),
)  # fmt: skip

PRESETS: Mapping[Scenario, Preset] = {preset.scenario: preset for preset in _TABLE}

_SHAPES = ("concurrency", "sessions", "rate", "stages", "sweep")
_OPEN_FIELDS = ("arrivals", "burstiness", "max_in_flight", "stop_when_saturated")


def apply_preset(
    scenario: Scenario, given: Mapping[str, Any], objectives: Sequence[Objective] = (), *, is_trace: bool = False
) -> ResolvedLoad:
    """Return the load of a preset, in which the `given` fields of `RunLoad` (in snake case) replace its own.

    None counts as not given. If `is_trace`, a trace determines when requests are sent, and the preset's shape is left
    out.
    Raises ValueError if the fields cannot be combined.
    """
    preset = PRESETS[scenario]
    own = {name: value for name, value in given.items() if value is not None}
    fields = {**preset.load, **own}
    shapes = [name for name in _SHAPES if name in own]
    if len(shapes) > 1:
        raise ValueError(f"set only one of {', '.join(_SHAPES)}, not {' and '.join(shapes)}")
    if shapes or is_trace:
        _replace_shape(preset, fields, shapes, own)
    if preset.stages and not is_trace and shapes not in (["stages"], ["sessions"], ["sweep"]):
        _set_stages(preset.stages, fields)
    judged = tuple(objectives) or preset.objectives
    if "max_requests" in preset.load and "max_requests" not in own:
        # With fewer requests, the run could not tell whether its objectives were met.
        fields["max_requests"] = max(preset.load["max_requests"], *(objective.needed for objective in judged), 1)
    load = RunLoad(**{**fields, **_open_fields(preset, fields, own)})
    return ResolvedLoad(load, judged)


def _replace_shape(preset: Preset, fields: dict[str, Any], shapes: list[str], own: Mapping[str, Any]) -> None:
    """Remove the preset's shape, which a given one or a trace replaces, and the fields that only belong to it."""
    sweep = fields.get("sweep")
    stays_open = shapes == ["rate"] and "rate" in preset.load
    for name in _SHAPES if stays_open else (*_SHAPES, *_OPEN_FIELDS):
        if name not in own:
            fields.pop(name, None)
    if preset.scenario is Scenario.SWEEP and sweep is not None and "sweep" not in own:
        if shapes == ["concurrency"]:
            raise ValueError("the scenario Sweep searches for a rate: set rate (the highest one to try) or sweep, "
                             "not concurrency")  # fmt: skip
        if shapes == ["rate"]:
            rate = fields.pop("rate")
            fields["sweep"] = RunSweep(max_rate=rate, min_rate=min(sweep.min_rate, rate / 64),
                                       step_seconds=sweep.step_seconds, precision=sweep.precision)  # fmt: skip


def _set_stages(shares: Sequence[StageShare], fields: dict[str, Any]) -> None:
    seconds = fields["duration_seconds"]
    rate, concurrency = fields.pop("rate", None), fields.pop("concurrency", None)
    fields["stages"] = tuple(
        RunStage(
            duration_seconds=share.duration * seconds,
            rate=None if rate is None else rate * share.level,
            concurrency=None if rate is not None else max(1, round(concurrency * share.level)),
            ramp=share.ramp,
        )
        for share in shares
    )


def _open_fields(preset: Preset, fields: Mapping[str, Any], own: Mapping[str, Any]) -> Mapping[str, Any]:
    stages = fields.get("stages") or ()
    is_open = "rate" in fields or "sweep" in fields or any(stage.rate is not None for stage in stages)
    return {name: value for name, value in preset.open_loop.items() if is_open and name not in own}
