"""The load process: read, run, judge, report."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import Sequence

from rich.console import Console

from llmendpoint_common.contracts.loadrun import EXIT_CODES, Summary
from llmendpoint_common.process import exit_codes, lifecycle
from llmendpoint_common.process.errors import PublishError, QuestionError
from llmendpoint_common.process.logs import configure_logs
from llmendpoint_common.process.sockets import bind_sockets
from llmendpoint_loadjob.dataset.questions import choose, read_questions
from llmendpoint_loadjob.load.run import LoadRun
from llmendpoint_loadjob.publish import publish
from llmendpoint_loadjob.report.console import show_progress, show_summary
from llmendpoint_loadjob.report.files import write_files
from llmendpoint_loadjob.result.verdict import summarize
from llmendpoint_loadjob.settings import Settings, parse_settings
from llmendpoint_loadjob.status import status_server

log = logging.getLogger(__name__)


async def run_load(settings: Settings, console: Console, stopping: asyncio.Event) -> Summary:
    """Run once, show progress, and return the summary; QuestionError or ValueError where questions are no use."""
    questions = await asyncio.to_thread(read_questions, settings.questions)
    asked = choose(questions, settings.categories, shuffled=settings.shuffled, seed=settings.load.seed)
    run = LoadRun(settings.target, settings.options, settings.load, asked)
    async with contextlib.AsyncExitStack() as stack:
        if settings.status_listen is not None:
            server = status_server(run.progress)
            await server.start(bind_sockets(settings.status_listen))
            stack.push_async_callback(server.stop)
        shown = asyncio.create_task(show_progress(console, run.progress))
        stopper = asyncio.create_task(_stop_when_asked(run, stopping))
        try:
            outcome = await run.run()
        finally:
            for task in (shown, stopper):
                task.cancel()
            await asyncio.gather(shown, stopper, return_exceptions=True)
    summary = summarize(outcome, settings.objectives, settings.target.url, settings.options, settings.load.seed)
    if settings.out is not None:
        await asyncio.to_thread(write_files, settings.out, summary, outcome.samples)
    return summary


async def _stop_when_asked(run: LoadRun, stopping: asyncio.Event) -> None:
    await stopping.wait()
    run.stop()


async def serve(settings: Settings, stopping: asyncio.Event) -> int:
    """Run, show and publish; return the exit code."""
    console = Console()
    try:
        summary = await run_load(settings, console, stopping)
        show_summary(console, summary)
        if settings.result_config_map:
            await publish(summary, settings.result_config_map)
    except (QuestionError, ValueError) as error:
        print(f"llmendpoint_loadjob: {error}", file=sys.stderr)
        return exit_codes.USAGE
    except (OSError, PublishError) as error:
        log.error("%s", error)
        return exit_codes.ERROR
    return EXIT_CODES[summary.verdict]


def main(arguments: Sequence[str] | None = None, program: str = "llmendpoint_loadjob") -> int:
    """Run one load test; the exit code is the verdict's."""
    settings = parse_settings(arguments, program)
    configure_logs(settings.log_level)
    return lifecycle.run(lambda stopping: serve(settings, stopping))
