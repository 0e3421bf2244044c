"""Writes the files of a run while it continues: request lines, partial summaries, and the progress.

Summaries and progress are computed and written in a thread, from a copy. On the event loop, this time would be part of
every latency that is measured then. A write that fails never ends the run.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from llmendpoint_common.contracts.loadrun import (
    RESULT_KEY,
    ObjectiveProgress,
    Progress,
    RunProgress,
    RunState,
    Summary,
)
from llmendpoint_common.results.measurements import Measurements
from llmendpoint_loadjob.environment import utc_now
from llmendpoint_loadjob.report.files import REQUESTS, OutputFolder
from llmendpoint_loadjob.report.left import without_files
from llmendpoint_loadjob.report.lines import FLUSH_SECONDS, RequestLines
from llmendpoint_loadjob.result.timings import Sample

log = logging.getLogger(__name__)

PROGRESS_SECONDS = 1.0
#: Pause between partial summaries, and the share of the CPU time that they may take: they take it from the requests
#: (`short_waits`). Measured: a summary takes 3 ms with ten requests, 9 ms with a thousand, and 110 ms with 700,000. A
#: load generator that is busy needs ten times as long to catch up.
MIN_PARTIAL_SECONDS, MAX_PARTIAL_SECONDS = 1.0, 10.0
_PARTIAL_SHARE = 0.002
_clock = time.perf_counter


@dataclass(frozen=True)
class Observed:
    """Sources of the content of the files. The functions are called on the event loop, except `summarize`."""

    progress: Callable[[], Progress]
    objectives: Callable[[], tuple[ObjectiveProgress, ...]]
    has_begun: Callable[[], bool]
    #: Return a copy of what has been measured until now, marked as interrupted.
    snapshot: Callable[[], Measurements]
    summarize: Callable[[Measurements], Summary]


class RunFiles:
    """The files of one run in its folder. `failure` is the first error of a write, or empty."""

    def __init__(self, folder: OutputFolder, observed: Observed) -> None:
        self._folder = folder
        self._observed = observed
        self._lines = RequestLines(folder.path / REQUESTS, _clock)
        self._started_at = utc_now()
        self._has_ended = False
        self._warned = ""
        self.failure = ""
        folder.reserve()

    def begin(self) -> None:
        """Set the start of the run, from which times are counted."""
        self._started_at = utc_now()
        self._lines.begin()

    def add(self, sample: Sample) -> None:
        """Add the line of a request that has ended."""
        self._lines.write(sample)

    def tasks(self) -> list[Coroutine[Any, Any, None]]:
        """Return the coroutines that keep the files up to date. They have to be cancelled at the end of the load."""
        return [self._keep_lines(), self._keep_partial(), self._keep_progress()]

    def close_lines(self) -> None:
        """Write the lines that are waiting, and close their file."""
        self._lines.close()
        self._note(self._lines.failure)

    def write(self, summary: Summary) -> Summary:
        """Write all files of the run, which has ended, and return the summary.

        If one could not be written, its verdict is Error, and its message says what is in the folder.
        """
        self._has_ended = True
        try:
            self._folder.write(self._judged(summary, has_figures=True))
        except OSError as error:
            self._note(f"{self._folder.path}: {error.strerror}")
            with suppress(OSError):
                # A file that was written before the failure must not have another verdict than the process.
                self._folder.write(self._judged(summary, has_figures=True))
        return self._judged(summary, has_figures=self._folder.has_result)

    def _judged(self, summary: Summary, *, has_figures: bool) -> Summary:
        return without_files(summary, self.failure, self._left(has_figures)) if self.failure else summary

    def _left(self, has_figures: bool) -> str:
        """Return a sentence about what is in the folder."""
        folder, lines = self._folder.path, self._lines
        figures = "has all figures" if has_figures else "is from before the end of the run"
        if not has_figures and not (folder / RESULT_KEY).exists():
            figures = "is missing"
        total = lines.written + lines.missing
        return f"In {folder}, {RESULT_KEY} {figures}, and {REQUESTS} has {lines.written} of {total} requests."

    def write_end(self, failure: str) -> None:
        """Write that the run has ended. `failure` is the reason for which it failed, or empty."""
        with suppress(OSError):
            self._folder.write_progress(self._progress(RunState.ENDED, failure or self.failure))

    def save(self) -> None:
        """Write what has been measured until now. The process is about to end."""
        self._lines.close()
        if not self._has_ended:
            with suppress(OSError):
                self._folder.write_partial(self._observed.summarize(self._observed.snapshot()))
        self.write_end("")

    async def _keep_lines(self) -> None:
        """Write the lines that are waiting every second."""
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            self._lines.flush()
            self._note(self._lines.failure)

    async def _keep_partial(self) -> None:
        """Write a partial summary regularly. It remains if the process is killed."""
        while True:
            spent = await self._write_partial()
            await asyncio.sleep(min(max(MIN_PARTIAL_SECONDS, spent / _PARTIAL_SHARE), MAX_PARTIAL_SECONDS))

    async def _write_partial(self) -> float:
        """Write a partial summary, and return the CPU time that it took."""
        begun = time.thread_time()
        measurements = self._observed.snapshot()
        spent = time.thread_time() - begun

        def write() -> float:
            begun = time.thread_time()
            self._folder.write_partial(self._observed.summarize(measurements))
            return time.thread_time() - begun

        try:
            return spent + await asyncio.to_thread(write)
        except OSError as error:
            self._warn(f"could not write a partial summary: {error.strerror}; the run continues")
            return MAX_PARTIAL_SECONDS * _PARTIAL_SHARE

    def _warn(self, sentence: str) -> None:
        """Log a sentence, unless it is the same as the last one."""
        if sentence != self._warned:
            self._warned = sentence
            log.warning("%s", sentence)

    async def _keep_progress(self) -> None:
        """Write the progress now and every second."""
        while True:
            now = self._progress(RunState.RUNNING if self._observed.has_begun() else RunState.WAITING)
            with suppress(OSError):
                await asyncio.to_thread(self._folder.write_progress, now)
            await asyncio.sleep(PROGRESS_SECONDS)

    def _progress(self, state: RunState, failure: str = "") -> RunProgress:
        progress, now = self._observed.progress(), utc_now()
        return RunProgress(
            **{name: getattr(progress, name) for name in Progress.__struct_fields__},
            state=state,
            started_at=self._started_at,
            updated_at=now,
            pid=os.getpid(),
            requests_per_second=progress.completed_rate,
            objectives=self._observed.objectives(),
            ended_at=now if state is RunState.ENDED else "",
            failure=failure,
        )

    def _note(self, failure: str) -> None:
        """Note the first failure. What follows has the same cause."""
        if failure and not self.failure:
            self.failure = failure
            log.error("results could not be written: %s", failure)
