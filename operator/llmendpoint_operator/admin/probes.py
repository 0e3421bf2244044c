"""Decides what the operator's probes answer. Has no side effects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llmendpoint_operator.leadership.claims import Candidate
from llmendpoint_operator.leadership.election import Phase, Standing
from llmendpoint_operator.leadership.sentences import left_out, sentence

#: `/readyz` fails if requests to the API server have had no response for this time.
SILENT_SECONDS = 10.0


@dataclass(frozen=True)
class Health:
    """State of the operator. `silent_seconds` is how long the API server has not answered; 0 if it does."""

    canary_seconds: float
    canary_limit: float
    listed: bool
    stopping: bool
    silent_seconds: float
    problems: Sequence[str]
    standings: Sequence[tuple[Candidate, Standing, str]]


def why_not_alive(health: Health) -> list[str]:
    """Return the reasons for which only a restart of the process can help."""
    if health.canary_seconds > health.canary_limit:
        return [
            "The watches are dead: renewals of the operator's Lease have not arrived through the watch of Leases for "
            f"{health.canary_seconds:.0f} s. The process ends by itself after 120 s."
        ]
    return []


def why_not_ready(health: Health) -> list[str]:
    """Return the reasons for which this process neither serves its namespaces nor could take over."""
    reasons = why_not_alive(health)
    if health.stopping:
        reasons.append("The operator is stopping.")
    if health.silent_seconds > SILENT_SECONDS:
        reasons.append(f"The API server has not answered for {health.silent_seconds:.0f} s.")
    if not health.listed:
        reasons.append("The first listing of resources is not complete.")
        reasons += health.problems
    standings = health.standings
    reasons += [sentence(*one) for one in standings if one[1].conflict]
    # A namespace that was deleted does not matter while others are served.
    if standings and not any(_works(standing) for _, standing, _ in standings):
        reasons += [sentence(*one) for one in standings if not one[1].conflict]
    return reasons


def notes(health: Health) -> list[str]:
    """Return what a person should know although the operator is ready."""
    found = [sentence(*one) for one in health.standings]
    found += [left_out(*one) for _, standing, _ in health.standings for one in standing.left_out]
    return found + list(health.problems)


def _works(standing: Standing) -> bool:
    is_standby = standing.phase is Phase.STANDBY and standing.other is not None
    return standing.leader or is_standby or standing.phase is Phase.CLAIMING
