"""The last hour of all sidecars, in slots of 5 s, for the charts.

A slot has the increases of the counters of all sources, and the requests in flight at its end. An increase that was
read over more than one slot is divided among them, because nothing is known about when it happened. A slot in which no
source answered is unknown, which is not the same as no traffic.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from llmendpoint_dashboard.contract import Series, SeriesName
from llmendpoint_dashboard.sources.exposition import Key, Kind
from llmendpoint_dashboard.sources.increases import Increase
from llmendpoint_dashboard.sources.traffic import GOOD, Sums, quantile, rounded

SLOT_SECONDS = 5.0
RING_SECONDS = 3600.0
#: Rates and percentiles of a point cover at least this time before it, as in the overview.
_WINDOW_SECONDS = 30.0
#: A point is at least the average over this time, so that the first one is no spike.
_MIN_SECONDS = 1.0
#: Counters of a slot. The hour of 500 busy models then takes about 100 MiB.
_MAX_SLOT_COUNTERS = 1500
#: An increase is divided among at most this time before its reading. A source that was away longer has been restarted,
#: or cannot say when it was busy.
_MAX_SPREAD_SECONDS = 30.0


@dataclass
class _Slot:
    """Increases of one slot: of everything, and by model. The requests in flight are those of its last reading."""

    total: Sums = field(default_factory=Sums)
    models: dict[str, dict[Key, float]] = field(default_factory=dict)
    size: int = 0
    running: dict[str, int] = field(default_factory=dict)
    waiting: dict[str, int] = field(default_factory=dict)

    def add(self, key: Key, value: float) -> None:
        """Add an increase. If the slot has too many counters, it is only part of the total."""
        self.total.add(key, value)
        model = self.models.setdefault(key.model, {})
        if key in model:
            model[key] += value
        elif self.size < _MAX_SLOT_COUNTERS:
            model[key] = value
            self.size += 1


@dataclass(frozen=True)
class Selection:
    """The model and the tenant whose traffic is shown. None means all of them."""

    model: str | None = None
    tenant: str | None = None

    def add(self, sums: Sums, slot: _Slot) -> None:
        """Add what a slot has of the selection. Buckets have no tenant."""
        if self.model is None and self.tenant is None:
            sums.merge(slot.total)
            return
        models = slot.models.values() if self.model is None else [slot.models.get(self.model, {})]
        for counts in models:
            for key, value in counts.items():
                if self.tenant is None or key.tenant == self.tenant:
                    sums.add(key, value)


class Ring:
    """Slots by their number: Unix time divided by the length of a slot."""

    def __init__(self) -> None:
        self._slots: dict[int, _Slot] = {}
        #: Unix time of the first reading.
        self._began = math.inf

    def add(self, increase: Increase, now: float) -> None:
        """Add an increase whose reading ended at the Unix time `now`."""
        seconds = min(increase.end - increase.begin, _MAX_SPREAD_SECONDS)
        self._began = min(self._began, now - seconds)
        for number, share in _shares(now - seconds, now):
            slot = self._slot(number, now)
            for key, count in increase.counts.items():
                slot.add(key, count * share)

    def note_in_flight(self, now: float, running: Mapping[str, int], waiting: Mapping[str, int]) -> None:
        """Note the requests in flight at the Unix time `now`, by model."""
        self._began = min(self._began, now)
        slot = self._slot(_number(now), now)
        slot.running, slot.waiting = dict(running), dict(waiting)

    @property
    def begin(self) -> float | None:
        """Unix time from which on something is known, or None."""
        return max(self._began, min(self._slots) * SLOT_SECONDS) if self._slots else None

    def knows(self, time: float, seconds: float) -> bool:
        """Return whether all of the `seconds` before a Unix time are known."""
        numbers = _numbers(time, seconds)
        return numbers[0] * SLOT_SECONDS >= self._began and all(number in self._slots for number in numbers)

    def series(self, times: Iterable[float], step: float, selection: Selection) -> list[Series]:
        """Return the series at some Unix times, `step` seconds apart.

        A point is the average over the step before it, or over 30 s if the step is shorter.
        """
        points = [self._point(time, max(step, _WINDOW_SECONDS), selection) for time in times]
        series = [
            _series(SeriesName.PROMPT_TOKENS, points, lambda point: point.tokens(Kind.PROMPT_TOKENS)),
            _series(SeriesName.GENERATION_TOKENS, points, lambda point: point.tokens(Kind.GENERATION_TOKENS)),
        ]
        if selection.tenant is None:
            series += [
                _series(SeriesName.RUNNING, points, lambda point: point.running),
                _series(SeriesName.WAITING, points, lambda point: point.waiting),
                *(_latency(points, *row) for row in _LATENCIES),
            ]
        outcomes = {outcome for point in points if point for outcome in point.sums.outcomes}
        return series + [_errors(points, outcome) for outcome in sorted(outcomes - GOOD)]

    def _slot(self, number: int, now: float) -> _Slot:
        slot = self._slots.get(number)
        if slot is None:
            slot = self._slots[number] = _Slot()
            newest = _number(now)
            oldest = newest - int(RING_SECONDS / SLOT_SECONDS) - 1
            # A clock that was set back leaves slots in the future.
            for old in [one for one in self._slots if not oldest <= one <= newest]:
                del self._slots[old]
        return slot

    def _point(self, time: float, seconds: float, selection: Selection) -> _Point | None:
        """Return the sums over the `seconds` before a Unix time, or None if there is no slot."""
        numbers = _numbers(time, seconds)
        slots = [slot for slot in map(self._slots.get, numbers) if slot is not None]
        if not slots:
            return None
        # The first reading was within a slot. The time before it was not measured.
        unknown = max(0.0, self._began - numbers[0] * SLOT_SECONDS) % SLOT_SECONDS
        sums = Sums()
        for slot in slots:
            selection.add(sums, slot)
        return _Point(
            sums,
            max(len(slots) * SLOT_SECONDS - unknown, _MIN_SECONDS),
            _in_flight(slots[-1].running, selection),
            _in_flight(slots[-1].waiting, selection),
        )


@dataclass(frozen=True)
class _Point:
    """Sums over the `seconds` before a point, and the requests in flight."""

    sums: Sums
    seconds: float
    running: int
    waiting: int

    def tokens(self, kind: Kind) -> float:
        """Return the tokens per second."""
        return self.sums.tokens[kind] / self.seconds

    def errors(self, outcome: str) -> float:
        """Return the requests per second with an outcome."""
        return self.sums.outcomes.get(outcome, 0.0) / self.seconds


_LATENCIES = (
    (SeriesName.TTFT_P50, Kind.TTFT, 0.5),
    (SeriesName.TTFT_P95, Kind.TTFT, 0.95),
    (SeriesName.INTER_CHUNK_P50, Kind.INTER_CHUNK, 0.5),
    (SeriesName.INTER_CHUNK_P95, Kind.INTER_CHUNK, 0.95),
)


def _series(
    name: SeriesName, points: list[_Point | None], value: Callable[[_Point], float | None], outcome: str = ""
) -> Series:
    values = [None if point is None else value(point) for point in points]
    return Series(name=name, values=[None if one is None else rounded(one) for one in values], outcome=outcome)


def _latency(points: list[_Point | None], name: SeriesName, kind: Kind, share: float) -> Series:
    return _series(name, points, lambda point: quantile(point.sums.buckets[kind], share))


def _errors(points: list[_Point | None], outcome: str) -> Series:
    return _series(SeriesName.ERRORS, points, lambda point: point.errors(outcome), outcome)


def _in_flight(counts: Mapping[str, int], selection: Selection) -> int:
    return sum(counts.values()) if selection.model is None else counts.get(selection.model, 0)


def _number(time: float) -> int:
    return math.floor(time / SLOT_SECONDS)


def _numbers(time: float, seconds: float) -> range:
    """Return the numbers of the slots in the `seconds` before a Unix time."""
    last = _number(time - SLOT_SECONDS)
    return range(last - max(1, round(seconds / SLOT_SECONDS)) + 1, last + 1)


def _shares(begin: float, end: float) -> Iterator[tuple[int, float]]:
    """Yield the slots of an interval, with the share of the interval that each one has."""
    if end <= begin:
        yield _number(end), 1.0
        return
    for number in range(_number(begin), _number(end) + 1):
        start = max(begin, number * SLOT_SECONDS)
        stop = min(end, (number + 1) * SLOT_SECONDS)
        if stop > start:
            yield number, (stop - start) / (end - begin)
