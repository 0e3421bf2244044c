"""Sentences of a verdict about one objective."""

from __future__ import annotations

from math import inf

from llmendpoint_common.results.objectives import Judged
from llmendpoint_common.results.words import NEVER_ANSWERED, apart, of, plural, was


def measured_sentence(judged: Judged) -> str:
    """Return an objective with its measured value, its interval and its threshold."""
    metric = judged.metric
    measured, threshold = apart(metric, judged.measured, judged.objective.threshold)
    bound = "at least" if metric.higher_is_better else "at most"
    side = "inside" if judged.is_near else "outside"
    value = f"was {measured}"
    if judged.measured == inf:
        unanswered = judged.unanswered
        value = f"has no value, because {of(unanswered, judged.requests, 'request')} {was(unanswered)} never answered"
    return (
        f"{judged.name} {value} (95 % interval: {_interval(judged)}; objective: {bound} {threshold}, "
        f"{side} the interval){_left_out(judged)}"
    )


def unknown_sentence(judged: Judged) -> str:
    """Return an objective that could not be measured."""
    metric = judged.metric
    bound = "at least" if metric.higher_is_better else "at most"
    threshold = metric.format(judged.objective.threshold)
    return f"{judged.name} could not be measured (objective: {bound} {threshold}){_left_out(judged)}"


def few_sentence(judged: Judged) -> str:
    """Return an objective with the number of requests that it needs."""
    there = "there was 1" if judged.requests == 1 else f"there were {judged.requests}"
    return f"{judged.name} needs at least {judged.needed} requests, and {there}{_left_out(judged)}"


def _left_out(judged: Judged) -> str:
    """Return the end of a sentence about an objective that is not judged on all requests, or nothing."""
    count = judged.left_out
    if not count:
        return ""
    which = f"{of(judged.requests, judged.requests + count, 'request')} count{'s' if judged.requests == 1 else ''}"
    return f"; {which}, because {plural(count, 'answer')} {'has' if count == 1 else 'have'} only one token"


def _interval(judged: Judged) -> str:
    result = judged.result()
    low, high = result.low, result.high
    if low is None:
        return "unlimited" if high is None else f"up to {high}"
    if low == NEVER_ANSWERED:
        return low
    return f"{low} or more" if high is None else f"{low} to {high}"
