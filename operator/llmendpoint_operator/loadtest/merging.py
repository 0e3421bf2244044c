"""Merges the results of several pods into that of the run. Has no side effects."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from llmendpoint_common.contracts.loadrun import MAX_SECONDS, RunDocument, Summary
from llmendpoint_common.process.errors import RunResultError
from llmendpoint_common.results.measurements import Measurements
from llmendpoint_common.results.merge import merge
from llmendpoint_common.results.summary import summarize


def merged(parts: Sequence[Summary], wanted: int, document: RunDocument, baseline: Summary | None) -> Summary:
    """Return the result of a run with `wanted` pods, with its verdict. Pods without a result make it partial.

    `parts` are not empty. Raises RunResultError if they contradict each other or the document.
    """
    try:
        measurements = merge([Measurements.decode(part.measurements) for part in parts], missing=wanted - len(parts))
    except ValueError as error:
        raise RunResultError(str(error)) from None
    return summarize(
        measurements,
        _with_duration(document, parts[0]),
        environment=msgspec.structs.replace(parts[0].environment, pods=wanted),
        started_at=min(part.started_at for part in parts),
        ended_at=max(part.ended_at for part in parts),
        baseline=baseline,
    )


def _with_duration(document: RunDocument, part: Summary) -> RunDocument:
    """Return the document with the duration of its trace, which only the pods have read."""
    load = (part.run or {}).get("load")
    seconds = load.get("durationSeconds") if isinstance(load, dict) else None
    if document.trace is None or not isinstance(seconds, int | float) or not 0 <= seconds <= MAX_SECONDS:
        return document
    return msgspec.structs.replace(document, load=msgspec.structs.replace(document.load, duration_seconds=seconds))
