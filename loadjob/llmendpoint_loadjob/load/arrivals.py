"""When requests are due in an open loop: offsets in seconds from the start, the same for the same seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from enum import StrEnum


class Arrivals(StrEnum):
    """The law of the gaps between requests."""

    CONSTANT = "constant"
    POISSON = "poisson"


def arrival_times(law: Arrivals, rate: float, seed: int) -> Iterator[float]:
    """Yield offsets for ever at `rate` requests a second: even gaps, or exponential ones of mean 1/rate."""
    if law is Arrivals.CONSTANT:
        return _constant(rate)
    return _poisson(rate, random.Random(seed))  # noqa: S311 - repeatable, not secret


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
