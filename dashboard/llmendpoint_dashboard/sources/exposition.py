"""Reads the metrics page of a sidecar: the families that the dashboard shows, and no others.

The parser of prometheus_client takes several milliseconds per thousand lines, and builds objects for families that
are not shown. This one finds the lines of the known families with one regular expression, and remembers what the
labels of a line mean, because a page has the same labels every time. It reads the text format without time stamps and
exemplars, which is what a sidecar answers if `Accept` does not ask for OpenMetrics.

The buckets of a page are cumulative. Here they are not: most of them are then 0, and need neither memory nor time.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from operator import attrgetter
from typing import NamedTuple

from llmendpoint_common.contracts.sidecar import METRIC_PREFIX

#: Labels of so many lines are remembered. 500 sidecars with 50 lines each have 25,000 at most, mostly the same ones.
_MAX_REMEMBERED = 50_000
#: A float is exact up to this number, and no counter of a sidecar becomes so large.
_MAX_COUNT = 2**53
_LABEL = re.compile(rb'([a-z_]+)="((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(r"\\(.)")


class Kind(StrEnum):
    """Families of counters. The values are their names without the prefix."""

    REQUESTS = "requests_total"
    PROMPT_TOKENS = "prompt_tokens_total"
    GENERATION_TOKENS = "generation_tokens_total"
    TTFT = "time_to_first_token_seconds_bucket"
    INTER_CHUNK = "inter_chunk_latency_seconds_bucket"


class Gauge(StrEnum):
    """Families of gauges of a model. The values are their names without the prefix."""

    RUNNING = "model_requests_running"
    WAITING = "model_requests_waiting"
    LOADED = "model_loaded"
    REMOTE = "model_remote"
    SIZE = "model_size_bytes"
    VRAM = "model_vram_bytes"
    CONTEXT = "model_context_length"
    EXPIRES = "model_expires_timestamp_seconds"


class Key(NamedTuple):
    """Identity of a counter, over all operations and status codes.

    `detail` is the outcome of requests. A bucket of a histogram has neither an outcome nor a tenant: it counts the
    values above `low`, up to and including `high`.
    """

    kind: Kind
    model: str
    tenant: str = ""
    detail: str = ""
    low: float = 0.0
    high: float = 0.0


#: Kinds that are buckets of histograms.
BUCKETS = frozenset({Kind.TTFT, Kind.INTER_CHUNK})
_FAMILIES = "|".join([*Kind, *Gauge])
_LINE = re.compile(rf"^{METRIC_PREFIX}({_FAMILIES})\{{(.*)\}} (\S+)$".encode(), re.MULTILINE)
_KINDS = {kind.value.encode(): kind for kind in Kind}
_GAUGES = {gauge.value.encode(): gauge for gauge in Gauge}


@dataclass(frozen=True)
class Page:
    """The values of one metrics page: counters by their key, and gauges by name and model."""

    counters: Mapping[Key, int] = field(default_factory=dict)
    gauges: Mapping[Gauge, Mapping[str, float]] = field(default_factory=dict)

    def gauge(self, gauge: Gauge) -> Mapping[str, float]:
        """Return the values of a gauge by model."""
        return self.gauges.get(gauge, {})


class PageReader:
    """Parses metrics pages, and remembers labels between pages."""

    def __init__(self) -> None:
        self._keys: dict[tuple[bytes, bytes], Key] = {}
        self._models: dict[bytes, str] = {}

    def read(self, text: bytes) -> Page:
        """Return the values of a page. Lines that are not understood are left out."""
        counters: dict[Key, int] = {}
        gauges: dict[Gauge, dict[str, float]] = {}
        for family, labels, number in _LINE.findall(text):
            try:
                value = float(number)
            except ValueError:
                continue
            gauge = _GAUGES.get(family)
            if gauge is not None:
                gauges.setdefault(gauge, {})[self._model(labels)] = value
            elif 0 <= value < _MAX_COUNT:
                key = self._key(family, labels)
                counters[key] = counters.get(key, 0) + int(value)
        return Page(_separated(counters), gauges)

    def _key(self, family: bytes, labels: bytes) -> Key:
        key = self._keys.get((family, labels))
        if key is None:
            if len(self._keys) >= _MAX_REMEMBERED:
                self._keys.clear()
            key = self._keys[family, labels] = _key_of(_KINDS[family], _labels(labels))
        return key

    def _model(self, labels: bytes) -> str:
        model = self._models.get(labels)
        if model is None:
            if len(self._models) >= _MAX_REMEMBERED:
                self._models.clear()
            model = self._models[labels] = _labels(labels).get("model_name", "")
        return model


def _key_of(kind: Kind, labels: Mapping[str, str]) -> Key:
    model = labels.get("model_name", "")
    if kind not in BUCKETS:
        return Key(kind, model, labels.get("tenant", ""), labels.get("outcome", "") if kind is Kind.REQUESTS else "")
    try:
        return Key(kind, model, high=float(labels["le"]))
    except (KeyError, ValueError):
        return Key(kind, model, high=math.nan)


def _separated(counters: dict[Key, int]) -> dict[Key, int]:
    """Return the counters with buckets that are not cumulative. Empty buckets are left out."""
    plain: dict[Key, int] = {}
    histograms: dict[tuple[Kind, str], list[Key]] = {}
    for key, value in counters.items():
        if key.kind not in BUCKETS:
            plain[key] = value
        elif not math.isnan(key.high):
            histograms.setdefault((key.kind, key.model), []).append(key)
    for keys in histograms.values():
        below, low = 0, 0.0
        for key in sorted(keys, key=_high):
            if counters[key] > below:
                plain[key._replace(low=low)] = counters[key] - below
                below = counters[key]
            low = key.high
    return plain


_high = attrgetter("high")


def _labels(text: bytes) -> dict[str, str]:
    return {name.decode(): _unescaped(value.decode("utf-8", "replace")) for name, value in _LABEL.findall(text)}


def _unescaped(value: str) -> str:
    return _ESCAPE.sub(lambda match: "\n" if match[1] == "n" else match[1], value) if "\\" in value else value
