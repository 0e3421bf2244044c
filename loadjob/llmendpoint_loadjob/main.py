"""The process of the load generator. It reads the questions, sends the load, and reports the result."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console

from llmendpoint_common.contracts.loadrun import Order, Summary, exit_code_of
from llmendpoint_common.process import exit_codes, lifecycle
from llmendpoint_common.process.errors import APIKeyError, PublishError, QuestionError, RunDocumentError
from llmendpoint_common.process.logs import configure_logs
from llmendpoint_common.process.sockets import bind_sockets
from llmendpoint_loadjob.dataset.questions import Question, choose, read_questions
from llmendpoint_loadjob.load.run import LoadRun
from llmendpoint_loadjob.publish import publish
from llmendpoint_loadjob.report.console import show_progress, show_summary
from llmendpoint_loadjob.report.files import write_files
from llmendpoint_loadjob.result.summary import summarize
from llmendpoint_loadjob.settings import Settings, parse_settings
from llmendpoint_loadjob.status import status_server

log = logging.getLogger(__name__)


def questions_of(settings: Settings) -> Iterator[Question]:
    """Return the questions of a run.

    Raises QuestionError if a file is invalid, and ValueError if no question has one of the categories.
    """
    document = settings.document
    is_shuffled = document.questions.order is Order.SHUFFLED
    questions = read_questions(settings.questions)
    return choose(questions, document.questions.categories, shuffled=is_shuffled, seed=document.load.seed)


async def run_load(
    settings: Settings, questions: Iterator[Question], console: Console, stopping: asyncio.Event
) -> Summary:
    """Send the load, show the progress, write the files, and return the summary. `stopping` ends the load early."""
    run = LoadRun(settings.document, questions, settings.api_key)
    async with contextlib.AsyncExitStack() as stack:
        if settings.status_listen is not None:
            server = status_server(run.progress)
            await server.start(bind_sockets(settings.status_listen))
            stack.push_async_callback(server.stop)
        shown = asyncio.create_task(show_progress(console, run.progress))
        stopper = asyncio.create_task(_stop_at(stopping, run))
        try:
            outcome = await run.run()
        finally:
            for task in (shown, stopper):
                task.cancel()
            await asyncio.gather(shown, stopper, return_exceptions=True)
    summary = summarize(outcome, settings.document)
    if settings.out is not None:
        await asyncio.to_thread(write_files, settings.out, summary, outcome.samples)
    return summary


async def _stop_at(stopping: asyncio.Event, run: LoadRun) -> None:
    await stopping.wait()
    run.stop()


async def serve(settings: Settings, stopping: asyncio.Event, program: str) -> int:
    """Run the load test, show and publish its result, and return the exit code."""
    console = Console()
    try:
        questions = await asyncio.to_thread(questions_of, settings)
    except (QuestionError, ValueError) as error:
        return _refuse(program, error)
    try:
        summary = await run_load(settings, questions, console, stopping)
        show_summary(console, summary)
        if settings.result_config_map:
            await publish(summary, settings.result_config_map, stopping)
    except (OSError, PublishError) as error:
        log.error("%s", error)
        return exit_codes.ERROR
    return exit_code_of(summary.verdict, summary.reason)


def _refuse(program: str, error: Exception) -> int:
    print(f"{program}: {error}", file=sys.stderr)
    return exit_codes.USAGE


def main(
    arguments: Sequence[str] | None = None,
    program: str = "llmendpoint_loadjob",
    environment: Mapping[str, str] | None = None,
) -> int:
    """Run a load test, and return the exit code of its verdict. The parameters are those of `parse_settings`."""
    try:
        settings = parse_settings(arguments, program, environment)
    except (APIKeyError, RunDocumentError) as error:
        return _refuse(program, error)
    configure_logs(settings.log_level)
    return lifecycle.run(lambda stopping: serve(settings, stopping, program))
