"""The last hour in slots of 5 s, in virtual time."""

from __future__ import annotations

from itertools import pairwise

import pytest

from llmendpoint_dashboard.contract import SeriesName
from llmendpoint_dashboard.sources.exposition import Key, Kind
from llmendpoint_dashboard.sources.history import RANGES, times_of
from llmendpoint_dashboard.sources.increases import Increase
from llmendpoint_dashboard.sources.ring import Ring, Selection

#: A Unix time at the beginning of a slot, and of a step of 15 s.
START = 1_800_000_000.0
TOKENS = Key(Kind.GENERATION_TOKENS, "m", "red")
ERRORS = Key(Kind.REQUESTS, "m", "red", "truncated")
EVERYTHING = Selection()


def filled(seconds: int, key: Key = TOKENS, count: int = 20) -> Ring:
    """Return a ring with an increase every 2 s."""
    ring = Ring()
    for passed in range(0, seconds, 2):
        ring.add(Increase(passed, passed + 2, {key: count}), START + passed + 2)
    return ring


def values(
    ring: Ring, name: SeriesName, now: float, seconds: float = 900, step: float = 5, selection: Selection = EVERYTHING
) -> list[float | None]:
    found = [series for series in ring.series(times_of(now, seconds, step), step, selection) if series.name is name]
    return found[0].values if found else []


def test_a_steady_rate_is_shown_exactly() -> None:
    shown = values(filled(300), SeriesName.GENERATION_TOKENS, START + 300)
    known = [value for value in shown if value is not None]
    assert len(shown) == 180
    assert len(known) == 60
    assert known[-50:] == [pytest.approx(10)] * 50


def test_the_time_before_the_first_reading_is_unknown() -> None:
    shown = values(filled(60), SeriesName.GENERATION_TOKENS, START + 60)
    assert shown[:-12] == [None] * 168


def test_the_rate_is_steady_from_the_first_reading_on_although_it_began_within_a_slot() -> None:
    ring = Ring()
    # The first reading of a sidecar has nothing to compare its counters with.
    ring.note_in_flight(START + 3, {"m": 1}, {})
    assert values(ring, SeriesName.RUNNING, START + 5)[-1] == 1
    for passed in range(3, 63, 2):
        ring.add(Increase(passed, passed + 2, {TOKENS: 20}), START + passed + 2)
    shown = values(ring, SeriesName.GENERATION_TOKENS, START + 60)
    assert shown[-12:] == [pytest.approx(10)] * 12
    assert ring.begin == START + 3
    assert not ring.knows(START + 5, 5)
    assert ring.knows(START + 10, 5)


def test_a_gap_is_unknown_and_not_zero() -> None:
    ring = filled(60)
    for passed in range(200, 260, 2):
        ring.add(Increase(passed, passed + 2, {}), START + passed + 2)
    shown = values(ring, SeriesName.GENERATION_TOKENS, START + 260, seconds=260)
    # A point covers 30 s before it, so that the gap is shown from 90 s to 200 s.
    assert shown[18:40] == [None] * 22
    assert shown[-1] == 0


def test_an_increase_over_several_slots_is_divided_among_them() -> None:
    ring = Ring()
    ring.add(Increase(0, 20, {TOKENS: 200}), START + 20)
    total = ring.series([START + 30], 30, EVERYTHING)[1].values
    assert total == [pytest.approx(200 / 20)]


def test_requests_in_flight_are_those_at_the_end_of_a_slot() -> None:
    ring = filled(30)
    for passed, running in ((20, 1), (23, 4), (24, 2)):
        ring.note_in_flight(START + passed, {"m": running, "n": 1}, {"m": running + 1})
    assert values(ring, SeriesName.RUNNING, START + 25, seconds=10)[-1] == 3
    assert values(ring, SeriesName.WAITING, START + 25, seconds=10)[-1] == 3
    assert values(ring, SeriesName.RUNNING, START + 25, seconds=10, selection=Selection("n"))[-1] == 1


def test_a_selection_has_only_its_model_and_tenant() -> None:
    ring = filled(60)
    other = Key(Kind.GENERATION_TOKENS, "m", "blue")
    for passed in range(0, 60, 2):
        ring.add(Increase(passed, passed + 2, {other: 2}), START + passed + 2)

    def last(selection: Selection) -> float | None:
        return values(ring, SeriesName.GENERATION_TOKENS, START + 60, selection=selection)[-1]

    assert last(EVERYTHING) == last(Selection("m")) == pytest.approx(11)
    assert last(Selection("m", "blue")) == last(Selection(None, "blue")) == pytest.approx(1)
    assert last(Selection("absent")) == 0


def test_a_tenant_has_no_latencies_and_no_requests_in_flight() -> None:
    names = {series.name for series in filled(60).series([START + 60], 5, Selection(None, "red"))}
    assert names == {SeriesName.PROMPT_TOKENS, SeriesName.GENERATION_TOKENS}


def test_errors_have_a_series_for_each_outcome_and_successes_have_none() -> None:
    ring = filled(60, ERRORS, 2)
    ring.add(Increase(58, 60, {Key(Kind.REQUESTS, "m", "", "ok"): 5}), START + 60)
    errors = [series for series in ring.series([START + 60], 5, EVERYTHING) if series.name is SeriesName.ERRORS]
    assert [series.outcome for series in errors] == ["truncated"]
    assert errors[0].values == [pytest.approx(1)]


def test_percentiles_are_those_of_the_window() -> None:
    ring = filled(60, Key(Kind.TTFT, "m", low=0.1, high=0.25), 4)
    assert values(ring, SeriesName.TTFT_P50, START + 60)[-1] == pytest.approx(0.175)
    assert values(ring, SeriesName.TTFT_P95, START + 60)[-1] == pytest.approx(0.2425)
    assert values(ring, SeriesName.INTER_CHUNK_P50, START + 60)[-1] is None


def test_an_hour_is_kept_and_no_more() -> None:
    ring = filled(3 * 3600, count=2)
    assert len(ring._slots) <= 723
    assert ring.knows(START + 3 * 3600, 3600)
    assert not ring.knows(START + 3 * 3600, 3660)
    assert START + 2 * 3600 - 10 <= (ring.begin or 0) <= START + 2 * 3600


def test_slots_of_a_clock_that_was_ahead_are_forgotten() -> None:
    ring = Ring()
    ring.add(Increase(0, 2, {TOKENS: 1}), START + 86400)
    ring.add(Increase(2, 4, {TOKENS: 1}), START)
    assert values(ring, SeriesName.GENERATION_TOKENS, START + 86400 + 60)[-1] is None


def test_a_slot_with_too_many_counters_keeps_the_total() -> None:
    ring = Ring()
    counts = {Key(Kind.GENERATION_TOKENS, f"m{number}"): 3 for number in range(5000)}
    ring.add(Increase(0, 4, counts), START + 4)
    assert sum(len(model) for model in next(iter(ring._slots.values())).models.values()) == 1500
    assert ring.series([START + 5], 5, EVERYTHING)[1].values == [pytest.approx(3000)]


def test_the_times_of_a_history_are_regular_and_end_within_the_last_minute() -> None:
    for seconds, step in RANGES.values():
        times = times_of(START + 1234.5, seconds, step)
        assert len(times) == seconds / step
        assert {later - earlier for earlier, later in pairwise(times)} == {step}
        assert 0 <= START + 1234.5 - times[-1] < min(step, 60)
        assert times == times_of(START + 1234.6, seconds, step)
