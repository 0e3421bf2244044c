"""Objectives while a run continues, for `progress.json`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from llmendpoint_common.contracts.loadrun import MetricName, Objective, ObjectiveProgress
from llmendpoint_common.results.measurements import Group
from llmendpoint_common.results.so_far import count_group, show
from llmendpoint_common.results.words import objective_text, spaced


def live_objectives(group: Group, objectives: Sequence[Objective]) -> tuple[ObjectiveProgress, ...]:
    """Return the objectives of a group.

    It is called every second on the event loop, whose delays are part of every latency.
    """
    return tuple(_progress(group, objectives))


def _progress(group: Group, objectives: Sequence[Objective]) -> Iterator[ObjectiveProgress]:
    for objective, counted in zip(objectives, count_group(group, objectives), strict=True):
        shown = show(objective, [counted])
        text = objective_text(MetricName(objective.metric), objective.percentile, shown.threshold)
        yield ObjectiveProgress(text, spaced(shown.measured), shown.met)
