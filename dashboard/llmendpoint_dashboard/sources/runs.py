"""The folder of load test runs of this machine: a row for each run, its summary and its report.

Each subfolder is a run, as the load generator writes it with `--out`. Once per second the names and the times of the
files are compared with those of the last second, and only files that changed are read. All of this happens in a thread,
because a disk can be slow. Symbolic links are not followed, names and sizes are bounded, and no path of this machine is
part of a row or an answer.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import stat
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from llmendpoint_common.contracts.loadrun import RESULT_KEY, RunDocument, RunProgress, Summary
from llmendpoint_common.contracts.loadrun.progress_file import PROGRESS_FILE
from llmendpoint_common.contracts.loadrun.progress_file import RunState as FileState
from llmendpoint_common.process.folder_lock import is_locked
from llmendpoint_common.results.words import objective_text
from llmendpoint_dashboard.contract import (
    LoadTestRow,
    ObjectiveState,
    Origin,
    Percentiles,
    RunState,
    TableSection,
)
from llmendpoint_dashboard.sources.traffic import rounded
from llmendpoint_dashboard.state import Hub, RowWriter
from llmendpoint_dashboard.words import is_met, load_sentence, measured_text

log = logging.getLogger(__name__)

REPORT = "report.html"
#: The run document that the dashboard writes for a run that it starts.
DOCUMENT = "run.json"
_SCAN_SECONDS = 1.0
#: Newest runs that are shown.
_MAX_RUNS = 500
#: Largest file that is read.
_MAX_FILE_BYTES = 16 * 1024 * 1024
#: A run replaces its progress every second. After this time without a change, it is checked whether the run continues.
_SILENT_SECONDS = 5.0
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_FILES = (PROGRESS_FILE, RESULT_KEY, REPORT, DOCUMENT)

#: Size and time of each file of a run, None if it does not exist.
Signature = tuple[tuple[int, int] | None, ...]


@dataclass(frozen=True)
class _Run:
    """A run in the folder. `updated` is the time at which it last wrote its progress, and None if it has ended."""

    signature: Signature
    row: LoadTestRow
    updated: float | None = None


@dataclass(frozen=True)
class Child:
    """A run that this dashboard started. `failure` is why it ended without a result; empty if it did not."""

    is_running: bool
    failure: str = ""


class RunsFolder:
    """Watches the folder. `child` returns a run that this dashboard started, by its key, or None."""

    def __init__(
        self, hub: Hub, path: Path, child: Callable[[str], Child | None], wall: Callable[[], float] = time.time
    ) -> None:
        self.path = path
        self._writer = RowWriter(hub, TableSection.LOADTESTS)
        self._child = child
        self._wall = wall
        self._runs: Mapping[str, _Run] = {}
        self._changed = asyncio.Event()
        self._problem = ""

    async def run(self) -> None:
        """Watch until the task is cancelled."""
        while True:
            await self.scan()
            with suppress(TimeoutError):
                async with asyncio.timeout(_SCAN_SECONDS):
                    await self._changed.wait()
            self._changed.clear()

    def look(self) -> None:
        """Look at the folder immediately, because a run was started or has ended."""
        self._changed.set()

    async def scan(self) -> None:
        """Look at the folder once, and write the rows."""
        try:
            self._runs = await asyncio.to_thread(self._read_all, self._runs)
            self._note("")
        except OSError as error:
            self._note(f"the folder of runs cannot be read: {error.strerror}")
            return
        self._writer.replace(self._with_child(key, run.row) for key, run in self._runs.items())

    async def summary(self, key: str) -> Any:
        """Return the content of a run's `summary.json`, without its measurements, or None if it does not exist."""
        if key not in self._runs:
            return None
        return await asyncio.to_thread(self._read_summary, self.path / key)

    async def result(self, key: str) -> Summary | None:
        """Return the result of a run, or None if it does not exist or is not valid."""
        return await asyncio.to_thread(_read, self.path / key / RESULT_KEY, Summary) if key in self._runs else None

    async def report(self, key: str) -> bytes | None:
        """Return the report of a run, or None if it does not exist."""
        return await asyncio.to_thread(_read_bytes, self.path / key / REPORT) if key in self._runs else None

    def _read_all(self, known: Mapping[str, _Run]) -> Mapping[str, _Run]:
        """Return all runs. Those whose files have not changed are taken from `known`."""
        folders: list[tuple[int, str]] = []
        with suppress(FileNotFoundError), os.scandir(self.path) as entries:
            folders += [
                (entry.stat(follow_symlinks=False).st_mtime_ns, entry.name)
                for entry in entries
                if _KEY.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)
            ]
        runs: dict[str, _Run] = {}
        for _, name in sorted(folders, reverse=True)[:_MAX_RUNS]:
            signature = _signature(self.path / name)
            before = known.get(name)
            if before is None or before.signature != signature or self._is_silent(before):
                before = self._read_run(name, signature)
            runs[name] = before
        return runs

    def _is_silent(self, run: _Run) -> bool:
        return run.updated is not None and self._wall() - run.updated > _SILENT_SECONDS

    def _read_run(self, name: str, signature: Signature) -> _Run:
        folder = self.path / name
        progress, summary = _read(folder / PROGRESS_FILE, RunProgress), _read(folder / RESULT_KEY, Summary)
        updated = None
        row = LoadTestRow(
            key=name, name=name, origin=Origin.MACHINE, state=RunState.WAITING, has_report=signature[2] is not None
        )
        document = _document_of(summary) or _read(folder / DOCUMENT, RunDocument)
        if document is not None:
            row = _with_document(row, document)
        if summary is not None:
            row = _with_summary(row, summary)
        if progress is not None and progress.state is not FileState.ENDED:
            updated = _unix(progress.updated_at) or self._wall()
            # The load generator holds a lock on the folder until it ends.
            if self._wall() - updated > _SILENT_SECONDS and not is_locked(folder):
                row = msgspec.structs.replace(row, message=_killed(row), state=RunState.ENDED, ended=updated)
                updated = None
            else:
                row = _with_progress(row, progress)
        elif progress is not None:
            row = self._with_end(row, progress)
        elif summary is None and signature[3] is None:
            row = msgspec.structs.replace(row, state=RunState.ENDED, message="The folder has no result.")
        return _Run(signature, row, updated)

    def _with_end(self, row: LoadTestRow, progress: RunProgress) -> LoadTestRow:
        return msgspec.structs.replace(
            row,
            state=RunState.ENDED,
            started=row.started or _unix(progress.started_at),
            ended=row.ended or _unix(progress.ended_at),
            message=self.without_paths(progress.failure) or self.without_paths(row.message),
        )

    def _with_child(self, key: str, row: LoadTestRow) -> LoadTestRow:
        child = self._child(key)
        if child is None:
            return row
        if child.is_running:
            return msgspec.structs.replace(row, can_stop=row.state is not RunState.ENDED)
        if row.state is RunState.ENDED:
            return row
        message = self.without_paths(child.failure) or _killed(row)
        return msgspec.structs.replace(row, state=RunState.ENDED, message=message)

    def _read_summary(self, folder: Path) -> Any:
        data = _read_bytes(folder / RESULT_KEY)
        if data is None:
            return None
        try:
            summary = msgspec.json.decode(self.without_paths(data.decode()))
        except (msgspec.DecodeError, UnicodeError):
            return None
        if not isinstance(summary, dict):
            return None
        summary.pop("measurements", None)
        return summary

    def without_paths(self, text: str) -> str:
        """Return a text in which paths of the folder of runs are replaced."""
        return text.replace(str(self.path), "RUNS")

    def _note(self, problem: str) -> None:
        if problem and problem != self._problem:
            log.warning("%s", problem)
        self._problem = problem


def has_ended(folder: Path) -> bool:
    """Return whether a run has written its last file. Its process ends a moment later."""
    progress = _read(folder / PROGRESS_FILE, RunProgress)
    return progress is not None and progress.state is FileState.ENDED


def _killed(row: LoadTestRow) -> str:
    figures = " Its figures are those until then." if row.requests else ""
    return f"The load generator was killed before the end of the run.{figures}"


def _with_document(row: LoadTestRow, document: RunDocument) -> LoadTestRow:
    return msgspec.structs.replace(row, target=document.target.url, model=document.model, load=load_sentence(document))


def _with_summary(row: LoadTestRow, summary: Summary) -> LoadTestRow:
    """Return the row of a run with a summary, which has ended unless its progress has another state."""
    ttft = summary.ttft
    return msgspec.structs.replace(
        row,
        state=RunState.ENDED,
        started=_unix(summary.started_at),
        ended=_unix(summary.ended_at),
        target=summary.target,
        model=summary.model,
        percent=100,
        requests=summary.requests,
        errors=summary.errors,
        requests_per_second=rounded(summary.requests_per_second.value),
        objectives=tuple(
            ObjectiveState(
                text=objective_text(item.metric, item.percentile, item.threshold),
                measured=measured_text(item.measured),
                met=is_met(item, partial=summary.partial),
            )
            for item in summary.slo
        ),
        verdict=summary.verdict.value,
        reason=summary.reason.value,
        message=summary.message,
        ttft=None if ttft is None else Percentiles(p50=ttft.p50, p95=ttft.p95, p99=ttft.p99),
    )


def _with_progress(row: LoadTestRow, progress: RunProgress) -> LoadTestRow:
    """Return the row of a run that continues. Its summary is older than its progress, and its verdict is not final."""
    return msgspec.structs.replace(
        row,
        state=RunState(progress.state.value),
        started=_unix(progress.started_at),
        ended=None,
        percent=progress.percent,
        awaiting=progress.awaiting,
        in_flight=progress.in_flight,
        requests=progress.requests,
        errors=progress.errors,
        requests_per_second=progress.requests_per_second,
        objectives=tuple(
            ObjectiveState(text=item.text, measured=measured_text(item.measured), met=item.met)
            for item in progress.objectives
        ),
        verdict="",
        reason="",
        message=progress.error,
    )


def _document_of(summary: Summary | None) -> RunDocument | None:
    with suppress(msgspec.ValidationError, ValueError):
        if summary is not None and summary.run is not None:
            return msgspec.convert(summary.run, RunDocument)
    return None


def _read(path: Path, kind: type[Any]) -> Any:
    """Return the content of a JSON file. None if it does not exist, is too large or is not valid."""
    data = _read_bytes(path)
    if data is not None:
        with suppress(msgspec.MsgspecError, UnicodeError, RecursionError):
            return msgspec.json.decode(data, type=kind)
    return None


def _read_bytes(path: Path) -> bytes | None:
    """Return the content of a regular file of bounded size, or None."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor has no path
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return None
            data = file.read(_MAX_FILE_BYTES + 1)
        except OSError:
            return None
    return data if len(data) <= _MAX_FILE_BYTES else None


def _signature(folder: Path) -> Signature:
    return tuple(_file_signature(folder / name) for name in _FILES)


def _file_signature(path: Path) -> tuple[int, int] | None:
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size) if stat.S_ISREG(found.st_mode) else None


def _unix(text: str) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        return None
