"""Search for the highest rate that a server can serve within its objectives.

The search has two phases. First the rate doubles, from the lowest one, until a step misses, so that the server is
never loaded with much more than twice its capacity. Then each rate is a quartile of what is known about the capacity,
the lower and the upper one in turn: the probabilistic bisection of Waeber, Frazier and Henderson (SIAM Journal on
Control and Optimization 51, 2013), with the psychometric function of Kontsevich and Tyler (Vision Research 39, 1999).
Medians would find the capacity as well, but all close to it, and so could not show how sharp the transition is. The
probability that a step at a rate meets the objectives is logistic in the logarithm of the rate; the capacity, at which
it is one half, and the width of the transition have a prior that is flat on a grid, and 2 % of the steps are taken to
be accidents (Wichmann and Hill, Perception & Psychophysics 63, 2001). The interval is the central 95 % of the
posterior of the capacity. The search ends when the interval is as narrow as it has to be. No rate above the highest one
that was tried is a result, so a capacity that may be above the maximum is known well enough if the part of its interval
up to the maximum is that narrow.

The rate of a step is the one at which its requests were really due, because the number of Poisson arrivals in a step
varies. Without this, 600 requests per step would blur the result by 4 %.

With random arrivals, the result is too high, for two reasons. Late requests come in clusters, so their number in a step
is more often below than above its mean, and more than half of the steps at the true capacity meet an objective. And a
step whose rate is known has lost the slow changes of the rate, so its queue is shorter than in the long run. Both
shrink with the number of requests. `without_bias` takes off about the smallest bias that was seen in simulations, and
lets the lower bound of the interval allow for the largest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple

from llmendpoint_common.contracts.loadrun import RunSweep
from llmendpoint_common.results.figures import number
from llmendpoint_common.results.words import of

_EVERY = "every rate met the objectives"
#: Number of steps after which the search gives up.
MAX_STEPS = 60
_LAPSE = 0.02
_GRID_POINTS = 200
#: Widths of the transition from met to missed, relative to the rate.
_WIDTHS = tuple(0.003 * 2.0**index for index in range(6))
_TAIL = 0.025
_QUARTILE = 0.25
#: Relative bias of the result with Poisson arrivals, times the number of requests of a step that may exceed the
#: threshold. In simulations of seven queues (M/D/1 to M/D/16), it was 0.25 to 1.
_BIAS, _MAX_BIAS = 0.35, 1.0
#: Bounds of what is taken off the rate, and of what the lower bound allows for.
_MOST_OFF, _MOST_ALLOWED = 0.1, 0.5
#: What the lower bound allows for, above which the message mentions it.
_MENTIONED = 0.05


class Step(NamedTuple):
    """A rate that was tried, in requests per second, and whether the objectives were met."""

    rate: float
    is_met: bool


class Estimate(NamedTuple):
    """The highest rate that met the objectives, or None, with the bounds of its 95 % interval."""

    rate: float | None
    low: float
    high: float
    message: str

    def with_rate(self) -> Estimate:
        """Return the estimate with the rate in its message, which is read alone in a verdict."""
        if self.rate is None or self.message.startswith(_EVERY):
            return self
        message = f"the highest rate that met the objectives is {number(self.rate)} requests/s; {self.message}"
        return self._replace(message=message)


def without_bias(found: Estimate, late: float, dispersion: float) -> Estimate:
    """Return a result without the bias of random arrivals, whose lower bound allows for what may be left of it.

    `late` is the number of requests of a step that may exceed the threshold of the objective: 5 % of them for a p95.
    `dispersion` is the squared coefficient of variation of the gaps between requests: 1 for Poisson arrivals.
    """
    if found.rate is None or found.rate <= found.low or not dispersion:
        # Even arrivals have no bias, and a rate that every step met is not an estimate of the capacity.
        return found
    unit = dispersion / max(late, 1e-9)
    allowed = min(_MOST_ALLOWED, _MAX_BIAS * unit)
    message = found.message
    if allowed > _MENTIONED:
        message += (
            f"; arrivals are random and steps are short, so the interval allows for {100 * allowed:.0f}%, and "
            "longer steps or constant arrivals give a narrower one"
        )
    rate = found.rate * (1 - min(_MOST_OFF, _BIAS * unit))
    return Estimate(rate, min(rate, found.low * (1 - allowed)), found.high, message)


@dataclass
class Search:
    """The search as a state machine without time: `next_rate`, a step at that rate, `note`, and so on."""

    sweep: RunSweep
    steps: list[Step] = field(default_factory=list)
    _planned: float = 0.0
    _plans: list[float] = field(default_factory=list)
    _known: tuple[int, tuple[float, ...]] = (0, ())

    def next_rate(self) -> float | None:
        """Return the rate of the next step, or None if the search has ended."""
        self._planned = self._next() or 0.0
        return self._planned or None

    def note(self, rate: float, *, is_met: bool) -> None:
        """Note the result of a step at about the planned rate."""
        self.steps.append(Step(rate, is_met))
        self._plans.append(self._planned)

    def estimate(self) -> Estimate:
        """Return the result of the search as far as it got."""
        sweep = self.sweep
        if not self.steps:
            return Estimate(None, 0.0, sweep.max_rate, "the sweep ended before its first step")
        if not any(step.is_met for step in self.steps):
            message = f"the objectives were missed at the lowest rate, {sweep.min_rate:g} requests/s"
            return Estimate(None, 0.0, min(step.rate for step in self.steps), message)
        if all(step.is_met for step in self.steps):
            highest = min(self._highest, max(step.rate for step in self.steps))
            message = f"{_EVERY}; the capacity is above {highest:.4g} requests/s"
            return Estimate(highest, highest, sweep.max_rate, message)
        low, _, middle, _, high = self._quantiles()
        if middle < self._highest:
            return Estimate(middle, low, min(high, self._highest), self._message())
        low = min(low, self._highest)
        return Estimate(self._highest, low, self._highest, self._message_of_highest(low))

    @property
    def share_done(self) -> float:
        """A rough share of the search that is done, from 0 to 1."""
        sweep = self.sweep
        doublings = max(1.0, math.log2(sweep.max_rate / sweep.min_rate))
        if not self._is_bracketed:
            return 0.5 * min(1.0, len(self.steps) / doublings)
        wanted, width = math.log(1 + sweep.precision), math.log(self._width)
        return min(1.0, 0.5 + 0.5 * max(0.0, 1 - math.log2(max(1.0, width / wanted)) / 5))

    def _message(self) -> str:
        """Return how the search ended, without the interval, which `without_bias` can make wider."""
        if self._width <= 1 + self.sweep.precision:
            return f"found with {len(self.steps)} steps"
        return (
            f"the search ended after {len(self.steps)} steps, before it was as precise as "
            f"{100 * self.sweep.precision:g}%; longer steps give a narrower interval"
        )

    def _message_of_highest(self, low: float) -> str:
        at_highest = [step for step, planned in zip(self.steps, self._plans, strict=True) if planned == self._highest]
        met = of(sum(step.is_met for step in at_highest), len(at_highest), "step")
        return (
            f"the highest rate that was tried, {self._highest:.4g} requests/s, met the objectives in {met}; "
            f"the capacity {'is' if low >= self._highest else 'may be'} above it"
        )

    @property
    def _highest(self) -> float:
        """The highest rate that was tried, as it was planned: at random, more requests may have been due."""
        return max(self._plans)

    @property
    def _width(self) -> float:
        """The width of the interval as a ratio, without the part of it that is above the maximum of the sweep."""
        low, *_, high = self._quantiles()
        return max(1.0, min(high, self.sweep.max_rate) / low)

    @property
    def _is_bracketed(self) -> bool:
        return any(step.is_met for step in self.steps) and any(not step.is_met for step in self.steps)

    def _next(self) -> float | None:
        sweep, steps = self.sweep, self.steps
        if not steps:
            return sweep.min_rate
        if len(steps) >= MAX_STEPS:
            return None
        if self._is_bracketed:
            if self._width <= 1 + sweep.precision:
                return None
            _, lower, _, upper, _ = self._quantiles()
            return min(upper if len(steps) % 2 else lower, sweep.max_rate)
        if not steps[-1].is_met:
            # The first step is repeated once: it may have loaded the model, or filled the caches.
            return sweep.min_rate if len(steps) < 2 else None
        return None if self._planned >= sweep.max_rate else min(sweep.max_rate, 2 * self._planned)

    def _quantiles(self) -> tuple[float, ...]:
        """Return the 2.5, 25, 50, 75 and 97.5 % quantiles of the posterior of the capacity."""
        if self._known[0] != len(self.steps):
            self._known = len(self.steps), self._computed_quantiles()
        return self._known[1]

    def _computed_quantiles(self) -> tuple[float, ...]:
        grid = self._grid()
        densities = _posterior(grid, self.steps)
        sums = list(accumulate(densities))
        total = sums[-1]
        shares = (_TAIL, _QUARTILE, 0.5, 1 - _QUARTILE, 1 - _TAIL)
        return tuple(math.exp(_quantile(grid, sums, share * total)) for share in shares)

    def _grid(self) -> list[float]:
        """Return logarithms of rates: a coarse grid around the steps, and then a fine one where the mass is."""
        rates = [step.rate for step in self.steps]
        begin, end = math.log(min(rates) / 2), math.log(max(rates) * 2)
        coarse = _spaced(begin, end)
        densities = _posterior(coarse, self.steps)
        limit = 1e-6 * sum(densities)
        likely = [value for value, density in zip(coarse, densities, strict=True) if density > limit]
        step = (end - begin) / _GRID_POINTS
        return _spaced(likely[0] - step, likely[-1] + step)


def _spaced(begin: float, end: float) -> list[float]:
    return [begin + (end - begin) * (index + 0.5) / _GRID_POINTS for index in range(_GRID_POINTS)]


def _posterior(grid: Sequence[float], steps: Sequence[Step]) -> list[float]:
    """Return the posterior density of the capacity at the points of a grid, without normalization."""
    logs = [(math.log(step.rate), step.is_met) for step in steps]
    rows = [_log_likelihoods(grid, logs, width) for width in _WIDTHS]
    peak = max(map(max, rows))
    return [sum(math.exp(row[index] - peak) for row in rows) for index in range(len(grid))]


def _log_likelihoods(grid: Sequence[float], steps: Sequence[tuple[float, bool]], width: float) -> list[float]:
    totals = [0.0] * len(grid)
    for at, is_met in steps:
        sign = 1.0 if is_met else -1.0
        for index, capacity in enumerate(grid):
            scaled = max(-60.0, min(60.0, sign * (capacity - at) / width))
            totals[index] += math.log(_LAPSE / 2 + (1 - _LAPSE) / (1 + math.exp(-scaled)))
    return totals


def _quantile(grid: Sequence[float], sums: Sequence[float], wanted: float) -> float:
    """Return the point at which the cumulative sum reaches `wanted`, interpolated."""
    index = next(index for index, value in enumerate(sums) if value >= wanted)
    before = sums[index - 1] if index else 0.0
    share = (wanted - before) / (sums[index] - before)
    width = grid[1] - grid[0]
    return grid[index] + (share - 0.5) * width
