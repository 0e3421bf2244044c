"""Arrivals of an open loop in operational time: the times of a process with one arrival per unit on average.

A rate that changes is applied afterwards (`curve.LoadCurve.time_of`): if the cumulative rate up to time t is L(t), the
arrivals at L⁻¹(s₁), L⁻¹(s₂), … have that rate, and the law of the gaps holds in ramps too (Çinlar, Introduction to
Stochastic Processes, 1975, section 4.7; Leemis, Management Science 37, 1991).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import count

from llmendpoint_common.contracts.loadrun import Arrivals


def unit_arrivals(law: Arrivals, seed: str, burstiness: float | None = None) -> Iterator[float]:
    """Yield an endless series of increasing times with a mean gap of 1. The same seed gives the same times.

    The gaps are equal, exponentially distributed, or gamma distributed with the shape `burstiness`. The coefficient of
    variation of the latter is 1 / sqrt(burstiness).
    """
    if law is Arrivals.CONSTANT:
        return (float(index) for index in count())
    source = random.Random(seed)  # noqa: S311 - has to be repeatable, not secret
    if law is Arrivals.POISSON:
        return _sums(lambda: source.expovariate(1.0))
    shape = burstiness or 1.0
    return _sums(lambda: source.gammavariate(shape, 1.0 / shape))


def dispersion_of(law: Arrivals, burstiness: float | None = None) -> float:
    """Return the squared coefficient of variation of the gaps."""
    return {Arrivals.CONSTANT: 0.0, Arrivals.POISSON: 1.0, Arrivals.GAMMA: 1.0 / (burstiness or 1.0)}[law]


def _sums(gap: Callable[[], float]) -> Iterator[float]:
    at = 0.0
    while True:
        at += gap()
        yield at
