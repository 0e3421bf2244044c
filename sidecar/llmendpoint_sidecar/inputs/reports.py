"""Reports about files that cannot be used or look wrong. Each is logged once, and not at every poll."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import NamedTuple

log = logging.getLogger(__name__)


class Report(NamedTuple):
    """A sentence about a file. `level` is a level of `logging`."""

    level: int
    sentence: str


def error(sentence: str) -> Report:
    """Return a report about something that is not used."""
    return Report(logging.ERROR, sentence)


def warning(sentence: str) -> Report:
    """Return a report about something that is used all the same."""
    return Report(logging.WARNING, sentence)


class ReportLog:
    """Logs each report when it appears. A report that disappears and comes back is logged again."""

    def __init__(self) -> None:
        self._known: frozenset[Report] = frozenset()

    def update(self, reports: Iterable[Report]) -> None:
        """Log the reports that were not among those of the last call."""
        now = dict.fromkeys(reports)
        for report in now:
            if report not in self._known:
                log.log(report.level, "%s", report.sentence)
        self._known = frozenset(now)
