"""Rows of `doctor`."""

from __future__ import annotations

from enum import StrEnum

from llmendpoint_dashboard.contract.sections import Row


class Severity(StrEnum):
    """Severities of findings."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class DoctorRow(Row, frozen=True, kw_only=True):
    """Row of `doctor`: a cause of a problem.

    `subject` is the thing with the problem, and `cause` the identifier of the cause. `sentence` describes the problem,
    and `advice` what to do. `command` is the command that fixes it, or empty.
    """

    severity: Severity
    subject: str
    cause: str
    sentence: str
    advice: str = ""
    command: str = ""
