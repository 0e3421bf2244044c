"""HDR histograms: three digits, exact merging, and a text that is read back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmendpoint_common.contracts.loadrun import needed_for
from llmendpoint_common.results.histogram import (
    FULL_BITS,
    PART_BITS,
    TIMELINE_BITS,
    Histogram,
    histogram_of,
    rank_of,
)
from llmendpoint_common.results.packing import pack, unpack

VALUES = st.lists(st.floats(min_value=1e-6, max_value=3600), min_size=1, max_size=200)


@pytest.mark.parametrize(("bits", "error"), [(FULL_BITS, 1e-3), (PART_BITS, 8e-3), (TIMELINE_BITS, 3.2e-2)])
@given(values=VALUES, percent=st.integers(min_value=1, max_value=100))
def test_a_percentile_is_right_to_the_resolution(values: list[float], percent: int, bits: int, error: float) -> None:
    exact = sorted(values)[max(0, -(-len(values) * percent // 100) - 1)]
    assert histogram_of(values, bits).percentile(percent) == pytest.approx(exact, rel=error, abs=1.1e-6)


@given(VALUES, st.integers(min_value=1, max_value=100))
def test_a_percentile_is_never_below_the_value(values: list[float], percent: int) -> None:
    exact = sorted(values)[rank_of(percent, len(values)) - 1]
    assert histogram_of(values).percentile(percent) >= round(exact * 1e6) / 1e6


@given(VALUES, VALUES)
def test_merged_is_as_if_recorded_in_one(left: list[float], right: list[float]) -> None:
    merged = histogram_of(left)
    merged.merge(histogram_of(right))
    whole = histogram_of(left + right)
    assert merged.pack() == whole.pack()
    assert merged.mean == whole.mean
    assert merged.percentile(95) == whole.percentile(95)


@given(st.lists(st.floats(min_value=-1, max_value=3600)))
def test_values_that_are_recorded_together_count_as_those_recorded_one_by_one(values: list[float]) -> None:
    together, single = Histogram(), Histogram()
    together.record_all(values)
    for value in values:
        single.record(value)
    assert together == single
    assert together.mean == single.mean


@given(VALUES)
def test_it_survives_json(values: list[float]) -> None:
    histogram = histogram_of(values)
    assert Histogram.unpack(histogram.pack()) == histogram


def test_an_empty_one_has_no_percentile() -> None:
    with pytest.raises(ValueError, match="no percentiles"):
        Histogram().percentile(50)


def test_histograms_of_two_resolutions_are_not_merged() -> None:
    with pytest.raises(ValueError, match="cannot be merged"):
        Histogram(11).merge(Histogram(8))


def test_the_distribution_ends_with_all_values() -> None:
    steps = list(histogram_of([0.1, 0.2, 0.2]).steps())
    assert steps[-1] == (0.2, 3)
    assert [count for _, count in steps] == [1, 3]


@pytest.mark.parametrize(
    ("percent", "count", "rank"), [(95, 20, 19), (95, 100, 95), (99, 100, 99), (90, 10, 9), (50, 1, 1), (99, 7, 7)]
)
def test_ranks_have_no_rounding_of_floats(percent: int, count: int, rank: int) -> None:
    assert rank_of(percent, count) == rank


@pytest.mark.parametrize(("percent", "count"), [(50, 2), (75, 4), (90, 10), (95, 20), (98, 50), (99, 100)])
def test_a_percentile_needs_one_request_above_it(percent: int, count: int) -> None:
    assert needed_for(percent) == count


@given(st.lists(st.integers(min_value=0, max_value=2**53 - 1), max_size=300))
def test_packed_numbers_are_read_back(numbers: list[int]) -> None:
    assert unpack(pack(numbers)) == numbers


@pytest.mark.parametrize("text", ["", "x", "é", "AAAA", pack([1])[:-4], pack([0] * (5 * 1024 * 1024)), pack([2**60])])
def test_packed_numbers_from_a_stranger_are_bounded(text: str) -> None:
    with pytest.raises(ValueError, match=r"packed|ASCII"):
        unpack(text)


@pytest.mark.parametrize(
    "numbers",
    [
        [],
        [11],
        [12, 0, 0, 0],
        [0, 0, 0, 0],
        [11, 0, 2**50, 0],
        [11, 1, 1, 1],
        [11, 1, 1, 1, 2**52, 1],
        [11, 0, 0, 0, 1],
    ],
)
def test_a_histogram_from_a_stranger_is_refused(numbers: list[int]) -> None:
    with pytest.raises(ValueError, match="histogram"):
        Histogram.unpack(pack(numbers))
