"""Reads and checks what a run needs, before its first request: questions or trace, baseline, certificates, folder."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from llmendpoint_common.contracts.loadrun import Summary
from llmendpoint_common.process.errors import OutputError
from llmendpoint_loadjob.dataset.prompts import Prompt, prompts_of_questions, prompts_of_synthetic
from llmendpoint_loadjob.dataset.questions import read_questions
from llmendpoint_loadjob.dataset.synthetic import SyntheticSpec, Text
from llmendpoint_loadjob.report.files import OutputFolder, read_summary
from llmendpoint_loadjob.settings import Settings


@dataclass(frozen=True)
class Inputs:
    """What a run needs. `folder` is None if no files are written."""

    prompts: Iterator[Prompt]
    baseline: Summary | None
    folder: OutputFolder | None


def read_inputs(settings: Settings) -> Inputs:
    """Return the inputs of a run, and prepare its folder.

    Raises InputError or ValueError if a file is invalid, cannot be read, or the folder cannot be written.
    """
    if settings.cacert is not None:
        check_certificates(settings.cacert)
    prompts = prompts_of(settings)
    baseline = None if settings.baseline is None else read_summary(settings.baseline)
    folder = None if settings.out is None else OutputFolder(settings.out)
    if folder is not None:
        folder.prepare()
    return Inputs(prompts, baseline, folder)


def check_certificates(path: Path) -> None:
    """Raise OutputError if a file has no certificates."""
    try:
        ssl.create_default_context(cafile=str(path))
    except OSError as error:
        # An SSLError is an OSError without a message of the system.
        reason = error.strerror if not isinstance(error, ssl.SSLError) else "the file has no valid PEM certificates"
        raise OutputError(f"{path}: {reason}") from None


def prompts_of(settings: Settings) -> Iterator[Prompt]:
    """Return the prompts of a run: questions, or generated texts from the words of the questions."""
    document = settings.document
    questions = read_questions(settings.questions)
    if document.synthetic is not None:
        spec = SyntheticSpec(document.synthetic.input_tokens, document.synthetic.output_tokens)
        return prompts_of_synthetic(spec, Text(question.prompt for question in questions), document.load.seed)
    chosen = document.questions
    return prompts_of_questions(questions, chosen.categories, chosen.order, document.load.seed)
