"""Latencies: distributions, jitter, and how they grow with load and on the CPU."""

from __future__ import annotations

import math
import statistics
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import msgspec
import pytest

from llmendpoint_simulator.behaviour import Behaviour
from llmendpoint_simulator.latency import Empirical, Gamma, Lognormal, draw, parse_latency
from llmendpoint_simulator.memory import Runner
from llmendpoint_simulator.pace import Pace
from llmendpoint_simulator.slots import Slots


def runner(vram: int = 100) -> Runner:
    return Runner("w", "m", "d", 100, vram, timedelta(), datetime(2026, 1, 1, tzinfo=UTC))


def pace(running: int = 1, vram: int = 100, **behaviour: Any) -> Pace:
    slots = Slots()
    slots.running = running
    return Pace(msgspec.convert(behaviour, Behaviour), Random(1), slots, runner(vram))


@pytest.mark.parametrize("latency", [Lognormal(0.2, 0.5), Gamma(0.2, 0.5)])
def test_a_distribution_has_its_mean_and_its_variation(latency: Lognormal | Gamma) -> None:
    random = Random(1)
    values = [draw(latency, random) for _ in range(20_000)]
    assert statistics.mean(values) == pytest.approx(0.2, rel=0.02)
    assert statistics.stdev(values) / statistics.mean(values) == pytest.approx(0.5, rel=0.05)
    assert min(values) > 0


def test_empirical_quantiles_are_interpolated() -> None:
    random = Random(1)
    latency = Empirical(((0, 0.0), (0.5, 0.1), (0.9, 0.5), (1, 2.0)))
    values = sorted(draw(latency, random) for _ in range(20_000))
    assert values[10_000] == pytest.approx(0.1, rel=0.05)
    assert values[18_000] == pytest.approx(0.5, rel=0.15)
    assert values[5_000] == pytest.approx(0.05, rel=0.05)
    assert 1.9 < values[-1] <= 2.0


@pytest.mark.parametrize(
    ("text", "latency"),
    [
        ("200ms", 0.2),
        ("lognormal:200ms:0.8", Lognormal(0.2, 0.8)),
        ("gamma:1s", Gamma(1.0, 0.5)),
        ("empirical:0=50ms,0.5=200ms,1=2s", Empirical(((0.0, 0.05), (0.5, 0.2), (1.0, 2.0)))),
    ],
)
def test_a_latency_is_written_as_text(text: str, latency: Any) -> None:
    assert parse_latency(text) == latency


@pytest.mark.parametrize(
    "text", ["", "fast", "normal:1s:1", "gamma:1s:0", "gamma:0:1", "empirical:0=1s", "empirical:x"]
)
def test_a_wrong_latency_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not"):
        parse_latency(text)


@pytest.mark.parametrize("pairs", [[[0.5, 1], [1, 2]], [[0, 2], [1, 1]], [[0, 1], [0, 2], [1, 3]], [[0, 1]]])
def test_quantiles_that_do_not_ascend_are_refused(pairs: list[list[float]]) -> None:
    given = {"ttft": {"distribution": "empirical", "quantiles": pairs}}
    with pytest.raises(msgspec.ValidationError, match="quantiles"):
        msgspec.convert(given, Behaviour)


def test_jitter_varies_each_gap_around_its_mean() -> None:
    varied = pace(inter_token=0.02, jitter=0.5)
    gaps = [varied.gap() for _ in range(5_000)]
    assert statistics.mean(gaps) == pytest.approx(0.02, rel=0.02)
    assert 0.01 <= min(gaps) < 0.0105
    assert 0.0295 < max(gaps) <= 0.03


def test_a_distribution_of_gaps_is_drawn_once_for_each_request() -> None:
    one = pace(inter_token={"distribution": "gamma", "mean": 0.02, "cv": 1})
    assert len({one.gap() for _ in range(10)}) == 1


@pytest.mark.parametrize(("running", "factor"), [(1, 1.0), (2, 5 / 3), (4, 3.0), (0, 1.0)])
def test_latencies_grow_with_the_requests_that_run(running: int, factor: float) -> None:
    busy = pace(running, ttft=0.1, inter_token=0.01, load_factor=3, parallel=4)
    assert busy.first(1) == pytest.approx(0.1 * factor)
    assert busy.gap() == pytest.approx(0.01 * factor)


def test_a_load_factor_needs_more_than_one_slot() -> None:
    assert pace(1, ttft=0.1, load_factor=3, parallel=1).first(1) == 0.1


@pytest.mark.parametrize(("vram", "factor"), [(100, 1.0), (75, 1 + 9 / 4), (0, 10.0)])
def test_a_model_is_slower_on_the_cpu(vram: int, factor: float) -> None:
    assert pace(vram=vram, ttft=0.1, cpu_factor=10).first(1) == pytest.approx(0.1 * factor)


def test_the_time_to_first_token_grows_with_the_prompt() -> None:
    assert math.isclose(pace(ttft=0.1, prompt_token=0.001).first(200), 0.3)
