"""Settings of runs in words, for comparisons."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import Any

from llmendpoint_common.contracts.loadrun import METRICS, MetricName
from llmendpoint_common.results.words import objective_text, span

#: Sections of a run document whose name says nothing that the name of the field does not say.
_SECTIONS = {"run", "load", "target"}
_TITLES = {
    "run.target.url": "Target",
    "run.target.api": "API",
    "run.load.rate": "Requests per second",
    "gpu": "GPU",
    "cpus": "CPUs",
    "modelDigest": "Digest of the model",
    "llmendpoint": "Version of llmendpoint",
}
_SECONDS = "Seconds"
_MAX_VALUE = 80


def setting_text(name: str, first: str, second: str) -> str:
    """Return a difference in words, such as `Concurrency 4 → 6` or `Duration 30 s → 1 min`.

    `name` is the path of the setting, and the values are JSON or text.
    """
    return f"{_title(name)} {_value(name, first)} → {_value(name, second)}"


def _title(name: str) -> str:
    if name in _TITLES:
        return _TITLES[name]
    parts = [part for part in name.split(".") if part not in _SECTIONS]
    words = " ".join(parts).removesuffix(_SECONDS).replace("_", " ")
    words = re.sub(r"(?<=[a-z0-9])([A-Z])", lambda match: f" {match[1].lower()}", words)
    return words[:1].upper() + words[1:]


def _value(name: str, value: str) -> str:
    with suppress(ValueError, TypeError, KeyError, RecursionError):
        found = json.loads(value)
        if name.endswith(_SECONDS):
            value = span(float(found))
        elif name == "run.objectives":
            value = ", ".join(_objective(item) for item in found) or "none"
        elif isinstance(found, bool):
            value = "yes" if found else "no"
    return value if len(value) <= _MAX_VALUE else f"{value[: _MAX_VALUE - 1]}…"


def _objective(item: dict[str, Any]) -> str:
    metric = MetricName(item["metric"])
    return objective_text(metric, item.get("percentile"), METRICS[metric].format(float(item["threshold"])))
