"""Metrics of one process: counters and histograms, their exposition, and snapshots that the supervisor adds up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import TypeAlias

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from llmendpoint_common.contracts.sidecar import METRIC_PREFIX
from llmendpoint_sidecar.meter.families import COUNTERS, GAUGES, HISTOGRAMS
from llmendpoint_sidecar.meter.histogram import Histogram

#: Counters without labels, and label values that are known, are exposed from the beginning, with 0.
_ALWAYS = tuple(
    (name, labels) for name, family in COUNTERS.items() for labels in (family.known if family.labels else [()])
)

Labels: TypeAlias = tuple[str, ...]


class HistogramSnapshot(msgspec.Struct, frozen=True):
    """A `Histogram` without its bounds, which are defined by its name."""

    counts: list[int]
    sum: float
    exemplars: dict[int, tuple[str, float]]


class SeriesSnapshot(msgspec.Struct, frozen=True):
    """The histograms of one model and operation, by name."""

    model: str
    operation: str
    histograms: dict[str, HistogramSnapshot]


class Snapshot(msgspec.Struct, frozen=True):
    """The counters and histograms of one process."""

    counters: dict[str, list[tuple[Labels, int]]]
    series: list[SeriesSnapshot]


class Series(dict[str, Histogram]):
    """The histograms of one model and operation, by name. Each is created when it is first used."""

    def __missing__(self, name: str) -> Histogram:
        made = self[name] = Histogram(HISTOGRAMS[name].bounds)
        return made


class Metrics(Collector):
    """The counters and histograms of one process, exposed through a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._counters: dict[str, Counter[Labels]] = {name: Counter() for name in COUNTERS}
        self._series: dict[Labels, Series] = {}
        for name, labels in _ALWAYS:
            self._counters[name][labels] = 0
        #: Called before metrics are read, to record the exchanges that have ended.
        self.before_read: Callable[[], None] = _nothing
        self.registry.register(self)

    def count(self, name: str, labels: Labels, amount: int = 1) -> None:
        """Add to a counter."""
        self._counters[name][labels] += amount

    def total(self, name: str) -> int:
        """Return the sum of a counter over all labels."""
        self.before_read()
        return sum(self._counters[name].values())

    def totals_by(self, name: str, label: str) -> Counter[str]:
        """Return the sums of a counter by one of its labels, without those that are 0."""
        self.before_read()
        position = COUNTERS[name].labels.index(label)
        sums: Counter[str] = Counter()
        for labels, value in self._counters[name].items():
            sums[labels[position]] += value
        return +sums

    def series(self, model: str, operation: str) -> Series:
        """Return the histograms of one model and operation."""
        found = self._series.get((model, operation))
        if found is None:
            found = self._series[model, operation] = Series()
        return found

    def snapshot(self) -> Snapshot:
        """Return a copy of all metrics, for another process."""
        self.before_read()
        return Snapshot(
            counters={name: list(values.items()) for name, values in self._counters.items()},
            series=[
                SeriesSnapshot(model, operation, {name: _part(one) for name, one in series.items()})
                for (model, operation), series in self._series.items()
            ],
        )

    def clear(self) -> None:
        """Set all metrics to zero."""
        self._series.clear()
        for counter in self._counters.values():
            counter.clear()
        for name, labels in _ALWAYS:
            self._counters[name][labels] = 0

    def add(self, snapshot: Snapshot, label: Callable[[str], str]) -> None:
        """Add the metrics of another process. `label` maps its model labels to those of this process."""
        for name, values in snapshot.counters.items():
            has_model = "model_name" in COUNTERS[name].labels
            for labels, value in values:
                # The model is the first label of every counter that has it.
                self._counters[name][(label(labels[0]), *labels[1:]) if has_model else labels] += value
        for part in snapshot.series:
            series = self.series(label(part.model), part.operation)
            for name, counted in part.histograms.items():
                one = Histogram(HISTOGRAMS[name].bounds)
                one.counts, one.sum, one.exemplars = counted.counts, counted.sum, counted.exemplars
                series[name].merge(one)

    def collect(self) -> Iterable[Metric]:
        """Yield the counter families."""
        self.before_read()
        for name, family in COUNTERS.items():
            counter = CounterMetricFamily(METRIC_PREFIX + name, family.help, labels=family.labels)
            for values, amount in self._counters[name].items():
                counter.add_metric(values, amount)
            yield counter

    def histograms(self, *, openmetrics: bool) -> Iterable[bytes]:
        """Yield each histogram family as text. The two formats differ only in exemplars.

        With thousands of series, the samples of prometheus_client take ten times as long, which delays streams.
        """
        for name, family in HISTOGRAMS.items():
            full = METRIC_PREFIX + name
            lines = [f"# HELP {full} {family.help}", f"# TYPE {full} histogram"]
            for (model, operation), series in self._series.items():
                if name in series:
                    labels = f'model_name="{_escaped(model)}",operation="{operation}"'
                    lines += series[name].lines(full, labels, exemplars=openmetrics)
            yield "\n".join(lines).encode() + b"\n"


def _part(one: Histogram) -> HistogramSnapshot:
    return HistogramSnapshot(one.counts, one.sum, one.exemplars)


def _nothing() -> None:
    """Do nothing: there are no exchanges to record."""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def gauge(name: str, values: Iterable[tuple[Labels, float]]) -> Metric:
    """Return a family of GAUGES with all its values."""
    family = GaugeMetricFamily(METRIC_PREFIX + name, GAUGES[name].help, labels=GAUGES[name].labels)
    for label_values, value in values:
        family.add_metric(label_values, value)
    return family
