"""Describes the load of a LoadTest in one sentence, from `spec.load` or `status.resolvedLoad`. Has no side effects."""

from __future__ import annotations

from llmendpoint_common.process.units import format_duration, parse_duration
from llmendpoint_common.results.words import plural
from llmendpoint_dashboard.cluster.reading import items, number, section, text
from llmendpoint_dashboard.cluster.reflector import Manifest


def describe_load(load: Manifest, scenario: str) -> str:
    """Return the sentence, such as `8 users for 5m`. The load is empty until the operator has resolved the scenario."""
    words = _shape(load)
    if not words:
        return f"the scenario {scenario}" if scenario else ""
    duration = "" if load.get("stages") or load.get("sweep") else text(load, "duration")
    pods = number(load, "parallelism")
    parts = [words, f"for {duration}" if duration else "", f"from {pods} pods" if pods > 1 else ""]
    prefix = f"{scenario}: " if scenario else ""
    return prefix + " ".join(part for part in parts if part)


def _shape(load: Manifest) -> str:
    if load.get("concurrency") is not None:
        return plural(number(load, "concurrency"), "user")
    if load.get("rate") is not None:
        return f"{text(load, 'rate')} requests per second"
    if load.get("sessions"):
        return plural(number(section(load, "sessions"), "users"), "concurrent conversation")
    if load.get("sweep"):
        sweep = section(load, "sweep")
        return (
            f"a sweep from {text(sweep, 'minRate')} to {text(sweep, 'maxRate')} requests per second, "
            f"{text(sweep, 'stepDuration')} per rate"
        )
    return _stages(items(load, "stages"))


def _stages(stages: list[Manifest]) -> str:
    if not stages:
        return ""
    unit = "requests per second" if "rate" in stages[0] else "users"
    name = "rate" if "rate" in stages[0] else "concurrency"
    highest = max((text(stage, name) or "0" for stage in stages), key=_value)
    total = sum(_seconds(text(stage, "duration")) for stage in stages)
    return f"{plural(len(stages), 'stage')} of up to {highest} {unit}, {format_duration(total)} in total"


def _value(number_text: str) -> float:
    try:
        return float(number_text)
    except ValueError:
        return 0.0


def _seconds(duration: str) -> float:
    try:
        return parse_duration(duration)
    except ValueError:
        return 0.0
