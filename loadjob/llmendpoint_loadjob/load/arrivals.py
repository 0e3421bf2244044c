"""Times at which the requests of an open loop are due, in seconds from the start. The seed determines them."""

from __future__ import annotations

import random
from collections.abc import Iterator

from llmendpoint_common.contracts.loadrun import Arrivals


def arrival_times(law: Arrivals, rate: float, seed: int) -> Iterator[float]:
    """Yield times without end, at `rate` requests per second: with equal gaps, or exponential ones with mean 1/rate."""
    if law is Arrivals.CONSTANT:
        return _constant(rate)
    return _poisson(rate, random.Random(seed))  # noqa: S311 - has to be repeatable, not secret


def _constant(rate: float) -> Iterator[float]:
    index = 0
    while True:
        yield index / rate
        index += 1


def _poisson(rate: float, source: random.Random) -> Iterator[float]:
    at = 0.0
    while True:
        at += source.expovariate(rate)
        yield at
