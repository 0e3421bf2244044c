"""Prints the result of a run on stdout in one of the formats."""

from __future__ import annotations

import sys
from enum import StrEnum

from llmendpoint_common.contracts.loadrun import Summary
from llmendpoint_loadjob.report.console import show_summary
from llmendpoint_loadjob.report.files import encode_summary
from llmendpoint_loadjob.report.flat import summary_csv
from llmendpoint_loadjob.report.streams import output_console, tolerated_output


class OutputFormat(StrEnum):
    """Formats of the result on stdout."""

    TABLE = "table"
    JSON = "json"
    VLLM = "vllm"
    LLM_D = "llm-d"
    CSV = "csv"


def print_summary(summary: Summary, form: OutputFormat) -> None:
    """Print a result. That nobody reads it is not an error, because the result is in its files."""
    with tolerated_output():
        if form is OutputFormat.TABLE:
            show_summary(output_console(), summary)
        else:
            sys.stdout.write(formatted(summary, form))


def formatted(summary: Summary, form: OutputFormat) -> str:
    """Return a result in a format for other programs."""
    if form is OutputFormat.JSON:
        return encode_summary(summary).decode()
    return summary_csv([summary])
