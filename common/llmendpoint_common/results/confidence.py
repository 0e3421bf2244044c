"""Confidence intervals without assumptions about the distribution of the latencies.

The rank of a percentile among n independent values is binomial, so two order statistics enclose it (Conover, Practical
Nonparametric Statistics, 3.2). A share has the interval of Clopper and Pearson. Both are exact: their coverage is at
least what they state.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import exp, lgamma, log, log1p
from typing import NamedTuple

#: Probability with which an interval of the summary encloses the true value.
CONFIDENCE = 0.95
_EPSILON = 1e-14
_TINY = 1e-300


class Ranks(NamedTuple):
    """Ranks of the order statistics that enclose a percentile: 0 is below, and n + 1 above all values."""

    low: int
    high: int


class Interval(NamedTuple):
    """Bounds of a confidence interval."""

    low: float
    high: float


@lru_cache(maxsize=4096)
def percentile_ranks(share: float, count: int, confidence: float = CONFIDENCE) -> Ranks:
    """Return the ranks that enclose a percentile (a share, such as 0.95) of `count` values with this confidence.

    Each side alone is missed with at most half of the remaining probability.
    """
    side = (1 - confidence) / 2
    # With B values up to the percentile, it is below the value of rank r if B < r, and not below it if B >= r.
    low = _first(lambda rank: binomial_cdf(rank, count, share) > side, count)
    high = _first(lambda rank: 1 - binomial_cdf(rank, count, share) <= side, count)
    return Ranks(low, high + 1)


def _first(holds: Callable[[int], bool], last: int) -> int:
    """Return the smallest number from 0 to `last` for which a condition holds, which then holds for all above it."""
    low, high = 0, last
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low


def share_interval(hits: int, count: int, confidence: float = CONFIDENCE) -> Interval:
    """Return the interval of a share of which `hits` of `count` were seen (Clopper-Pearson)."""
    side = (1 - confidence) / 2
    low = 0.0 if hits == 0 else _solve(lambda share: 1 - binomial_cdf(hits - 1, count, share), side)
    high = 1.0 if hits >= count else _solve(lambda share: -binomial_cdf(hits, count, share), -side)
    return Interval(low, high)


def binomial_cdf(hits: int, count: int, share: float) -> float:
    """Return the probability of at most `hits` of `count`, each with the probability `share`."""
    if hits < 0:
        return 0.0
    if hits >= count:
        return 1.0
    return _incomplete_beta(count - hits, hits + 1, 1 - share)


def _solve(rising: Callable[[float], float], wanted: float) -> float:
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if rising(middle) < wanted:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """Return the regularized incomplete beta function I_x(a, b) (Numerical Recipes, 6.4)."""
    if x <= 0:
        return 0.0
    if x >= 1:
        return 1.0
    front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x))
    if x < (a + 1) / (a + b + 2):
        return front * _fraction(a, b, x) / a
    return 1 - front * _fraction(b, a, 1 - x) / b


def _fraction(a: float, b: float, x: float) -> float:
    """Return the continued fraction of the incomplete beta function, with the method of Lentz."""
    c, d = 1.0, 1 / _away_from_zero(1 - (a + b) * x / (a + 1))
    result = d
    for m in range(1, 100_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / _away_from_zero(1 + term * d)
            c = _away_from_zero(1 + term / c)
            result *= d * c
        if abs(d * c - 1) < _EPSILON:
            break
    return result


def _away_from_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
