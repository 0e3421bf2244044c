"""Confidence intervals: known values, exact coverage, and large numbers."""

from __future__ import annotations

import random
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmendpoint_common.results.confidence import binomial_cdf, percentile_ranks, share_interval


@given(st.integers(min_value=1, max_value=60), st.floats(min_value=0.001, max_value=0.999), st.data())
def test_the_binomial_distribution_is_the_sum_of_its_terms(count: int, share: float, data: st.DataObject) -> None:
    hits = data.draw(st.integers(min_value=-1, max_value=count))
    exact = sum(comb(count, k) * share**k * (1 - share) ** (count - k) for k in range(hits + 1))
    assert binomial_cdf(hits, count, share) == pytest.approx(exact, abs=1e-9)


@pytest.mark.parametrize(
    ("share", "count", "low", "high"),
    # Known tables: Conover (1999), and R's qbinom.
    [
        (0.5, 100, 40, 61),
        (0.5, 20, 6, 15),
        (0.95, 100, 90, 100),
        (0.95, 20, 17, 21),
        (0.99, 100, 97, 101),
        (0.5, 1, 0, 2),
    ],
)
def test_ranks_are_those_of_the_tables(share: float, count: int, low: int, high: int) -> None:
    assert tuple(percentile_ranks(share, count)) == (low, high)


@given(st.integers(min_value=1, max_value=300), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_the_interval_has_at_least_the_stated_coverage(count: int, share: float) -> None:
    low, high = percentile_ranks(share, count)
    below = binomial_cdf(low - 1, count, share)
    above = 1 - binomial_cdf(high - 1, count, share)
    assert below <= 0.025 + 1e-12
    assert above <= 0.025 + 1e-12


def test_the_interval_encloses_the_true_percentile_in_95_percent_of_runs() -> None:
    source, hits = random.Random(3), 0
    for _ in range(600):
        values = sorted(source.expovariate(1.0) for _ in range(120))
        low, high = percentile_ranks(0.9, 120)
        hits += values[low - 1] <= 2.302585 <= values[high - 1]
    assert hits / 600 > 0.93


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    [(0, 10, 0.0, 0.3085), (10, 10, 0.6915, 1.0), (1, 100, 0.000253, 0.05446), (33, 40, 0.6722, 0.9266)],
)
def test_shares_have_the_interval_of_clopper_and_pearson(hits: int, count: int, low: float, high: float) -> None:
    interval = share_interval(hits, count)
    assert interval.low == pytest.approx(low, abs=2e-4)
    assert interval.high == pytest.approx(high, abs=2e-4)


def test_a_million_requests_are_no_problem() -> None:
    low, high = percentile_ranks(0.99, 1_000_000)
    assert low == pytest.approx(990_000 - 195, abs=3)
    assert high == pytest.approx(990_000 + 196, abs=3)
    assert share_interval(10_000, 1_000_000).low == pytest.approx(0.0098, abs=1e-5)
