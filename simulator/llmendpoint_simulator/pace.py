"""Times of an answer. They depend on the behaviour, on how many requests run, and on where the model is.

With `parallel` slots of which `running` are taken, `load_factor` L multiplies each time by

    1 + (L - 1) * (running - 1) / (parallel - 1)

which is 1 for a request that runs alone, and L if all slots are taken. A model of which a share is on the CPU is slower
by another factor, 1 + (cpu_factor - 1) * share.
"""

from __future__ import annotations

from random import Random

from llmendpoint_simulator.behaviour import Behaviour
from llmendpoint_simulator.latency import draw
from llmendpoint_simulator.memory import Runner
from llmendpoint_simulator.slots import Slots


class Pace:
    """Times of one answer, in seconds."""

    def __init__(self, behaviour: Behaviour, random: Random, slots: Slots, runner: Runner) -> None:
        self._behaviour = behaviour
        self._random = random
        self._slots = slots
        self._slowness = 1 + (behaviour.cpu_factor - 1) * runner.cpu_share
        others = behaviour.parallel - 1
        self._growth = (behaviour.load_factor - 1) / others if others else 0.0
        self._gap = draw(behaviour.inter_token, random) * behaviour.tokens_per_chunk
        self._varies = bool(behaviour.jitter or self._growth or self._slowness != 1)

    def first(self, prompt_tokens: int) -> float:
        """Return the time from the begin of an answer to its first token."""
        behaviour = self._behaviour
        return (draw(behaviour.ttft, self._random) + behaviour.prompt_token * prompt_tokens) * self._factor()

    def gap(self) -> float:
        """Return the time between two chunks."""
        if not self._varies:
            return self._gap
        jitter = self._behaviour.jitter
        varied = self._gap * (1 + self._random.uniform(-jitter, jitter)) if jitter else self._gap
        return varied * self._factor()

    def _factor(self) -> float:
        return self._slowness * (1 + self._growth * max(0, self._slots.running - 1))
