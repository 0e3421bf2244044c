"""One run with its files: the load, its request lines, its partial summaries, and its result."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress

import msgspec

from llmendpoint_common.contracts.loadrun import Progress, Summary
from llmendpoint_loadjob.environment import environment, utc_now
from llmendpoint_loadjob.inputs import Inputs
from llmendpoint_loadjob.load.run import LoadRun
from llmendpoint_loadjob.report.files import REQUESTS
from llmendpoint_loadjob.report.lines import RequestLines
from llmendpoint_loadjob.result.summary import summarize
from llmendpoint_loadjob.result.timings import Outcome
from llmendpoint_loadjob.settings import Settings

log = logging.getLogger(__name__)

PARTIAL_SECONDS = 10.0


class Execution:
    """Runs the load of a run document. Whatever ends the process, files with what was measured until then remain."""

    def __init__(self, settings: Settings, inputs: Inputs) -> None:
        self._document = settings.document
        self._folder = inputs.folder
        self._lines = RequestLines(None if self._folder is None else self._folder.path / REQUESTS, time.perf_counter)
        self._run = LoadRun(settings.document, inputs.prompts, settings.api_key)
        self._started_at = utc_now()
        self._is_written = False
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
        try:
            outcome = await self._run.run()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._lines.close()
        self._note(self._lines.failure)
        summary = self._summary(outcome)
        await asyncio.to_thread(self._write, summary)
        return summary

    def save(self) -> None:
        """Write what has been measured until now. The process is about to end."""
        self._lines.close()
        if self._folder is not None and not self._is_written:
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
        return self._summary(self._run.outcome, is_partial=True)

    def _summary(self, outcome: Outcome, *, is_partial: bool = False) -> Summary:
        raise NotImplementedError

    def _write(self, summary: Summary) -> None:
        if self._folder is None:
            return
        try:
            self._folder.write(summary)
            self._is_written = True
        except OSError as error:
            self._note(f"{self._folder.path}: {error.strerror}")

    def _note(self, failure: str) -> None:
        if failure:
            self.failure = failure
            log.error("results could not be written: %s", failure)
