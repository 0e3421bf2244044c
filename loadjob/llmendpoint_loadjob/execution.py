"""One run with its files: the load, its request lines, its partial summaries, and its result."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable
from contextlib import suppress

from llmendpoint_common.contracts.loadrun import Progress, Summary
from llmendpoint_common.results.measurements import Measurements
from llmendpoint_common.results.summary import summarize
from llmendpoint_loadjob.client.client import Client
from llmendpoint_loadjob.client.target import parse_target
from llmendpoint_loadjob.environment import environment, utc_now
from llmendpoint_loadjob.inputs import Inputs
from llmendpoint_loadjob.load.run import LoadRun
from llmendpoint_loadjob.load.window import Ending
from llmendpoint_loadjob.report.files import REQUESTS
from llmendpoint_loadjob.report.lines import RequestLines
from llmendpoint_loadjob.result.recorder import Recorder
from llmendpoint_loadjob.result.timings import Sample
from llmendpoint_loadjob.settings import Settings
from llmendpoint_loadjob.sidecar_join import SidecarJoin

log = logging.getLogger(__name__)

PARTIAL_SECONDS = 10.0
_clock = time.perf_counter


class Execution:
    """Runs the load of a run document. Whatever ends the process, files with what was measured until then remain.

    Raises TargetError if the target cannot be used with the settings.
    """

    def __init__(self, settings: Settings, inputs: Inputs, barrier: Awaitable[object] | None = None) -> None:
        self._document = document = settings.document
        self._baseline = inputs.baseline
        self._folder = inputs.folder
        self._environment = environment()
        self._recorder = Recorder(document)
        self._lines = RequestLines(None if self._folder is None else self._folder.path / REQUESTS, _clock)
        self._client = Client(
            parse_target(document.target.url), document, api_key=settings.api_key, cacert=settings.cacert, clock=_clock
        )
        self._run = LoadRun(
            document, inputs.prompts, self._client, self._recorder,
            clock=_clock, barrier=barrier, slice=settings.slice, on_sample=self._ended, replay=inputs.replay,
        )  # fmt: skip
        self._join = None if settings.sidecar is None else SidecarJoin(settings.sidecar, self._recorder)
        self._started_at = utc_now()
        self._is_finished = False
        #: Why a file could not be written, if one could not.
        self.failure = ""

    def progress(self) -> Progress:
        """Return the progress of the run."""
        return self._run.progress()

    def stop(self) -> None:
        """End the run immediately. Its result is partial."""
        self._run.stop()

    async def run(self) -> Summary:
        """Send the load, write all files, and return the summary."""
        self._started_at = utc_now()
        self._lines.begin()
        tasks = [asyncio.create_task(self._lines.keep_flushing()), asyncio.create_task(self._keep_partial())]
        if self._join is not None:
            tasks.append(asyncio.create_task(self._join.run()))
        try:
            await self._run.run()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._lines.close()
        self._is_finished = True
        self._recorder.measurements.interrupted = self._run.ending is Ending.STOPPED
        self._note(self._lines.failure)
        if self._join is not None and not self._recorder.measurements.interrupted:
            await self._join.finish()
        summary = self._summary(self._recorder.measurements)
        await asyncio.to_thread(self._write, summary)
        return summary

    def _ended(self, sample: Sample) -> None:
        self._lines.write(sample)
        if self._join is not None:
            self._join.add(sample)

    def save(self) -> None:
        """Write what has been measured until now. The process is about to end."""
        self._lines.close()
        if self._folder is not None and not self._is_finished:
            with suppress(OSError):
                self._folder.write_partial(self._partial())

    async def _keep_partial(self) -> None:
        """Write a partial summary now and every 10 seconds."""
        while self._folder is not None:
            summary = self._partial()
            try:
                await asyncio.to_thread(self._folder.write_partial, summary)
            except OSError as error:
                log.warning("could not write a partial summary: %s", error.strerror)
            await asyncio.sleep(PARTIAL_SECONDS)

    def _partial(self) -> Summary:
        """Return the summary of a run that is not over: what remains if the process is killed now."""
        measurements = self._recorder.measurements
        if self._run.progress().elapsed_seconds > 0:
            measurements = self._recorder.finish(_clock(), interrupted=True)
        measurements.interrupted = True
        return self._summary(measurements)

    def _summary(self, measurements: Measurements) -> Summary:
        return summarize(
            measurements,
            self._document,
            environment=self._environment,
            started_at=self._started_at,
            ended_at=utc_now(),
            baseline=self._baseline,
        )

    def _write(self, summary: Summary) -> None:
        if self._folder is None:
            return
        try:
            self._folder.write(summary)
        except OSError as error:
            self._note(f"{self._folder.path}: {error.strerror}")

    def _note(self, failure: str) -> None:
        if failure:
            self.failure = failure
            log.error("results could not be written: %s", failure)
