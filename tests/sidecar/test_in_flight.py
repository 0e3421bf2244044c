"""Requests in flight: running and waiting requests, room in the bounded queue, and sums over processes."""

from __future__ import annotations

import pytest

from llmendpoint_sidecar.meter.in_flight import InFlight
from llmendpoint_sidecar.meter.model_labels import ModelLabels

REMOTE = "gpt-oss:120b-cloud"


@pytest.fixture
def in_flight() -> InFlight:
    model_labels = ModelLabels(lambda: None)
    model_labels.list([REMOTE, "tiny:latest"], remote=[REMOTE])
    return InFlight(model_labels, parallel=2)


def test_requests_beyond_the_slots_wait(in_flight: InFlight) -> None:
    for _ in range(3):
        in_flight.enter("tiny:latest")
    assert (in_flight.running(), in_flight.waiting()) == ({"tiny:latest": 2}, {"tiny:latest": 1})
    for _ in range(3):
        in_flight.leave("tiny:latest")
    assert in_flight.counts() == in_flight.running() == in_flight.waiting() == {}


@pytest.mark.parametrize(("max_waiting", "admitted"), [(0, 2), (1, 3), (5, 7)])
def test_room_is_the_slots_and_the_queue(in_flight: InFlight, max_waiting: int, admitted: int) -> None:
    count = 0
    while in_flight.has_room("tiny", max_waiting):
        in_flight.enter("tiny:latest")
        count += 1
    assert count == admitted


def test_models_that_run_elsewhere_have_no_slot_here(in_flight: InFlight) -> None:
    in_flight.enter(REMOTE)
    assert in_flight.running() == in_flight.waiting() == {}
    assert in_flight.counts() == {REMOTE: 1}


def test_the_counts_of_several_processes_add_up(in_flight: InFlight) -> None:
    in_flight.enter("other")
    in_flight.replace([{"tiny:latest": 2}, {"tiny:latest": 3, "other": 1}])
    assert in_flight.counts() == {"tiny:latest": 5, "other": 1}
    assert in_flight.waiting()["tiny:latest"] == 3
