"""Reports changes of leadership in the log, and conflicts with another installation also as Events."""

from __future__ import annotations

import logging
from collections.abc import Callable

from llmendpoint_operator.leadership.election import Phase, Standing
from llmendpoint_operator.leadership.lease import Leadership
from llmendpoint_operator.leadership.sentences import left_out, sentence

log = logging.getLogger(__name__)


class Reporter:
    """Compares the standings of a process with the last ones, and reports what is new."""

    def __init__(self, leadership: Leadership, warn: Callable[[str], None]) -> None:
        self._leadership = leadership
        #: Writes an Event about the operator's pod.
        self._warn = warn
        self._sentences: dict[str, str] = {}
        #: The scopes for which it was once decided who serves them.
        self._settled: set[str] = set()
        self._left_out: dict[str, tuple[tuple[str, str], ...]] = {}
        #: Holders for which an Event was written, so that there is one Event per conflict.
        self._warned: set[str] = set()

    def report(self) -> None:
        """Report what has changed since the last call."""
        for me, standing, error in self._leadership.standings():
            text = sentence(me, standing, error)
            if self._sentences.get(me.home) != text:
                self._sentences[me.home] = text
                log.log(self._level(me.home, standing, error), "%s", text)
            if standing.conflict and standing.other is not None:
                rival = f"{me.home} {standing.other.installation}"
                if rival not in self._warned:
                    self._warned.add(rival)
                    self._warn(text)
            else:
                self._warned = {rival for rival in self._warned if rival.partition(" ")[0] != me.home}
            self._report_left_out(me.home, standing.left_out)

    def _level(self, home: str, standing: Standing, error: str) -> int:
        """Return the level of a line. The states between the start and the first decision are not worth one."""
        was_settled = home in self._settled
        is_settled = standing.leader or (standing.phase is Phase.STANDBY and standing.other is not None)
        if is_settled:
            self._settled.add(home)
        if standing.conflict or (error and not standing.leader):
            return logging.WARNING
        return logging.INFO if is_settled or was_settled else logging.DEBUG

    def _report_left_out(self, home: str, present: tuple[tuple[str, str], ...]) -> None:
        before = self._left_out.get(home, ())
        for namespace, installation in set(present) - set(before):
            log.warning("%s", left_out(namespace, installation))
        for namespace in sorted({name for name, _ in before} - {name for name, _ in present}):
            log.info("This operator serves namespace %s again.", namespace)
        self._left_out[home] = present
