"""Decides which requests get a fault, by rules with probabilities and counts. Equal seeds give equal decisions."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import NamedTuple

import msgspec

from llmendpoint_common.contracts.ollama import model_key
from llmendpoint_simulator.behaviour import Behaviour
from llmendpoint_simulator.faults import ANSWER_FAULTS, Fault, FaultRule

_BEARER = "bearer "


class Asked(NamedTuple):
    """Properties of a request that rules match: its path, the canonical name of its model, and its API key."""

    route: str
    model: str
    key: str


class Injected(NamedTuple):
    """A fault for one request, and the number of chunks before it. A rule has more details."""

    fault: Fault
    after: int
    rule: FaultRule


class Tally(msgspec.Struct):
    """How many requests a rule matched, and how many of them got its fault."""

    rule: FaultRule
    matched: int = 0
    injected: int = 0


class Injector:
    """The rules of the current behaviour, with their counts. They begin again if the behaviour is changed."""

    def __init__(self, behaviour: Callable[[], Behaviour]) -> None:
        self._behaviour = behaviour
        self.restart()

    def restart(self) -> None:
        """Begin the counts and the random decisions again."""
        behaviour = self._behaviour()
        # The decisions do not depend on how many latencies were drawn.
        self._random = Random(f"faults {behaviour.seed}")  # noqa: S311 - not for secrets
        self.tallies = [Tally(rule) for rule in behaviour.faults]

    def pick(self, asked: Asked, kinds: frozenset[Fault], common: frozenset[Fault]) -> Injected | None:
        """Return the fault that a request gets: that of the first rule, or the common one. It is one of some kinds."""
        behaviour = self._behaviour()
        for tally in self.tallies:
            if tally.rule.fault in kinds and _matches(tally.rule, asked) and self._decide(tally):
                return Injected(tally.rule.fault, _after(tally.rule, behaviour), tally.rule)
        if behaviour.fault in common - {Fault.HANG}:
            return Injected(behaviour.fault, behaviour.fault_after, FaultRule(behaviour.fault))
        return None

    def pick_by_route(self, asked: Asked) -> Injected | None:
        """Return the fault that a rule with a route has for a request that runs no model."""
        for tally in self.tallies:
            rule = tally.rule
            if rule.fault in ANSWER_FAULTS and rule.route and _matches(rule, asked) and self._decide(tally):
                return Injected(rule.fault, 0, rule)
        return None

    def _decide(self, tally: Tally) -> bool:
        rule = tally.rule
        tally.matched += 1
        if rule.count is not None and tally.injected >= rule.count:
            return False
        if rule.probability < 1 and self._random.random() >= rule.probability:
            return False
        tally.injected += 1
        return True


def key_of(headers: dict[str, str]) -> str:
    """Return the API key of a request, or an empty text."""
    authorization = headers.get("authorization", "")
    if authorization[:7].lower() == _BEARER:
        return authorization[7:].strip()
    return headers.get("x-api-key", "").strip()


def _after(rule: FaultRule, behaviour: Behaviour) -> int:
    if rule.after is not None:
        return rule.after
    # Without a number, a request hangs from its beginning.
    return 0 if rule.fault is Fault.HANG else behaviour.fault_after


def _matches(rule: FaultRule, asked: Asked) -> bool:
    if rule.route and rule.route != asked.route:
        return False
    if rule.key and rule.key != asked.key:
        return False
    return not rule.model or model_key(rule.model) == model_key(asked.model)
