"""The metric families: names, help texts and buckets are vLLM's where vLLM has the metric (vllm/v1/metrics)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeAlias

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from llmendpoint_common.contracts.sidecar import METRIC_PREFIX
from llmendpoint_sidecar.meter.histogram import Histogram

_TTFT = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0)  # fmt: skip  # noqa: E501
_LATENCY = (0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0)  # fmt: skip  # noqa: E501
_TPOT = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0)
_TOKENS = tuple(float(4**power) for power in range(11))
INTER_CHUNK_BOUNDS = (0.001, 0.0025, 0.005, 0.0075, *_TPOT)
_OVERHEAD = (5e-05, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
_LOAD = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)


class Family(NamedTuple):
    """A histogram family, by its name without prefix."""

    help: str
    bounds: tuple[float, ...]


HISTOGRAMS = {
    "time_to_first_token_seconds": Family("From the request's arrival to its first content, thinking or tool call; streams only.", _TTFT),  # noqa: E501
    "e2e_request_latency_seconds": Family("From the request's arrival to the end of its response.", _LATENCY),
    "request_queue_time_seconds": Family("Ollama's total minus its load, prefill and decode durations.", _LATENCY),
    "request_prefill_time_seconds": Family("Ollama's prompt_eval_duration.", _LATENCY),
    "request_decode_time_seconds": Family("Ollama's eval_duration.", _LATENCY),
    "model_load_seconds": Family("Ollama's load_duration, which includes its scheduler's wait.", _LOAD),
    "request_time_per_output_token_seconds": Family("(last content - first content) / (output tokens - 1); streams only.", _TPOT),  # noqa: E501
    "inter_chunk_latency_seconds": Family("Gaps between pieces of content; a piece is not always one token.", INTER_CHUNK_BOUNDS),  # noqa: E501
    "overhead_seconds": Family("From the request's last byte here to its last byte sent to Ollama.", _OVERHEAD),
    "request_prompt_tokens": Family("Prompt tokens of one request.", _TOKENS),
    "request_generation_tokens": Family("Generated tokens of one request.", _TOKENS),
}  # fmt: skip

COUNTERS = {
    "requests": ("Requests by the way they ended.", ("model_name", "operation", "code", "outcome", "tenant")),
    "prompt_tokens": ("Prompt tokens, as the server counts them.", ("model_name", "operation", "tenant")),
    "generation_tokens": ("Generated tokens, as the server counts them; of cancelled requests the pieces seen.",
                          ("model_name", "operation", "tenant")),
    "prompt_cached_tokens": ("Prompt tokens that came from the server's cache, where it says so.",
                             ("model_name", "operation", "tenant")),
    "unmetered_requests": ("Requests that succeeded and whose tokens are not known.", ("operation", "reason")),
    "transfer_bytes": ("Bytes of model files that clients moved: pulled and pushed layers, uploaded blobs.",
                       ("operation",)),
    "series_overflow": ("Requests counted as model `other` because too many models were seen.", ()),
    "meter_failures": ("Failures inside the meter; the stream went on.", ()),
}  # fmt: skip

#: Counters without labels, which are there from the beginning.
_ALWAYS = ("series_overflow", "meter_failures")

Labels: TypeAlias = tuple[str, ...]


class HistogramSnapshot(msgspec.Struct, frozen=True):
    """A `Histogram` without its bounds, which its name tells."""

    counts: list[int]
    sum: float
    exemplars: dict[int, tuple[str, float]]


class SeriesSnapshot(msgspec.Struct, frozen=True):
    """The histograms of one model and operation, by name."""

    model: str
    operation: str
    histograms: dict[str, HistogramSnapshot]


class Snapshot(msgspec.Struct, frozen=True):
    """All that one process has counted."""

    counters: dict[str, list[tuple[Labels, int]]]
    series: list[SeriesSnapshot]


class Series(dict[str, Histogram]):
    """The histograms of one model and operation, by name; each is made with its first value."""

    def __missing__(self, name: str) -> Histogram:
        made = self[name] = Histogram(HISTOGRAMS[name].bounds)
        return made


class Metrics(Collector):
    """All numbers of one process; exposed through a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._counters: dict[str, Counter[Labels]] = {name: Counter() for name in COUNTERS}
        self._series: dict[Labels, Series] = {}
        for name in _ALWAYS:
            self._counters[name][()] = 0
        #: Called before anything is read, so that what waits to be accounted for is not missed.
        self.before_read: Callable[[], None] = _nothing
        self.registry.register(self)

    def count(self, name: str, labels: Labels, amount: int = 1) -> None:
        """Add to a counter of COUNTERS."""
        self._counters[name][labels] += amount

    def total(self, name: str) -> int:
        """Return a counter's sum over all labels."""
        self.before_read()
        return sum(self._counters[name].values())

    def totals_by(self, name: str, label: str) -> Counter[str]:
        """Return a counter's sums by one of its labels."""
        self.before_read()
        position = COUNTERS[name][1].index(label)
        sums: Counter[str] = Counter()
        for labels, value in self._counters[name].items():
            sums[labels[position]] += value
        return sums

    def series(self, model: str, operation: str) -> Series:
        """Return the histograms of one model and operation."""
        found = self._series.get((model, operation))
        if found is None:
            found = self._series[model, operation] = Series()
        return found

    def snapshot(self) -> Snapshot:
        """Return all that was counted."""
        self.before_read()
        return Snapshot(
            counters={name: list(values.items()) for name, values in self._counters.items()},
            series=[
                SeriesSnapshot(model, operation, {name: _part(one) for name, one in series.items()})
                for (model, operation), series in self._series.items()
            ],
        )

    def clear(self) -> None:
        """Forget all that was counted."""
        self._series.clear()
        for counter in self._counters.values():
            counter.clear()
        for name in _ALWAYS:
            self._counters[name][()] = 0

    def add(self, snapshot: Snapshot, label: Callable[[str], str]) -> None:
        """Add what another process counted; `label` names its models here."""
        for name, values in snapshot.counters.items():
            has_model = "model_name" in COUNTERS[name][1]
            for labels, value in values:
                # The model is the first label wherever there is one.
                self._counters[name][(label(labels[0]), *labels[1:]) if has_model else labels] += value
        for part in snapshot.series:
            series = self.series(label(part.model), part.operation)
            for name, counted in part.histograms.items():
                one = Histogram(HISTOGRAMS[name].bounds)
                one.counts, one.sum, one.exemplars = counted.counts, counted.sum, counted.exemplars
                series[name].merge(one)

    def collect(self) -> Iterable[Metric]:
        """Yield the counters, for one scrape."""
        self.before_read()
        for name, (text, labels) in COUNTERS.items():
            counter = CounterMetricFamily(METRIC_PREFIX + name, text, labels=labels)
            for values, amount in self._counters[name].items():
                counter.add_metric(values, amount)
            yield counter

    def histograms(self, *, openmetrics: bool) -> Iterable[bytes]:
        """Yield every histogram family as text, alike in both formats but for exemplars.

        Thousands of series through the library's samples take ten times as long, and streams wait meanwhile.
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
    """Nothing waits."""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def gauge(name: str, text: str, labels: tuple[str, ...], values: Iterable[tuple[Labels, float]]) -> Metric:
    """Return a gauge family with all its values."""
    family = GaugeMetricFamily(METRIC_PREFIX + name, text, labels=labels)
    for label_values, value in values:
        family.add_metric(label_values, value)
    return family
