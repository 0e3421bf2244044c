"""Prints the result of a run on stdout in one of the formats."""

from __future__ import annotations

import contextlib
import json
import sys
from enum import StrEnum
from pathlib import Path

import msgspec

from llmendpoint_common.contracts.loadrun import RunDocument, Summary
from llmendpoint_common.process.streams import tolerated_output
from llmendpoint_loadjob.report.console import show_summary
from llmendpoint_loadjob.report.files import REQUESTS, encode_summary
from llmendpoint_loadjob.report.flat import rows_of, summary_csv
from llmendpoint_loadjob.report.formats import llmd_report, vllm_result
from llmendpoint_loadjob.report.streams import output_console


class OutputFormat(StrEnum):
    """Formats of the result on stdout."""

    TABLE = "table"
    JSON = "json"
    VLLM = "vllm"
    LLM_D = "llm-d"
    CSV = "csv"


def print_summary(
    summary: Summary, form: OutputFormat, folder: Path | None = None, *, written: Path | None = None
) -> None:
    """Print a result. That nobody reads it is not an error, because the result is in its files.

    `folder` is that of the run's files. The formats of other tools have values per request, which are in its lines.
    `written` is another folder to which the result has been written. Raises StdoutError, which names one of both, if
    stdout cannot be written for another reason.
    """
    with tolerated_output(written or folder):
        if form is OutputFormat.TABLE:
            show_summary(output_console(), summary)
        else:
            sys.stdout.write(formatted(summary, form, folder))


def formatted(summary: Summary, form: OutputFormat, folder: Path | None = None) -> str:
    """Return a result in a format for other programs."""
    if form is OutputFormat.JSON:
        return encode_summary(summary).decode()
    if form is OutputFormat.CSV:
        return summary_csv([summary])
    document = msgspec.convert(summary.run, RunDocument)
    convert = vllm_result if form is OutputFormat.VLLM else llmd_report
    with contextlib.ExitStack() as stack:
        path = None if folder is None else folder / REQUESTS
        lines = stack.enter_context(path.open("rb")) if path is not None and path.is_file() else ()
        return json.dumps(convert(summary, rows_of(lines), document), indent=2, ensure_ascii=False) + "\n"
