"""Rates and percentiles of the overview."""

from __future__ import annotations

import math

import pytest

from llmendpoint_dashboard.sources.exposition import Key, Kind
from llmendpoint_dashboard.sources.traffic import Rates, overview, percentiles, quantile


@pytest.mark.parametrize(
    ("buckets", "share", "expected"),
    [
        # Half of ten values up to 1, in the middle of the bucket.
        ({(0.0, 1.0): 10}, 0.5, 0.5),
        ({(0.0, 1.0): 10, (1.0, 2.0): 10}, 0.75, 1.5),
        # An empty bucket between two others is passed.
        ({(0.0, 1.0): 1, (4.0, 5.0): 1}, 0.95, 4.9),
        # Above the last finite bound, that bound is returned, as Prometheus does.
        ({(0.0, 1.0): 1, (10.0, math.inf): 9}, 0.5, 10.0),
        ({(10.0, math.inf): 9}, 0.5, 10.0),
    ],
)
def test_a_quantile_is_interpolated(buckets: dict[tuple[float, float], float], share: float, expected: float) -> None:
    assert quantile(buckets, share) == pytest.approx(expected)


@pytest.mark.parametrize("buckets", [{}, {(0.0, 1.0): 0.0}])
def test_no_values_have_no_quantile(buckets: dict[tuple[float, float], float]) -> None:
    assert quantile(buckets, 0.5) is None
    assert percentiles(buckets) is None


def test_the_last_bucket_is_reached_in_spite_of_rounding() -> None:
    buckets = {(float(number), float(number + 1)): 0.1 for number in range(10)}
    assert quantile(buckets, 1.0) == pytest.approx(10.0)


def test_an_overview_has_totals_models_and_tenants() -> None:
    rates = Rates()
    rates.add(
        {
            Key(Kind.REQUESTS, "a", "red", "ok"): 30,
            Key(Kind.REQUESTS, "b", "", "upstream_5xx"): 15,
            Key(Kind.PROMPT_TOKENS, "a", "red"): 300,
            Key(Kind.GENERATION_TOKENS, "a", "red"): 600,
            Key(Kind.TTFT, "a", low=0.1, high=0.25): 30,
        },
        30.0,
    )
    # Another source, which is known for 10 s only.
    rates.add({Key(Kind.REQUESTS, "a", "red", "ok"): 10}, 10.0)
    rates.add_in_flight({"a": 2, "c": 1}, {"a": 3})
    seen = overview(rates, 5.0)
    assert (seen.time, seen.window_seconds) == (5.0, 30.0)
    assert seen.total.requests_per_second == 2.5
    assert seen.total.outcomes == {"ok": 2.0, "upstream_5xx": 0.5}
    assert (seen.total.prompt_tokens_per_second, seen.total.generation_tokens_per_second) == (10, 20)
    assert (seen.total.running, seen.total.waiting) == (3, 3)
    assert seen.total.ttft is not None
    assert seen.total.ttft.p50 == pytest.approx(0.175)
    assert seen.total.inter_chunk is None
    assert [(model.model, model.requests_per_second, model.running) for model in seen.models] == [
        ("a", 2, 2), ("b", 0.5, 0), ("c", 0, 1),
    ]  # fmt: skip
    assert [(tenant.tenant, tenant.requests_per_second, tenant.running) for tenant in seen.tenants] == [
        ("red", 2, None), ("", 0.5, None),
    ]  # fmt: skip


def test_an_overview_is_bounded() -> None:
    rates = Rates()
    rates.add({Key(Kind.GENERATION_TOKENS, f"m{number}", f"t{number}"): number + 1 for number in range(500)}, 1.0)
    seen = overview(rates, 0.0)
    assert len(seen.models) == len(seen.tenants) == 100
    assert seen.models[0].model == "m499"
    assert seen.total.generation_tokens_per_second == 125250
