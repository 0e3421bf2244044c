"""The state of a kind in a scope: what passes, what is lost, and the delays between attempts, in virtual time."""

from __future__ import annotations

from typing import Any

import pytest
from kubernetes.aio.client.exceptions import ApiException

from llmendpoint_operator.cluster.discovery import Discovery
from llmendpoint_operator.cluster.inventory import Inventory
from llmendpoint_operator.cluster.kinds import KINDS
from llmendpoint_operator.watching.access import KindAccess
from llmendpoint_operator.watching.feed import Feed
from llmendpoint_operator.watching.problems import sentences
from support.in_memory.fakes import forbidden, plain_not_found, refusal


class World:
    """The access to one kind in the namespace b."""

    def __init__(self, kind: str) -> None:
        self.now = 0.0
        self.changes: list[bool] = []
        self.discovery = Discovery()
        feed = Feed("b", [KINDS[kind]], Inventory(), lambda _: None)
        self.access = KindAccess(
            KINDS[kind], feed, self.discovery, lambda access: self.changes.append(access.is_lost), lambda: self.now
        )

    def fails_for(self, seconds: float, error: Exception) -> list[float]:
        """Fail until the time is over, and return the delays."""
        end, delays = self.now + seconds, []
        while self.now < end:
            delays.append(self.access.fails(error))
            self.now += delays[-1]
        return delays

    @property
    def problems(self) -> str:
        return " ".join(sentences("b", [self.access]))


@pytest.mark.parametrize("error", [refusal(500, "no"), refusal(429, "no"), OSError("refused"), TimeoutError()])
def test_errors_that_pass_are_reported_only_if_they_last(error: Exception) -> None:
    world = World("Service")
    delays = world.fails_for(15, error)
    assert max(delays) <= 12
    assert world.problems == ""
    world.fails_for(20, error)
    assert "The API server does not answer requests for Service in namespace b" in world.problems
    assert not world.access.is_lost
    world.access.works()
    assert world.problems == ""
    assert world.changes == []


def test_a_refusal_counts_after_some_seconds() -> None:
    """An API server that starts refuses what it will allow when it has read its roles."""
    world = World("Service")
    world.access.fails(forbidden())
    assert world.changes == []
    delays = world.fails_for(600, forbidden())
    assert world.access.is_lost
    assert max(delays) <= 72
    assert "The operator cannot watch Service in namespace b: 403 you may not" in world.problems
    assert "remove it from --namespace" in world.problems
    world.access.works()
    assert world.changes == [True, False]
    assert world.problems == ""


def test_kinds_that_are_refused_together_are_lost_together() -> None:
    """The delays have jitter. What is lost within 1.5 s is reported in one sentence."""
    lost_at = []
    for _ in range(200):
        world = World("Service")
        delay = world.access.fails(forbidden())
        while not world.changes:
            world.now += delay
            delay = world.access.fails(forbidden())
        lost_at.append(world.now)
    assert max(lost_at) - min(lost_at) <= 1.5


def test_a_missing_kind_of_ours_is_a_problem_and_an_optional_one_is_not() -> None:
    world = World("LLMEndpoint")
    world.access.fails(plain_not_found())
    assert world.discovery.missing == {"LLMEndpoint"}
    assert "does not have the kinds LLMEndpoint. Install" in world.problems
    world.access.works()
    assert world.discovery.missing == frozenset()
    optional = World("ServiceMonitor")
    delays = optional.fails_for(3600, plain_not_found())
    assert optional.discovery.missing == {"ServiceMonitor"}
    assert optional.problems == ""
    # It is found about a minute after it is installed. At rest, it costs one request per minute.
    assert min(delays[-3:]) >= 48
    assert max(delays) <= 72


def test_the_api_server_says_when_to_try_again() -> None:
    error = ApiException(status=429, reason="")
    headers: Any = {"Retry-After": "17"}
    error.headers = headers
    assert World("Service").access.fails(error) == 17
