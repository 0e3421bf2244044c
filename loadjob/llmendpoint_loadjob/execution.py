"""One run with its files: the load, its request lines, its partial summaries, and its result."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable

import msgspec

from llmendpoint_common.contracts.loadrun import ObjectiveProgress, Progress, Summary
from llmendpoint_common.process.reasons import reason_of
from llmendpoint_common.results.measurements import Measurements
from llmendpoint_common.results.so_far import count_group
from llmendpoint_common.results.summary import summarize
from llmendpoint_loadjob.client.client import Client
from llmendpoint_loadjob.client.target import parse_target
from llmendpoint_loadjob.environment import environment, utc_now
from llmendpoint_loadjob.inputs import Inputs
from llmendpoint_loadjob.load.run import LoadRun
from llmendpoint_loadjob.load.window import Ending
from llmendpoint_loadjob.report.left import as_part
from llmendpoint_loadjob.result.live import live_objectives
from llmendpoint_loadjob.result.recorder import Recorder
from llmendpoint_loadjob.result.timings import Sample
from llmendpoint_loadjob.run_files import Observed, RunFiles
from llmendpoint_loadjob.settings import Settings
from llmendpoint_loadjob.sidecar_join import SidecarJoin

_clock = time.perf_counter


class Execution:
    """Runs the load of a run document. Whatever ends the process, files with what was measured until then remain.

    Raises TargetError if the target cannot be used with the settings.
    """

    def __init__(self, settings: Settings, inputs: Inputs, barrier: Awaitable[object] | None = None) -> None:
        self._document = document = inputs.document
        self._baseline = inputs.baseline
        self._slice = settings.slice
        self._environment = msgspec.structs.replace(environment(), pods=settings.slice.parts)
        self._recorder = Recorder(document)
        self._client = Client(
            parse_target(document.target.url), document, api_key=settings.api_key, cacert=settings.cacert, clock=_clock
        )
        self._client.silences.on_silence = self._recorder.add_silence
        self._run = LoadRun(
            document, inputs.prompts, self._client, self._recorder,
            clock=_clock, barrier=barrier, slice=self._slice, on_sample=self._ended, replay=inputs.replay,
        )  # fmt: skip
        self._join = None if settings.sidecar is None else SidecarJoin(settings.sidecar, self._recorder)
        self._started_at = utc_now()
        self._files = None if inputs.folder is None else RunFiles(inputs.folder, self._observed())

    @property
    def failure(self) -> str:
        """Why a file could not be written, if one could not."""
        return "" if self._files is None else self._files.failure

    def progress(self) -> Progress:
        """Return the progress of the run."""
        return self._run.progress()

    def status(self) -> Progress:
        """Return the progress with the objectives until now, from which the operator adds up those of all pods."""
        counted = count_group(self._recorder.measurements.whole, self._document.objectives)
        return msgspec.structs.replace(self._run.progress(), so_far=counted)

    def stop(self) -> None:
        """End the run immediately. Its result is partial."""
        self._run.stop()

    async def run(self) -> Summary:
        """Send the load, write all files, and return the summary."""
        failure = ""
        try:
            return await self._measure()
        except Exception as error:
            failure = reason_of(error)
            raise
        finally:
            if self._files is not None:
                self._files.write_end(failure)

    def save(self) -> None:
        """Write what has been measured until now. The process is about to end."""
        if self._files is not None:
            self._files.save()

    async def _measure(self) -> Summary:
        self._started_at = utc_now()
        work = [] if self._files is None else self._files.tasks()
        if self._files is not None:
            self._files.begin()
        if self._join is not None:
            work.append(self._join.run())
        tasks = [asyncio.create_task(coroutine) for coroutine in work]
        try:
            await self._run.run()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self._files is not None:
                self._files.close_lines()
        self._recorder.measurements.interrupted = self._run.ending is Ending.STOPPED
        if self._join is not None and not self._recorder.measurements.interrupted:
            await self._join.finish()
        summary = self._summary(self._recorder.measurements)
        return summary if self._files is None else await asyncio.to_thread(self._files.write, summary)

    def _ended(self, sample: Sample) -> None:
        if self._files is not None:
            self._files.add(sample)
        if self._join is not None:
            self._join.add(sample)

    def _observed(self) -> Observed:
        return Observed(
            progress=self._run.progress,
            objectives=self._objectives,
            has_begun=lambda: self._run.has_begun,
            snapshot=lambda: self._recorder.snapshot(_clock()),
            summarize=self._summary,
        )

    def _objectives(self) -> tuple[ObjectiveProgress, ...]:
        return live_objectives(self._recorder.measurements.whole, self._document.objectives)

    def _summary(self, measurements: Measurements) -> Summary:
        summary = summarize(
            measurements,
            self._document,
            environment=self._environment,
            started_at=self._started_at,
            ended_at=utc_now(),
            baseline=self._baseline,
        )
        return as_part(summary, *self._slice) if self._slice.parts > 1 else summary
