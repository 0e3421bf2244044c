"""Increases of counters and their sliding window, in virtual time."""

from __future__ import annotations

from llmendpoint_dashboard.sources.exposition import Key, Kind
from llmendpoint_dashboard.sources.increases import Counters, Increase, Window

A, B = Key(Kind.REQUESTS, "a", "", "ok"), Key(Kind.REQUESTS, "b", "", "ok")


def increase(counters: Counters, values: dict[Key, int], now: float) -> dict[Key, int] | None:
    found = counters.read(values, now)
    return None if found is None else dict(found.counts)


def test_the_first_reading_increases_nothing() -> None:
    counters = Counters()
    assert increase(counters, {A: 1000}, 0) is None
    assert increase(counters, {A: 1003, B: 2}, 2) == {A: 3, B: 2}
    assert increase(counters, {A: 1003, B: 2}, 4) == {}


def test_after_a_restart_counters_begin_at_zero() -> None:
    counters = Counters()
    counters.read({A: 1000, B: 5}, 0)
    # B is more than before, and has started at 0 nevertheless, because the process of A has.
    assert increase(counters, {A: 4, B: 9}, 2) == {A: 4, B: 9}


def test_a_counter_that_vanished_shows_a_restart() -> None:
    counters = Counters()
    counters.read({A: 3, B: 5}, 0)
    assert increase(counters, {A: 3}, 2) == {A: 3}


def test_a_window_has_the_increases_of_its_length() -> None:
    window = Window(30.0)
    assert window.length == 0
    for number in range(100):
        window.add(Increase(2.0 * number, 2.0 * number + 2, {A: 1}))
    assert window.counts == {A: 15}
    assert window.length == 30


def test_a_window_is_as_long_as_what_is_known() -> None:
    window = Window(30.0)
    window.add(Increase(0, 2, {A: 4}))
    assert (window.counts, window.length) == ({A: 4}, 2)


def test_what_leaves_a_window_leaves_no_zeros() -> None:
    window = Window(10.0)
    window.add(Increase(0, 2, {A: 4}))
    for number in range(1, 20):
        window.add(Increase(2 * number, 2 * number + 2, {}))
    assert window.counts == {}


def test_irregular_readings_keep_the_rate() -> None:
    """A source that was silent for a minute has one long interval, over which its increase is averaged."""
    window = Window(30.0)
    for number in range(20):
        window.add(Increase(2 * number, 2 * number + 2, {A: 2}))
    window.add(Increase(40, 100, {A: 60}))
    assert window.counts[A] / window.length == 1
