"""Describes the load of a LoadTest in one sentence, from `spec.load` or `status.resolvedLoad`. Has no side effects.

The words are those for runs of a machine (`loadtests/words.py`), which have a run document instead.
"""

from __future__ import annotations

from llmendpoint_common.process.units import format_duration, parse_duration
from llmendpoint_common.results.words import plural
from llmendpoint_dashboard.cluster.reading import items, number, section, text
from llmendpoint_dashboard.cluster.reflector import Manifest

#: Number of stages that are written out.
_MAX_LEVELS = 6


def describe_load(load: Manifest, scenario: str) -> str:
    """Return the sentence, such as `8 users for 5m00s`. The load is empty until the operator has resolved the scenario."""
    words = _shape(load)
    if not words:
        return f"the scenario {scenario}" if scenario else ""
    if load.get("duration") and not (load.get("stages") or load.get("sweep")):
        words += f" for {format_duration(_seconds(text(load, 'duration')))}"
    pods, warmup = number(load, "parallelism"), _seconds(text(load, "warmup"))
    if pods > 1:
        words += f" from {pods} pods"
    if load.get("maxRequests") is not None:
        words += f", at most {plural(number(load, 'maxRequests'), 'request')}"
    if warmup:
        words += f", after a warm-up of {format_duration(warmup)}"
    return f"{scenario}: {words}" if scenario else words


def _shape(load: Manifest) -> str:
    if load.get("concurrency") is not None:
        return plural(number(load, "concurrency"), "user")
    if load.get("rate") is not None:
        return f"{text(load, 'rate')} requests/s"
    if load.get("sessions"):
        return plural(number(section(load, "sessions"), "users"), "conversation")
    if load.get("sweep"):
        sweep = section(load, "sweep")
        return f"search for the highest rate from {text(sweep, 'minRate')} to {text(sweep, 'maxRate')} requests/s"
    return _stages(items(load, "stages"))


def _stages(stages: list[Manifest]) -> str:
    if not stages:
        return ""
    name, unit = ("rate", "requests/s") if "rate" in stages[0] else ("concurrency", "users")
    levels = [text(stage, name) for stage in stages]
    shown = levels if len(levels) <= _MAX_LEVELS else [*levels[: _MAX_LEVELS - 1], "…"]
    total = sum(_seconds(text(stage, "duration")) for stage in stages)
    return f"{', '.join(shown)} {unit} in {format_duration(total)}"


def _seconds(duration: str) -> float:
    try:
        return parse_duration(duration)
    except ValueError:
        return 0.0
