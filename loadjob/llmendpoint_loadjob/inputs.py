"""Reads and checks what a run needs, before its first request: questions or trace, baseline, certificates, folder."""

from __future__ import annotations

import logging
import socket
import ssl
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from llmendpoint_common.contracts.loadrun import MAX_SECONDS, PrefixCache, RunDocument, Summary
from llmendpoint_common.process.errors import InputError, OutputError, TraceError
from llmendpoint_common.process.sockets import ListenError, bind_sockets
from llmendpoint_common.process.units import Address
from llmendpoint_loadjob.client.requests import RequestWriter
from llmendpoint_loadjob.client.target import parse_target
from llmendpoint_loadjob.dataset.prompts import (
    Prompt,
    prompts_of_questions,
    prompts_of_synthetic,
    prompts_of_trace,
    text_of_questions,
    with_unique_prefix,
)
from llmendpoint_loadjob.dataset.questions import Question, read_questions, skipped
from llmendpoint_loadjob.dataset.synthetic import SyntheticSpec
from llmendpoint_loadjob.dataset.traces import read_trace
from llmendpoint_loadjob.report.files import OutputFolder, read_summary
from llmendpoint_loadjob.settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Inputs:
    """What a run needs. `document` is that of the settings, with the duration of the trace if one is replayed.

    `replay` has the requests of a trace with their offsets in seconds, and then replaces `prompts`. `folder` is None if
    no files are written. `status_sockets` listen on the address of `/status`, if there is one.
    """

    document: RunDocument
    prompts: Iterator[Prompt]
    replay: Iterable[tuple[float, Prompt]] | None
    baseline: Summary | None
    folder: OutputFolder | None
    status_sockets: list[socket.socket]


def read_inputs(settings: Settings) -> Inputs:
    """Return the inputs of a run, and prepare its folder.

    Raises InputError or ValueError if a file is invalid or cannot be read, the folder cannot be written, or the address
    of the status cannot be listened on.
    """
    if settings.cacert is not None:
        check_certificates(settings.cacert)
    questions = read_questions(*settings.questions)
    for sentence in skipped(settings.questions):
        log.warning("%s", sentence)
    document = settings.document if settings.trace is None else with_duration(settings.document, settings.trace)
    prompts, replay = prompts_of(settings, questions), replay_of(settings, questions)
    baseline = None if settings.baseline is None else read_summary(settings.baseline)
    check_requests(settings)
    # The folder comes last: a run that is refused does not remove an earlier result.
    sockets = [] if settings.status_listen is None else listen(settings.status_listen)
    folder = None if settings.out is None else OutputFolder(settings.out)
    if folder is not None:
        folder.prepare()
    return Inputs(document, prompts, replay, baseline, folder, sockets)


def listen(address: Address) -> list[socket.socket]:
    """Return the sockets of `--status-listen`. Raises InputError, for example if the address is in use."""
    try:
        return bind_sockets(address)
    except ListenError as error:
        raise InputError(f"--status-listen: {error}") from None


def check_requests(settings: Settings) -> None:
    """Raise TargetError if requests with these settings cannot be sent, for example because they name two API keys."""
    RequestWriter(parse_target(settings.document.target.url), settings.document, settings.api_key)


def check_certificates(path: Path) -> None:
    """Raise OutputError if a file has no certificates."""
    try:
        ssl.create_default_context(cafile=str(path))
    except OSError as error:
        # An SSLError is an OSError without a message of the system.
        reason = error.strerror if not isinstance(error, ssl.SSLError) else "the file has no valid PEM certificates"
        raise OutputError(f"{path}: {reason}") from None


def prompts_of(settings: Settings, questions: Sequence[Question]) -> Iterator[Prompt]:
    """Return the prompts of a run: questions, or generated texts from the words of the questions."""
    document = settings.document
    if document.synthetic is not None:
        spec = SyntheticSpec(document.synthetic.input_tokens, document.synthetic.output_tokens)
        prompts = prompts_of_synthetic(spec, text_of_questions(questions), document.load.seed, context_of(document))
    else:
        chosen = document.questions
        prompts = prompts_of_questions(
            questions, chosen.categories, chosen.order, document.load.seed, prefer_turns=document.has_conversations
        )
    return _uncached(prompts, document.load.seed) if _is_unique(document) else prompts


def replay_of(settings: Settings, questions: Sequence[Question]) -> Iterable[tuple[float, Prompt]] | None:
    """Return the requests of a trace, or None if the run replays none."""
    document = settings.document
    if settings.trace is None or document.trace is None:
        return None
    scale = document.trace.time_scale
    text, seed = text_of_questions(questions), document.load.seed
    requests = prompts_of_trace(read_trace(settings.trace, scale), text, seed, context_of(document))
    if not _is_unique(document):
        return requests
    run = uuid.uuid4().hex
    return (
        (at, with_unique_prefix(prompt, document.load.seed, index, run)) for index, (at, prompt) in enumerate(requests)
    )


def context_of(document: RunDocument) -> int | None:
    """Return the context of the model in tokens, if the run sets it for Ollama, or None if it is not known."""
    context = (document.request.options or {}).get("num_ctx")
    return context if isinstance(context, int) and context > 0 else None


def with_duration(document: RunDocument, path: Path) -> RunDocument:
    """Return a document with the duration of the load that its trace makes. Raises TraceError if the trace is invalid.

    The whole file is read before the first request, so that an error in its last line does not end a run.
    """
    trace = document.trace
    if trace is None:
        return document
    last = max((request.offset_seconds for request in read_trace(path, trace.time_scale)), default=None)
    if last is None:
        raise TraceError(str(path), 0, "the trace has no requests")
    limit = MAX_SECONDS if trace.duration_seconds is None else trace.duration_seconds
    seconds = min(max(0.0, last - document.load.warmup_seconds), limit)
    return msgspec.structs.replace(document, load=msgspec.structs.replace(document.load, duration_seconds=seconds))


def _is_unique(document: RunDocument) -> bool:
    return document.request.prefix_cache is PrefixCache.UNIQUE


def _uncached(prompts: Iterator[Prompt], seed: int) -> Iterator[Prompt]:
    """Return the prompts behind words that no other prompt begins with, of this run or of another one."""
    run = uuid.uuid4().hex
    return (with_unique_prefix(prompt, seed, index, run) for index, prompt in enumerate(prompts))
