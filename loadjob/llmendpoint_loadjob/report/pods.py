"""A run with several pods, whose folder in a volume has a folder per pod: one summary, and the lines in one file.

The operator merges the results of the pods itself. This is for a copy of the volume, which also has
the lines.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

import msgspec

from llmendpoint_common.contracts.loadrun import RESULT_KEY, RunDocument, Summary
from llmendpoint_common.process.errors import OutputError, RunResultError
from llmendpoint_common.results.measurements import Measurements
from llmendpoint_common.results.merge import merge
from llmendpoint_common.results.summary import summarize
from llmendpoint_loadjob.report.files import REQUESTS, open_result, read_summary

_POD = re.compile(r"pod-([0-9]{1,5})")


class _Times(msgspec.Struct):
    """The times in a request line."""

    sent_at: datetime
    sent: float
    ended: float


def pods_of(folder: Path) -> list[Path]:
    """Return the folders of the pods in the folder of a run, in their order. There are none if one process wrote it."""
    if not folder.is_dir() or (folder / RESULT_KEY).exists():
        return []
    found = [(int(match[1]), path) for path in folder.iterdir() if (match := _POD.fullmatch(path.name))]
    return [path for _, path in sorted(found) if path.is_dir()]


def merged_summary(pods: Sequence[Path]) -> Summary:
    """Return the result of a run. It is partial if one of its pods left none. Raises OutputError.

    A baseline is not known here, so it is not compared.
    """
    parts = [read_summary(pod) for pod in pods]
    highest = max(int(pod.name.removeprefix("pod-")) for pod in pods) + 1
    wanted = max(highest, *(part.environment.pods for part in parts))
    try:
        document = msgspec.convert(parts[0].run, RunDocument)
        measurements = merge([Measurements.decode(part.measurements) for part in parts], missing=wanted - len(parts))
        return summarize(
            measurements,
            msgspec.structs.replace(document, baseline=None),
            environment=msgspec.structs.replace(parts[0].environment, pods=wanted),
            started_at=min(part.started_at for part in parts),
            ended_at=max(part.ended_at for part in parts),
        )
    except (msgspec.ValidationError, RunResultError, ValueError) as error:
        raise OutputError(f"{pods[0].parent}: the results of the pods cannot be merged: {error}") from None


def merged_lines(pods: Sequence[Path]) -> Iterator[bytes]:
    """Yield the request lines of all pods in the order in which the requests ended. Raises OutputError and OSError."""
    with ExitStack() as stack:
        files = [stack.enter_context(open_result(pod / REQUESTS)) for pod in pods if (pod / REQUESTS).exists()]
        for _, line in heapq.merge(*map(_timed, files), key=lambda item: item[0]):
            yield line


def _timed(lines: BinaryIO) -> Iterator[tuple[float, bytes]]:
    """Yield complete lines with the time of day at which their request ended."""
    decoder = msgspec.json.Decoder(_Times)
    for line in lines:
        try:
            times = decoder.decode(line)
        except msgspec.DecodeError:
            continue
        yield times.sent_at.timestamp() + times.ended - times.sent, line
