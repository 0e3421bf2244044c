"""Rates and percentiles from counters: of everything, of each model, and of each tenant."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from llmendpoint_common.contracts.sidecar import Outcome
from llmendpoint_dashboard.contract import ModelTraffic, Overview, Percentiles, TenantTraffic, Traffic
from llmendpoint_dashboard.sources.exposition import BUCKETS, Key, Kind

#: Outcomes that are not errors, as in the totals of `/status`.
GOOD = frozenset({Outcome.OK, Outcome.LENGTH, Outcome.LOAD, Outcome.UNLOAD})
#: Counts of a histogram by the lower and the upper bound of each bucket.
Buckets: TypeAlias = Mapping[tuple[float, float], float]
#: Number of models and of tenants that the overview shows.
_MAX_SHOWN = 100
#: Digits of a rate: six significant ones are more than anyone sees, and keep frames small.
_DIGITS = 6


@dataclass
class Rates:
    """Counts per second, by key, and requests in flight by model."""

    per_second: dict[Key, float] = field(default_factory=lambda: defaultdict(float))
    running: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    waiting: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    #: The longest window of all sources.
    seconds: float = 0.0

    def add(self, counts: Mapping[Key, int], seconds: float) -> None:
        """Add the increases of one source over `seconds`."""
        self.seconds = max(self.seconds, seconds)
        if seconds > 0:
            for key, count in counts.items():
                self.per_second[key] += count / seconds

    def add_in_flight(self, running: Mapping[str, float], waiting: Mapping[str, float]) -> None:
        """Add the requests in flight of one source, by model."""
        for model, count in running.items():
            self.running[model] += int(count)
        for model, count in waiting.items():
            self.waiting[model] += int(count)


class Sums:
    """Sums of the counters of one model, one tenant, or everything."""

    def __init__(self) -> None:
        self.tokens = {Kind.PROMPT_TOKENS: 0.0, Kind.GENERATION_TOKENS: 0.0}
        self.outcomes: dict[str, float] = defaultdict(float)
        self.buckets: dict[Kind, dict[tuple[float, float], float]] = {kind: defaultdict(float) for kind in BUCKETS}

    def add(self, key: Key, value: float) -> None:
        """Add the value of a counter."""
        if key.kind in self.tokens:
            self.tokens[key.kind] += value
        elif key.kind is Kind.REQUESTS:
            self.outcomes[key.detail] += value
        else:
            self.buckets[key.kind][key.low, key.high] += value

    def merge(self, other: Sums) -> None:
        """Add all sums of another one."""
        for kind, value in other.tokens.items():
            self.tokens[kind] += value
        for outcome, value in other.outcomes.items():
            self.outcomes[outcome] += value
        for kind, buckets in other.buckets.items():
            mine = self.buckets[kind]
            for bounds, value in buckets.items():
                mine[bounds] += value

    def rates(self) -> dict[str, Any]:
        """Return the fields of `Traffic` with rates, if the counters were per second."""
        return {
            "prompt_tokens_per_second": rounded(self.tokens[Kind.PROMPT_TOKENS]),
            "generation_tokens_per_second": rounded(self.tokens[Kind.GENERATION_TOKENS]),
            "requests_per_second": rounded(sum(self.outcomes.values())),
            "outcomes": {outcome: rounded(value) for outcome, value in sorted(self.outcomes.items())},
        }

    def latencies(self) -> dict[str, Any]:
        """Return the fields of `Traffic` with percentiles."""
        return {
            "ttft": percentiles(self.buckets[Kind.TTFT]),
            "inter_chunk": percentiles(self.buckets[Kind.INTER_CHUNK]),
        }


def overview(rates: Rates, now: float) -> Overview:
    """Return the section `overview`. `now` is the Unix time in seconds."""
    total, models, tenants = Sums(), defaultdict[str, Sums](Sums), defaultdict[str, Sums](Sums)
    for key, value in rates.per_second.items():
        total.add(key, value)
        models[key.model].add(key, value)
        if key.kind not in BUCKETS:
            tenants[key.tenant].add(key, value)
    for model, count in (*rates.running.items(), *rates.waiting.items()):
        if count:
            models[model]
    return Overview(
        time=round(now, 3),
        window_seconds=round(rates.seconds, 3),
        total=Traffic(
            **total.rates(), **total.latencies(),
            running=sum(rates.running.values()), waiting=sum(rates.waiting.values()),
        ),
        models=tuple(
            ModelTraffic(
                model=name, **sums.rates(), **sums.latencies(),
                running=rates.running.get(name, 0), waiting=rates.waiting.get(name, 0),
            )
            for name, sums in _busiest(models)
        ),
        tenants=tuple(TenantTraffic(tenant=name, **sums.rates()) for name, sums in _busiest(tenants)),
    )  # fmt: skip


def percentiles(buckets: Buckets) -> Percentiles | None:
    """Return the percentiles of a histogram. None if it has no values."""
    values = [quantile(buckets, share) for share in (0.5, 0.95, 0.99)]
    if values[0] is None or values[1] is None or values[2] is None:
        return None
    return Percentiles(p50=rounded(values[0]), p95=rounded(values[1]), p99=rounded(values[2]))


def quantile(buckets: Buckets, share: float) -> float | None:
    """Return a quantile as `histogram_quantile` of Prometheus does, or None if there are no values.

    A value is interpolated within its bucket. If it is above the last finite bound, that bound is returned.
    """
    rank = share * sum(buckets.values())
    below = 0.0
    for low, high in sorted(buckets):
        count = buckets[low, high]
        # The tolerance is for the rounding of sums: the last bucket must be reached.
        if count > 0 and below + count >= rank * (1 - 1e-9):
            return low if math.isinf(high) else low + (high - low) * max(0.0, rank - below) / count
        below += count
    return None


def rounded(value: float) -> float:
    """Return a number with six significant digits."""
    return float(f"{value:.{_DIGITS}g}")


def _busiest(sums: Mapping[str, Sums]) -> Iterable[tuple[str, Sums]]:
    def order(item: tuple[str, Sums]) -> tuple[float, float, str]:
        return -item[1].tokens[Kind.GENERATION_TOKENS], -sum(item[1].outcomes.values()), item[0]

    return sorted(sums.items(), key=order)[:_MAX_SHOWN]
