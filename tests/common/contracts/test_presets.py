"""Presets: each one is a valid load, and given fields override it without losing its shape."""

from __future__ import annotations

import pytest

from llmendpoint_common.contracts.loadrun import (
    PRESETS,
    Arrivals,
    MetricName,
    Objective,
    RunDocument,
    RunLoad,
    RunSessions,
    RunStage,
    RunTarget,
    Scenario,
    apply_preset,
    parse_run_document,
    write_run_document,
)


@pytest.mark.parametrize("scenario", list(Scenario))
def test_every_preset_is_a_complete_run(scenario: Scenario) -> None:
    load, objectives = apply_preset(scenario, {})
    document = RunDocument(RunTarget("http://x"), "m", load, objectives=objectives)
    assert parse_run_document(write_run_document(document).encode(), "run.json") == document
    assert PRESETS[scenario].description.endswith(".")


@pytest.mark.parametrize("scenario", [Scenario.RAMP, Scenario.SPIKE, Scenario.STRESS])
@pytest.mark.parametrize("level", ["concurrency", "rate"])
def test_a_given_level_and_duration_scale_the_stages(scenario: Scenario, level: str) -> None:
    load, _ = apply_preset(scenario, {level: 40, "duration_seconds": 100.0})
    assert load.stages is not None
    assert max(getattr(stage, level) for stage in load.stages) == 40
    assert sum(stage.duration_seconds for stage in load.stages) == pytest.approx(100.0)
    assert len(load.stages) == len(PRESETS[scenario].stages)
    assert (load.concurrency, load.rate) == (None, None)


@pytest.mark.parametrize(
    ("objectives", "given", "requests"),
    [
        ((), {}, 5),
        ((Objective(MetricName.TTFT, 1.0, 50),), {}, 5),
        ((Objective(MetricName.TTFT, 1.0, 95),), {}, 20),
        ((Objective(MetricName.ERROR_RATE, 0.01), Objective(MetricName.TTFT, 1.0, 99)), {}, 100),
        ((Objective(MetricName.ERROR_RATE, 0.01),), {"max_requests": 7}, 7),
    ],
)
def test_smoke_sends_as_many_requests_as_its_objectives_need(
    objectives: tuple[Objective, ...], given: dict[str, int], requests: int
) -> None:
    assert apply_preset(Scenario.SMOKE, given, objectives).load.max_requests == requests


def test_stress_with_a_rate_ends_when_the_server_is_saturated() -> None:
    assert apply_preset(Scenario.STRESS, {"rate": 10.0}).load.stop_when_saturated is True
    assert apply_preset(Scenario.STRESS, {"rate": 10.0, "stop_when_saturated": False}).load.stop_when_saturated is False
    assert apply_preset(Scenario.STRESS, {}).load.stop_when_saturated is None


def test_given_shapes_replace_the_presets_shape_and_keep_the_rest() -> None:
    stages = (RunStage(5.0, concurrency=2),)
    assert apply_preset(Scenario.STRESS, {"stages": stages}).load.stages == stages
    assert apply_preset(Scenario.RAMP, {"sessions": RunSessions(3)}).load.stages is None
    load = apply_preset(Scenario.SOAK, {"rate": 2.0, "seed": None}).load
    assert (load.rate, load.concurrency, load.duration_seconds, load.warmup_seconds) == (2.0, None, 3600.0, 60.0)
    assert apply_preset(Scenario.BASELINE, {}, is_trace=True).load.concurrency is None


def test_traffic_stays_limited_at_another_rate_and_becomes_a_closed_loop_with_users() -> None:
    load = apply_preset(Scenario.TRAFFIC, {"rate": 1.0}).load
    assert (load.arrivals, load.max_in_flight) == (Arrivals.POISSON, 8)
    assert apply_preset(Scenario.TRAFFIC, {"concurrency": 1}).load == RunLoad(
        concurrency=1, duration_seconds=load.duration_seconds, drain_timeout_seconds=load.drain_timeout_seconds
    )


def test_a_rate_limits_a_sweep_and_users_are_refused() -> None:
    sweep = apply_preset(Scenario.SWEEP, {"rate": 8.0}).load.sweep
    assert sweep is not None
    assert (sweep.max_rate, sweep.min_rate) == (8.0, 0.125)
    with pytest.raises(ValueError, match="Sweep searches for a rate"):
        apply_preset(Scenario.SWEEP, {"concurrency": 8})


def test_given_objectives_replace_those_of_the_preset() -> None:
    given = Objective(MetricName.ERROR_RATE, 0.2)
    assert apply_preset(Scenario.SWEEP, {}, [given]).objectives == (given,)
    assert len(apply_preset(Scenario.SWEEP, {}).objectives) == 2


def test_two_given_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"set only one of .* not concurrency and rate"):
        apply_preset(Scenario.SMOKE, {"concurrency": 1, "rate": 1.0})
