"""HDR histograms: three digits, and merging without loss."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmendpoint_loadjob.result.histogram import Histogram, histogram_of

VALUES = st.lists(st.floats(min_value=1e-6, max_value=3600), min_size=1, max_size=200)


@given(VALUES, st.integers(min_value=1, max_value=100))
def test_a_percentile_is_right_to_three_digits(values: list[float], percent: int) -> None:
    exact = sorted(values)[max(0, -(-len(values) * percent // 100) - 1)]
    assert histogram_of(values).percentile(percent) == pytest.approx(exact, rel=1e-3, abs=1.1e-6)


@given(VALUES, VALUES)
def test_merged_is_as_if_recorded_in_one(left: list[float], right: list[float]) -> None:
    merged = histogram_of(left)
    merged.merge(histogram_of(right))
    whole = histogram_of(left + right)
    assert merged.dump() == whole.dump()
    assert merged.percentile(95) == whole.percentile(95)


@given(VALUES)
def test_it_survives_json(values: list[float]) -> None:
    histogram = histogram_of(values)
    assert Histogram.load(histogram.dump()).dump() == histogram.dump()


def test_an_empty_one_has_no_percentile() -> None:
    with pytest.raises(ValueError, match="no percentiles"):
        Histogram().percentile(50)
