"""Scales of charts: positions of values, and the values that get a label."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple


class Scale(NamedTuple):
    """Maps values from `low` to `high` to positions from `start` to `end`, linearly or by their logarithms."""

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False

    def __call__(self, value: float) -> float:
        """Return the position of a value. Values outside of the scale are moved to its ends."""
        inside = min(max(value, self.low), self.high)
        if self.is_log:
            share = math.log(inside / self.low) / math.log(self.high / self.low)
        else:
            share = (inside - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self, count: int) -> list[float]:
        """Return about `count` round values inside the scale."""
        return _log_ticks(self.low, self.high, count) if self.is_log else list(_ticks(self.low, self.high, count))


def linear(high: float, start: float, end: float, low: float = 0.0) -> Scale:
    """Return a linear scale that ends at a round value above `high`."""
    top = max(high, low + 1e-9)
    step = _step((top - low) / 4)
    return Scale(low, low + step * math.ceil((top - low) / step - 1e-9), start, end)


def logarithmic(low: float, high: float, start: float, end: float) -> Scale:
    """Return a logarithmic scale that ends at round values around `low` and `high`, of which `low` is more than 0."""
    bottom, top = _round_below(low), _round_above(high)
    return Scale(bottom, top if top > bottom else bottom * 10, start, end, is_log=True)


def _series(value: float) -> list[float]:
    """Return the values of the series 1, 2, 5, 10 around a value."""
    power = 10.0 ** math.floor(math.log10(value))
    return [power * factor for factor in (1, 2, 5, 10)]


def _round_below(value: float) -> float:
    return max(item for item in _series(value) if item <= value * (1 + 1e-9))


def _round_above(value: float) -> float:
    return min(item for item in _series(value) if item >= value * (1 - 1e-9))


def _step(raw: float) -> float:
    power = 10.0 ** math.floor(math.log10(raw))
    return next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * (1 - 1e-9))


def _ticks(low: float, high: float, count: int) -> Iterator[float]:
    step = _step((high - low) / max(1, count))
    value = math.ceil(low / step - 1e-9) * step
    while value <= high + step * 1e-6:
        yield 0.0 if abs(value) < step * 1e-6 else value
        value += step


def _log_ticks(low: float, high: float, count: int) -> list[float]:
    ticks = []
    power = 10.0 ** math.floor(math.log10(low))
    while power <= high:
        ticks += [power * factor for factor in (1, 2, 5) if low * 0.999 <= power * factor <= high * 1.001]
        power *= 10
    tens = [value for value in ticks if abs(math.log10(value) - round(math.log10(value))) < 1e-6]
    if len(ticks) <= count:
        return ticks
    return tens if len(tens) >= 2 else ticks[:: math.ceil(len(ticks) / count)]
