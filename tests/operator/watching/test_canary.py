"""The canary: how long a renewal of our Lease has not arrived, in virtual time."""

from __future__ import annotations

import pytest

from llmendpoint_operator.watching.canary import Canary
from support.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def canary(clock: Clock) -> Canary:
    return Canary(clock)


def renew(canary: Canary, clock: Clock, times: int, first: int, namespace: str = "a") -> None:
    """Accept a renewal every 5 s."""
    for version in range(first, first + times):
        canary.sent(namespace, version)
        clock.now += 5


def test_renewals_that_arrive_are_not_overdue(canary: Canary, clock: Clock) -> None:
    for version in range(1, 50):
        canary.sent("a", version)
        clock.now += 5
        canary.seen("a", version)
    assert canary.overdue() == 0


def test_a_dead_watch_is_overdue_by_the_time_of_accepted_renewals(canary: Canary, clock: Clock) -> None:
    renew(canary, clock, 13, first=1)
    assert canary.overdue() == canary.overdue("a") == 60
    assert canary.overdue("b") == 0
    canary.seen("a", 13)
    assert canary.overdue() == 0


def test_an_older_version_proves_nothing(canary: Canary, clock: Clock) -> None:
    renew(canary, clock, 5, first=10)
    canary.seen("a", 9)
    assert canary.overdue() == 20


def test_a_late_watch_is_overdue_by_less_with_each_event(canary: Canary, clock: Clock) -> None:
    renew(canary, clock, 5, first=1)
    canary.seen("a", 2)
    assert canary.overdue() <= 0
    renew(canary, clock, 3, first=6)
    assert canary.overdue() == 10


@pytest.mark.parametrize("gap", [16, 3600])
def test_an_api_server_that_was_away_is_not_the_fault_of_the_watch(canary: Canary, clock: Clock, gap: float) -> None:
    """Renewals are not accepted meanwhile. The same holds if this process was stopped, or its clock jumped."""
    renew(canary, clock, 3, first=1)
    clock.now += gap
    renew(canary, clock, 2, first=4)
    assert canary.overdue() == 5


def test_the_oldest_of_several_namespaces_counts(canary: Canary, clock: Clock) -> None:
    renew(canary, clock, 5, first=1, namespace="b")
    canary.sent("a", 9)
    assert canary.overdue() == 20
    canary.forget("b")
    assert canary.overdue() == 0
