"""The process of the load generator. It reads the inputs, sends the load, writes the result, and shows it last."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence

from llmendpoint_common.contracts.loadrun import Summary, exit_code_of
from llmendpoint_common.process import exit_codes, lifecycle
from llmendpoint_common.process.errors import FileLimitError, InputError, PublishError, StdoutError
from llmendpoint_common.process.logs import configure_logs
from llmendpoint_common.process.reasons import reason_of
from llmendpoint_common.process.streams import open_streams
from llmendpoint_loadjob.barrier import Barrier
from llmendpoint_loadjob.execution import Execution
from llmendpoint_loadjob.inputs import Inputs, read_inputs
from llmendpoint_loadjob.load.limits import LOOP_FILES, available_connections, check_connections
from llmendpoint_loadjob.load.run import needed_connections
from llmendpoint_loadjob.publish import publish
from llmendpoint_loadjob.report.output import print_summary
from llmendpoint_loadjob.report.progress import show_progress
from llmendpoint_loadjob.report.streams import progress_console
from llmendpoint_loadjob.settings import Settings, parse_settings
from llmendpoint_loadjob.status import status_server

log = logging.getLogger(__name__)


def main(
    arguments: Sequence[str] | None = None,
    program: str = "llmendpoint_loadjob",
    environment: Mapping[str, str] | None = None,
) -> int:
    """Run a load test, and return the exit code of its verdict. The parameters are those of `parse_settings`."""
    open_streams()
    try:
        settings = parse_settings(arguments, program, environment)
    except InputError as error:
        return refuse(program, error)
    return run_settings(settings, program)


def run_settings(settings: Settings, program: str) -> int:
    """Run a load test with settings, and return the exit code of its verdict."""
    configure_logs(settings.log_level)
    try:
        inputs = read_inputs(settings)
    except (InputError, ValueError) as error:
        return refuse(program, error)
    return run_inputs(settings, inputs, program)


def run_inputs(settings: Settings, inputs: Inputs, program: str) -> int:
    """Run a load test whose inputs are read, and return the exit code of its verdict."""
    try:
        check_connections(needed_connections(inputs.document, settings.slice), available_connections() - LOOP_FILES)
    except FileLimitError as error:
        if inputs.folder is not None:
            inputs.folder.release()
        return refuse(program, error)
    process = Process(settings, inputs, program)
    return lifecycle.run(process.serve, process.save)


def refuse(program: str, error: Exception) -> int:
    """Print why a run cannot start, and return the exit code for it."""
    print(f"{program}: {error}", file=sys.stderr)
    return exit_codes.USAGE


class Process:
    """A process with one run. Its result is in files and in its ConfigMap before anything is printed."""

    def __init__(self, settings: Settings, inputs: Inputs, program: str) -> None:
        self._program = program
        self._settings = settings
        self._inputs = inputs
        self._execution: Execution | None = None

    async def serve(self, stopping: asyncio.Event) -> int:
        """Run the load until its end or until `stopping` is set, and return the exit code."""
        try:
            return await self._serve(stopping)
        finally:
            if self._inputs.folder is not None:
                self._inputs.folder.release()

    def save(self) -> None:
        """Write the files of a run that is not finished, because the process is about to end."""
        if self._execution is not None:
            self._execution.save()

    async def _serve(self, stopping: asyncio.Event) -> int:
        barrier = barrier_of(self._settings)
        try:
            self._execution = Execution(self._settings, self._inputs, None if barrier is None else barrier.wait())
            summary = await self._run(self._execution, barrier, stopping)
        except (InputError, FileLimitError) as error:
            return refuse(self._program, error)
        except OSError as error:
            log.error("%s", reason_of(error))
            return exit_codes.ERROR
        is_published = await self._publish(summary, stopping)
        if self._execution.failure:
            print(f"{self._program}: {summary.message}", file=sys.stderr)
        try:
            print_summary(summary, self._settings.format, self._settings.out)
        except StdoutError as error:
            print(f"{self._program}: {error}", file=sys.stderr)
            return error.exit_code
        if self._execution.failure or not is_published:
            return exit_codes.ERROR
        if is_part_of_a_run(self._settings):
            # The verdict is that of the run. A Job would report a pod with the exit code of a verdict as failed.
            return exit_codes.OK
        return exit_code_of(summary.verdict, summary.reason)

    async def _run(self, execution: Execution, barrier: Barrier | None, stopping: asyncio.Event) -> Summary:
        async with contextlib.AsyncExitStack() as stack:
            if self._inputs.status_sockets:
                server = status_server(execution.status, barrier)
                await server.start(self._inputs.status_sockets)
                stack.push_async_callback(server.stop)
            await stack.enter_async_context(_background(show_progress(progress_console(), execution.progress)))
            await stack.enter_async_context(_background(_stop_at(stopping, execution)))
            return await execution.run()

    async def _publish(self, summary: Summary, stopping: asyncio.Event) -> bool:
        if not self._settings.result_config_map:
            return True
        try:
            await publish(summary, self._settings.result_config_map, stopping)
        except (OSError, PublishError) as error:
            log.error("%s", reason_of(error))
            return False
        return True


def is_part_of_a_run(settings: Settings) -> bool:
    """Return whether other pods send the rest of the run, so that only their merged results can be judged."""
    return settings.slice.parts > 1 and settings.result_config_map is not None


def barrier_of(settings: Settings) -> Barrier | None:
    """Return the barrier at which a pod waits for the others of its run, or None if the run has one process."""
    if settings.result_config_map is None or not is_part_of_a_run(settings):
        return None
    return Barrier(settings.result_config_map)


@contextlib.asynccontextmanager
async def _background(work: Coroutine[object, object, None]) -> AsyncIterator[None]:
    """Run `work` as long as the context lasts, and wait until it has ended: the live line has to be gone by then."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _stop_at(stopping: asyncio.Event, execution: Execution) -> None:
    await stopping.wait()
    execution.stop()
