"""Writes the files of a run while it goes: request lines, partial summaries, and the progress for those who watch.

What is computed and written in between runs in a thread, from a copy. On the event loop, it would be in every latency
that is measured then. A write that fails never ends the run.
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

from llmendpoint_common.contracts.loadrun import ObjectiveProgress, Progress, RunProgress, RunState, Summary
from llmendpoint_common.results.measurements import Measurements
from llmendpoint_loadjob.environment import utc_now
from llmendpoint_loadjob.report.files import REQUESTS, OutputFolder
from llmendpoint_loadjob.report.lines import RequestLines
from llmendpoint_loadjob.result.timings import Sample

log = logging.getLogger(__name__)

PROGRESS_SECONDS = 1.0
PARTIAL_SECONDS = 10.0
_clock = time.perf_counter


@dataclass(frozen=True)
class Observed:
    """What the files say about a run. The functions are called on the event loop, except `summarize`."""

    progress: Callable[[], Progress]
    objectives: Callable[[], tuple[ObjectiveProgress, ...]]
    has_begun: Callable[[], bool]
    #: Return a copy of what has been measured until now, marked as interrupted.
    snapshot: Callable[[], Measurements]
    summarize: Callable[[Measurements], Summary]


class RunFiles:
    """The files of one run in its folder. `failure` says why one could not be written, if one could not."""

    def __init__(self, folder: OutputFolder, observed: Observed) -> None:
        self._folder = folder
        self._observed = observed
        self._lines = RequestLines(folder.path / REQUESTS, _clock)
        self._started_at = utc_now()
        self._has_ended = False
        self.failure = ""

    def begin(self) -> None:
        """Set the start of the run, from which times are counted."""
        self._started_at = utc_now()
        self._lines.begin()

    def add(self, sample: Sample) -> None:
        """Add the line of a request that has ended."""
        self._lines.write(sample)

    def tasks(self) -> list[Coroutine[Any, Any, None]]:
        """Return what has to run as long as the load: it keeps the files up to date, until it is cancelled."""
        return [self._lines.keep_flushing(), self._keep_partial(), self._keep_progress()]

    def close_lines(self) -> None:
        """Write the lines that are waiting, and close their file."""
        self._lines.close()
        self._note(self._lines.failure)

    def write(self, summary: Summary) -> None:
        """Write all files of the run, which has ended."""
        self._has_ended = True
        try:
            self._folder.write(summary)
        except OSError as error:
            self._note(f"{self._folder.path}: {error.strerror}")

    def write_end(self, failure: str) -> None:
        """Write that the run has ended. `failure` says why it could not be done, if it could not."""
        with suppress(OSError):
            self._folder.write_progress(self._progress(RunState.ENDED, failure or self.failure))

    def save(self) -> None:
        """Write what has been measured until now. The process is about to end."""
        self._lines.close()
        if not self._has_ended:
            with suppress(OSError):
                self._folder.write_partial(self._observed.summarize(self._observed.snapshot()))
        self.write_end("")

    async def _keep_partial(self) -> None:
        """Write a partial summary now and every 10 seconds: what remains if the process is killed."""
        while True:
            try:
                await asyncio.to_thread(self._write_partial, self._observed.snapshot())
            except OSError as error:
                log.warning("could not write a partial summary: %s", error.strerror)
            await asyncio.sleep(PARTIAL_SECONDS)

    async def _keep_progress(self) -> None:
        """Write the progress now and every second."""
        while True:
            now = self._progress(RunState.RUNNING if self._observed.has_begun() else RunState.WAITING)
            with suppress(OSError):
                await asyncio.to_thread(self._folder.write_progress, now)
            await asyncio.sleep(PROGRESS_SECONDS)

    def _write_partial(self, measurements: Measurements) -> None:
        self._folder.write_partial(self._observed.summarize(measurements))

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
        if failure:
            self.failure = failure
            log.error("results could not be written: %s", failure)
