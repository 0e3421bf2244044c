"""Shows checks and findings: as text for 40 columns and more, or as JSON."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence
from enum import StrEnum

import msgspec
from rich.console import Console
from rich.text import Text

from llmendpoint_common.diagnosis.checks import Check, CheckState
from llmendpoint_common.diagnosis.findings import Finding, Severity
from llmendpoint_common.process.streams import tolerated_output
from llmendpoint_common.process.version import VERSION
from llmendpoint_loadjob.report.streams import output_console

_STYLES = {
    CheckState.OK: "green",
    CheckState.WRONG: "red",
    CheckState.NOT_CHECKED: "dim",
    Severity.ERROR: "red",
    Severity.WARNING: "yellow",
    Severity.INFO: "cyan",
}
#: A check that was not made has a dash, so that the column stays narrow.
_SIGNS = {CheckState.NOT_CHECKED: "-"}
_SIGN_WIDTH = max(map(len, (CheckState.OK, CheckState.WRONG)))
_NAME_WIDTH = 12
_INDENT = 2
_NARROWEST = 10


class Format(StrEnum):
    """Formats of the report."""

    TEXT = "text"
    JSON = "json"


def print_report(checks: Sequence[Check], findings: Sequence[Finding], form: Format) -> None:
    """Print a report to stdout. Raises StdoutError if it cannot be written."""
    with tolerated_output():
        if form is Format.JSON:
            sys.stdout.write(as_json(checks, findings))
        else:
            _print(output_console(), checks, findings)


def as_json(checks: Sequence[Check], findings: Sequence[Finding]) -> str:
    """Return a report as JSON, with a line feed at its end."""
    report = {"version": VERSION, "checks": checks, "findings": findings}
    return msgspec.json.format(msgspec.json.encode(report), indent=2).decode() + "\n"


def _print(console: Console, checks: Sequence[Check], findings: Sequence[Finding]) -> None:
    names = max((len(check.name) for check in checks), default=0)
    for check in checks:
        sign = _SIGNS.get(check.state, check.state.value)
        begin = f"{sign:<{_SIGN_WIDTH}} {check.name:<{min(names, _NAME_WIDTH)}} "
        lines = _wrapped(check.words, console.width, len(begin)) or [""]
        if len(begin) > console.width // 2:
            # The name of an endpoint can be so long that it leaves no room for words beside it.
            lines = ["", *_wrapped(check.words, console.width, _SIGN_WIDTH + 1)]
        _say(console, Text(sign, _STYLES[check.state]).append(f"{begin[len(sign) :]}{lines[0]}", "default"))
        for line in lines[1:]:
            _say(console, Text(" " * (len(begin) if lines[0] else _SIGN_WIDTH + 1) + line))
    for finding in findings:
        _say(console, Text())
        _print_finding(console, finding)
    _say(console, Text())
    _say(console, Text(verdict(findings)))


def _print_finding(console: Console, finding: Finding) -> None:
    title = Text(finding.severity.value, _STYLES[finding.severity])
    _say(console, title.append(f": {finding.cause} ({finding.subject})", "default"))
    for words in (finding.sentence, finding.advice):
        for line in _wrapped(words, console.width, _INDENT):
            _say(console, Text(" " * _INDENT + line))
    if finding.command:
        # A command is copied, so it is not wrapped.
        _say(console, Text(f"{' ' * _INDENT}$ {finding.command}", "bold"))


def _wrapped(words: str, width: int, indent: int) -> list[str]:
    """Return lines that fit beside the indent. A word, such as a URL, is only broken if it is longer than a line."""
    return textwrap.wrap(words, max(_NARROWEST, width - indent), break_on_hyphens=False)


def _say(console: Console, line: Text) -> None:
    """Print a line, without spaces at its end."""
    line.rstrip()
    console.print(line, soft_wrap=True)


def verdict(findings: Sequence[Finding]) -> str:
    """Return one sentence about the number of findings that need action."""
    count = sum(finding.severity is not Severity.INFO for finding in findings)
    if not count:
        return "Nothing is wrong."
    return "1 thing is wrong." if count == 1 else f"{count} things are wrong."
