"""Prints a comparison of two runs on stdout."""

from __future__ import annotations

import sys
from enum import StrEnum

from rich.text import Text

from llmendpoint_common.process.streams import tolerated_output
from llmendpoint_common.results.comparison import Comparison, as_json
from llmendpoint_loadjob.report.console import print_grid
from llmendpoint_loadjob.report.page.compare_page import comparison_page
from llmendpoint_loadjob.report.streams import output_console, print_sentence


class ComparisonFormat(StrEnum):
    """Formats of a comparison on stdout."""

    TABLE = "table"
    JSON = "json"
    HTML = "html"


def print_comparison(comparison: Comparison, form: ComparisonFormat) -> None:
    """Print a comparison on stdout."""
    with tolerated_output():
        if form is ComparisonFormat.JSON:
            sys.stdout.write(as_json(comparison))
        elif form is ComparisonFormat.HTML:
            sys.stdout.write(comparison_page(comparison))
        else:
            _print_table(comparison)


def _print_table(comparison: Comparison) -> None:
    console = output_console()
    rows = [("", *comparison.names, "change")]
    for item in comparison.figures:
        marks = ["★ " if item.better == side else "" for side in (0, 1)]
        rows.append((item.name, f"{marks[0]}{item.first_text}", f"{marks[1]}{item.second_text}", item.change_text))
    print_grid(console, rows)
    for name, summary in zip(comparison.names, (comparison.first, comparison.second), strict=True):
        print_sentence(console, Text(f"{name}: {summary.verdict.value} ({summary.reason.value}): {summary.message}"))
    for setting in comparison.settings:
        print_sentence(console, Text(f"differs: {setting.text}", "yellow"))
    console.print(Text("★ marks the better value", "dim"))
