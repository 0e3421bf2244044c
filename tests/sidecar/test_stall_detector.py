"""The decision whether Ollama is hung, in virtual time: hangs are noticed in the stated time, healthy silence never is."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmendpoint_sidecar.meter.traffic import ModelTraffic, merged
from llmendpoint_sidecar.stall.detector import Detector, Hang, Question, StallTimes
from support.in_memory.stalls import Work, World

MINUTE, HOUR = 60.0, 3600.0
AFTER = 30 * MINUTE
TIMES = StallTimes(AFTER)


def stream() -> Work:
    """Return a stream, which shows that the model runs. Two of them at once show that it has two slots."""
    return Work(at=1, pieces=50, pause=0.2)


def warm(parallel: int = 1, **fields: object) -> World:
    """Return a world in which the model has answered, as many requests at once as it has slots."""
    world = World(AFTER, parallel, **fields)  # type: ignore[arg-type]
    world.works += [stream() for _ in range(world.slots)]
    assert world.run(30) is None
    return world


def test_the_times_follow_from_the_limit() -> None:
    assert (TIMES.suspicion, TIMES.answer, TIMES.interval) == (2 * MINUTE, 5 * MINUTE, 1.0)
    short = StallTimes(20.0)
    assert (short.suspicion, short.answer, short.interval) == (5.0, 15.0, 1.0)
    assert all(StallTimes(after).suspicion + StallTimes(after).answer <= after for after in (1.0, 30.0, 600.0, AFTER))


# ---- hangs


def test_a_hang_with_a_free_slot_is_noticed_by_a_test() -> None:
    world = warm(parallel=2)
    world.hung_from = world.now
    world.works.append(Work(at=world.now))
    hang = world.run(AFTER)
    assert hang is not None
    assert (hang.model, hang.was_asked) == ("m", True)
    assert world.now - world.hung_from == pytest.approx(TIMES.suspicion + TIMES.answer, abs=5)


def test_a_hang_without_a_free_slot_is_noticed_by_the_limit() -> None:
    world = warm()
    world.hung_from = world.now
    world.works.append(Work(at=world.now))
    hang = world.run(2 * AFTER)
    assert hang is not None
    assert (hang.model, hang.was_asked) == ("m", False)
    assert hang.silent == pytest.approx(AFTER, abs=5)
    assert world.now - world.hung_from == pytest.approx(AFTER, abs=5)
    assert not world.tests


def test_a_hang_in_the_middle_of_streams_is_noticed() -> None:
    world = warm(parallel=4)
    world.works += [Work(at=world.now, pieces=10_000, pause=0.5) for _ in range(3)]
    assert world.run(10 * MINUTE) is None
    world.hung_from = world.now
    assert world.run(AFTER) is not None
    assert world.now - world.hung_from == pytest.approx(TIMES.suspicion + TIMES.answer, abs=5)


def test_clients_that_give_up_and_try_again_do_not_hide_a_hang() -> None:
    world = warm(parallel=2)
    world.hung_from = world.now
    world.works += [Work(at=world.now + 65 * index, patience=MINUTE) for index in range(60)]
    assert world.run(10 * MINUTE) is not None


def test_clients_that_never_leave_a_slot_free_do_not_hide_a_hang() -> None:
    """New requests are held, so that the slot becomes free for the question."""
    world = warm()
    world.hung_from = world.now
    world.works += [Work(at=world.now + 10 * index, patience=5 * MINUTE) for index in range(2000)]
    hang = world.run(3 * AFTER)
    assert hang is not None
    assert world.refused
    assert world.now - world.hung_from < AFTER + 5 * MINUTE + TIMES.answer + 10


def test_a_load_that_never_ends_is_noticed_although_clients_give_up() -> None:
    world = World(AFTER, load=100 * HOUR)
    world.works += [Work(at=1 + 10 * index, patience=5 * MINUTE) for index in range(4000)]
    assert world.run(3 * AFTER) is not None


def test_a_healthy_model_whose_clients_all_give_up_is_asked_and_not_hung() -> None:
    world = warm()
    world.works += [Work(at=world.now + 10 * index, prefill=10 * MINUTE, patience=5 * MINUTE) for index in range(2000)]
    assert world.run(4 * HOUR) is None
    assert world.tests


def test_a_model_that_was_never_seen_to_run_two_requests_is_hung_only_after_the_limit() -> None:
    world = World(AFTER, parallel=4, slots=4)
    world.works.append(stream())
    assert world.run(30) is None
    world.hung_from = world.now
    world.works.append(Work(at=world.now))
    hang = world.run(2 * AFTER)
    assert hang is not None
    assert not hang.was_asked
    assert world.now - world.hung_from == pytest.approx(AFTER, abs=5)


def test_a_hang_while_a_model_is_loaded_is_noticed_by_the_limit() -> None:
    world = World(AFTER, parallel=4, load=HOUR, hung_from=10.0)
    world.works.append(Work(at=1))
    hang = world.run(2 * AFTER)
    assert hang is not None
    assert hang.model is None
    assert world.now == pytest.approx(AFTER, abs=10)


def test_one_hung_model_is_noticed_while_another_one_streams() -> None:
    world = warm(parallel=2)
    world.works.append(Work("b", at=world.now, pieces=100_000, pause=0.5))
    assert world.run(MINUTE) is None
    detector, now = world.detector, world.now
    hung, asked_at = None, None
    for _ in range(int(AFTER)):
        now += 1
        traffic = {
            "m": ModelTraffic(in_flight=1, waiting_since=world.now),
            "b": ModelTraffic(in_flight=1, waiting_since=now, last_byte=now, flowing=1),
        }
        decision = detector.tick(now, traffic, world.in_memory)
        if isinstance(decision, Question):
            asked_at = now
        hung = decision if isinstance(decision, Hang) else None
        if hung is None and asked_at is not None and now - asked_at > TIMES.answer:
            hung = detector.answer(False)
        if hung is not None:
            break
    assert hung is not None
    assert hung.model == "m"


# ---- healthy silences

HEALTHY = {
    "idle": [],
    "the prefill of a large prompt": [Work(prefill=29 * MINUTE)],
    "a response with stream: false": [Work(prefill=25 * MINUTE)],
    "a tool call that is composed": [Work(pieces=2, pause=25 * MINUTE)],
    "a full queue": [Work(prefill=15 * MINUTE) for _ in range(12)],
    "a client that does not read": [Work(pieces=40, pause=1.0, unread=(40.0, 40.0 + HOUR))],
    "requests behind a client that does not read": [
        Work(pieces=40, pause=1.0, unread=(40.0, 40.0 + 2 * MINUTE)), Work(prefill=25 * MINUTE)
    ],
    "options that need another runner": [Work(prefill=25 * MINUTE, own_runner=True)],
    "an embedding of many texts": [Work(prefill=25 * MINUTE, slots=2)],
    "clients that give up": [Work(at=65.0 * index, prefill=5 * MINUTE, patience=MINUTE) for index in range(60)],
}  # fmt: skip


@pytest.mark.parametrize("parallel", [1, 2, 4])
@pytest.mark.parametrize("silence", HEALTHY)
def test_a_healthy_silence_is_not_a_hang(silence: str, parallel: int) -> None:
    world = warm(parallel)
    for work in HEALTHY[silence]:
        fields = {name: getattr(work, name) for name in ("prefill", "pieces", "pause", "own_runner", "patience")}
        unread = tuple(when + world.now if when else 0.0 for when in work.unread)
        slots = min(work.slots, parallel)
        world.works.append(Work(at=world.now + work.at, slots=slots, unread=unread, **fields))  # type: ignore[arg-type]
    assert world.run(6 * HOUR) is None


@pytest.mark.parametrize("load", [10 * MINUTE, 28 * MINUTE])
def test_the_load_of_a_model_is_not_a_hang(load: float) -> None:
    world = World(AFTER, parallel=4, load=load)
    world.works.append(Work(at=1))
    assert world.run(HOUR) is None
    assert not world.tests


def test_requests_that_wait_for_the_load_of_another_model_are_not_hung() -> None:
    """Ollama schedules requests one after the other, so a free slot does not help."""
    world = warm(parallel=4)
    world.load = 20 * MINUTE
    world.works += [Work("b", at=world.now + 1), Work(at=world.now + 2)]
    assert world.run(HOUR) is None


def test_a_model_with_fewer_slots_than_configured_is_not_hung() -> None:
    """Ollama gives some architectures one slot, whatever OLLAMA_NUM_PARALLEL says."""
    world = warm(parallel=4, slots=1)
    world.works.append(Work(at=world.now, prefill=28 * MINUTE))
    assert world.run(HOUR) is None


def test_an_answered_test_shows_a_second_slot() -> None:
    world = World(AFTER, parallel=4, slots=4)
    world.works.append(stream())
    assert world.run(30) is None
    world.works.append(Work(at=world.now, prefill=5 * MINUTE))
    assert world.run(10 * MINUTE) is None
    assert world.tests
    world.hung_from = world.now
    world.works.append(Work(at=world.now))
    hang = world.run(AFTER)
    assert hang is not None
    assert hang.was_asked


def test_a_pause_of_the_whole_process_does_not_count() -> None:
    detector = Detector(1, TIMES)
    memory = {"m": 1}
    detector.tick(0.0, {"m": ModelTraffic(last_byte=0.5)}, memory)
    wait = {"m": ModelTraffic(in_flight=1, waiting_since=1.0, last_byte=0.5)}
    for now in (1.0, 2.0, 2.0 + 10 * HOUR, 3.0 + 10 * HOUR):
        assert detector.tick(now, wait, memory) is None


def test_a_test_that_ollama_answers_with_an_error_decides_nothing() -> None:
    world = warm(parallel=2)
    detector, now, waiting_since = world.detector, world.now, world.now
    decisions = []
    while now < waiting_since + 3 * TIMES.suspicion:
        now += 1
        decision = detector.tick(now, {"m": ModelTraffic(in_flight=1, waiting_since=waiting_since)}, world.in_memory)
        if isinstance(decision, Question):
            decisions.append(now)
            assert detector.answer(None) is None
    assert len(decisions) >= 2
    assert decisions[1] - decisions[0] >= TIMES.suspicion


def test_the_requests_of_all_processes_count_together() -> None:
    parts = [
        {"m": ModelTraffic(in_flight=1, waiting_since=7.0, last_byte=3.0)},
        {"m": ModelTraffic(in_flight=2, waiting_since=5.0, flowing=1, own_runner=True), "b": ModelTraffic(unread=True)},
    ]
    assert merged(parts) == {
        "m": ModelTraffic(3, 5.0, 3.0, 1, own_runner=True),
        "b": ModelTraffic(unread=True),
    }


#: Scaled to a tenth, so that an example takes few steps.
SCALED = 180.0
works = st.builds(
    Work,
    model=st.sampled_from("ab"),
    at=st.floats(0, 900),
    # Together with a load, the longest silence is below the limit.
    prefill=st.floats(0, 140),
    pieces=st.integers(1, 8),
    pause=st.floats(0.5, 60),
    own_runner=st.booleans(),
    patience=st.sampled_from([float("inf"), 6.0, 60.0]),
)


@settings(max_examples=100)
@given(
    schedule=st.lists(works, max_size=10),
    parallel=st.integers(1, 3),
    load=st.floats(0, 30),
    missing=st.booleans(),
)
def test_no_healthy_schedule_is_a_hang(schedule: list[Work], parallel: int, load: float, missing: bool) -> None:
    """Whatever the schedule, as long as the longest silence of Ollama itself is below the limit."""
    world = World(SCALED, parallel, slots=1 if missing else parallel, load=load)
    # Hypothesis keeps its examples.
    world.works = [replace(work) for work in sorted(schedule, key=lambda work: work.at)]
    while world.now < 3000 and any(work.ended is None for work in world.works):
        assert world.run(60) is None
