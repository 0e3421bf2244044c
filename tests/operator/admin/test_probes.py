"""What `/livez` and `/readyz` answer, and why."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmendpoint_operator.admin.probes import Health, notes, why_not_alive, why_not_ready
from llmendpoint_operator.leadership.claims import Candidate, Claim, Reach
from llmendpoint_operator.leadership.election import Phase, Standing

WIDE = Candidate("ops/pod-a", "ops/one", Reach.CLUSTER, "ops")
HELD = Claim("ops", 1, "ops/pod-b", "ops/one", Reach.CLUSTER, True, 15.0, {})
LEADING = Standing(Phase.LEADING, True, None, False, ())
STANDBY = Standing(Phase.STANDBY, False, HELD, False, ())
CLAIMING = Standing(Phase.CLAIMING, False, None, False, ())
LATE = Standing(Phase.LEADING, False, None, False, ())
UNKNOWN = Standing(Phase.STANDBY, False, None, False, ())
CONFLICT = Standing(Phase.YIELDING, False, replace(HELD, namespace="else", installation="else/two"), True, ())

WELL = Health(0.0, 60.0, True, False, 0.0, (), ((WIDE, LEADING, ""),))


def narrow(namespace: str) -> Candidate:
    return Candidate("ops/pod-a", "ops/one", Reach.NAMESPACE, namespace)


@pytest.mark.parametrize("standing", [LEADING, STANDBY, CLAIMING], ids=lambda standing: standing.phase.value)
def test_a_leader_and_a_standby_of_the_same_installation_are_ready(standing: Standing) -> None:
    health = replace(WELL, standings=((WIDE, standing, ""),))
    assert why_not_alive(health) == why_not_ready(health) == []


def test_without_leader_election_it_is_ready() -> None:
    assert why_not_ready(replace(WELL, standings=())) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"stopping": True}, "The operator is stopping."),
        ({"silent_seconds": 31.0}, "The API server has not answered for 31 s."),
        ({"listed": False, "problems": ("No CRDs.",)}, "The first listing of resources is not complete. No CRDs."),
        ({"standings": ((WIDE, CONFLICT, ""),)}, "Installation else/two serves all namespaces"),
        ({"standings": ((WIDE, LATE, ""),)}, "was not renewed"),
        ({"standings": ((WIDE, UNKNOWN, "403 no"),)}, "it cannot read or write Lease ops/llmendpoint-operator: 403 no."),
        ({"standings": ((narrow("a"), LEADING, ""), (narrow("b"), CONFLICT, ""))}, "does not write to namespace b"),
    ],
)  # fmt: skip
def test_what_makes_it_unready_does_not_restart_it(change: dict[str, object], words: str) -> None:
    health = replace(WELL, **change)  # type: ignore[arg-type]
    assert words in " ".join(why_not_ready(health))
    assert why_not_alive(health) == []


def test_dead_watches_end_it() -> None:
    health = replace(WELL, canary_seconds=61.0)
    assert "have not arrived through the watch of Leases for 61 s" in why_not_alive(health)[0]
    assert why_not_ready(health)
    assert why_not_alive(replace(health, canary_seconds=59.0)) == []


def test_a_namespace_that_cannot_be_served_is_a_note_while_others_are() -> None:
    standings = ((narrow("a"), LEADING, ""), (narrow("b"), UNKNOWN, "404 namespaces b not found"))
    health = replace(WELL, standings=standings, problems=("The operator cannot watch Pod in namespace b.",))
    assert why_not_ready(health) == []
    text = " ".join(notes(health))
    assert "404 namespaces b not found" in text
    assert "cannot watch Pod" in text


def test_a_namespace_that_is_left_out_is_a_note() -> None:
    health = replace(WELL, standings=((WIDE, replace(LEADING, left_out=(("a", "x/two"),)), ""),))
    assert why_not_ready(health) == []
    assert "Namespace a is left to installation x/two" in " ".join(notes(health))
