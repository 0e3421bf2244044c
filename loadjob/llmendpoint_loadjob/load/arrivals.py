"""Schedule of an open loop: the times at which requests are due, in seconds from the start."""

from __future__ import annotations

import random
from collections.abc import Iterator

from llmendpoint_common.contracts.loadrun import Arrivals


def arrival_times(law: Arrivals, rate: float, seed: int) -> Iterator[float]:
    """Yield an endless series of times, at `rate` requests per second.

    The gaps are equal, or exponentially distributed with mean 1/rate. The same seed gives the same times.
    """
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
