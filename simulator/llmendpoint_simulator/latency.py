"""Latencies: a constant, or a random distribution (lognormal, gamma, or empirical quantiles), in seconds.

On a command line, a distribution is text: `lognormal:200ms:0.5` and `gamma:200ms:0.5` have a mean and a coefficient of
variation (standard deviation divided by the mean), and `empirical:0=50ms,0.5=200ms,0.99=2s,1=5s` has quantiles.
"""

from __future__ import annotations

import bisect
import math
from itertools import pairwise
from random import Random
from typing import Annotated, TypeAlias

import msgspec

from llmendpoint_common.process.units import parse_duration, parse_number

Seconds: TypeAlias = Annotated[float, msgspec.Meta(ge=0)]
Share: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=1)]
_Positive: TypeAlias = Annotated[float, msgspec.Meta(gt=0)]


class Lognormal(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="distribution", tag="lognormal"):
    """A latency whose logarithm is normal: most values near the mean, and a long tail. `cv` is the coefficient of
    variation.
    """

    mean: _Positive
    cv: _Positive = 0.5

    def draw(self, random: Random) -> float:
        """Return a random latency."""
        variance = math.log1p(self.cv**2)
        return random.lognormvariate(math.log(self.mean) - variance / 2, math.sqrt(variance))


class Gamma(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="distribution", tag="gamma"):
    """A latency with a gamma distribution. With `cv: 1` it is exponential."""

    mean: _Positive
    cv: _Positive = 0.5

    def draw(self, random: Random) -> float:
        """Return a random latency."""
        shape = self.cv**-2
        return random.gammavariate(shape, self.mean / shape)


class Empirical(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="distribution", tag="empirical"):
    """A latency with measured quantiles: pairs of a share and seconds. Between two of them it is interpolated.

    Shares ascend from 0 to 1, and seconds do not descend, such as `[[0, 0.05], [0.5, 0.2], [0.99, 2], [1, 5]]`.
    """

    quantiles: tuple[tuple[Share, Seconds], ...]

    def __post_init__(self) -> None:
        shares = [share for share, _ in self.quantiles]
        seconds = [value for _, value in self.quantiles]
        if len(shares) < 2 or shares[0] != 0 or shares[-1] != 1:
            raise ValueError("quantiles need a first pair with the share 0 and a last pair with the share 1")
        if any(left >= right for left, right in pairwise(shares)) or seconds != sorted(seconds):
            raise ValueError("quantiles must ascend")

    def draw(self, random: Random) -> float:
        """Return a random latency."""
        share = random.random()
        index = bisect.bisect_right(self.quantiles, share, key=lambda pair: pair[0])
        (low, least), (high, most) = self.quantiles[index - 1], self.quantiles[index]
        return least + (most - least) * (share - low) / (high - low)


#: Seconds, or a distribution.
Latency: TypeAlias = Seconds | Lognormal | Gamma | Empirical


def draw(latency: Latency, random: Random) -> float:
    """Return a latency in seconds. A constant uses no random number."""
    return latency if isinstance(latency, int | float) else latency.draw(random)


def constant(latency: Latency) -> float:
    """Return the seconds of a constant. Raises ValueError for a distribution."""
    if not isinstance(latency, int | float):
        raise ValueError("a number of seconds is needed here, not a distribution")
    return latency


def parse_latency(text: str) -> Latency:
    """Return a latency from text such as `200ms`, `lognormal:200ms:0.5` or `empirical:0=50ms,1=2s`."""
    name, separator, rest = text.partition(":")
    if not separator:
        return parse_duration(text)
    try:
        if name == "empirical":
            pairs = (part.partition("=") for part in rest.split(","))
            quantiles = [(parse_number(share), parse_duration(time)) for share, _, time in pairs]
            return _checked({"distribution": name, "quantiles": quantiles})
        mean, _, cv = rest.partition(":")
        given = {"distribution": name, "mean": parse_duration(mean)}
        return _checked(given | {"cv": parse_number(cv)} if cv else given)
    except msgspec.ValidationError as error:
        raise ValueError(
            f"{text!r} is not a latency ({error}); write it like 200ms, lognormal:200ms:0.5, gamma:200ms:0.5 or "
            "empirical:0=50ms,0.5=200ms,1=2s"
        ) from None


def _checked(given: dict[str, object]) -> Latency:
    latency: Latency = msgspec.convert(given, Lognormal | Gamma | Empirical, strict=False)
    return latency
