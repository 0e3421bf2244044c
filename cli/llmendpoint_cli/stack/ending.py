"""Waits until the programs of a stack have ended, prints which ones are still running, and kills one that hangs.

A metering proxy may take 25 s to end, because requests finish first. While it waits for them, it answers on its admin
address. A program that accepts connections there and does not answer for 5 s hangs. It cannot finish requests, and is
killed before its time is over.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

from llmendpoint_cli.stack.folders import Folders
from llmendpoint_cli.stack.health import as_json, is_silent, probe
from llmendpoint_cli.stack.identity import send
from llmendpoint_cli.stack.state import Phase, ProcessRecord, Program, Stack, read_process

#: A program that accepts connections and does not answer for this long hangs. A busy machine delays answers too.
_HUNG_SECONDS = 5.0
_PROBE_SECONDS = 1.0
#: Most programs end faster than this, and then nothing is said.
_SAID_AFTER_SECONDS = 1.0


class EndWatch:
    """Watches the end of a stack. `seconds` is the time after which everything is killed, or None."""

    def __init__(
        self, folders: Folders, stack: Stack | None, say: Callable[[str], None], seconds: float | None
    ) -> None:
        #: Names of the programs that were killed.
        self.killed: set[str] = set()
        self._folders = folders
        self._programs = () if stack is None else stack.programs
        self._sidecars = () if stack is None else stack.sidecars
        self._say = say
        self._seconds = seconds
        self._since: dict[str, float] = {}
        self._silent_since: dict[str, float] = {}
        self._said: set[str] = set()

    def look(self) -> None:
        """Look at each program that is ending. Takes up to a second for each one that does not answer."""
        for program in self._programs:
            record = read_process(self._folders, program.name)
            if record is None or record.phase is not Phase.STOPPING or program.name in self.killed:
                continue
            now = time.monotonic()
            if now - self._since.setdefault(program.name, now) >= _SAID_AFTER_SECONDS:
                self._look_at(program, record)

    def _look_at(self, program: Program, record: ProcessRecord) -> None:
        if not program.live_url or not is_silent(program.live_url, _PROBE_SECONDS):
            self._silent_since.pop(program.name, None)
            self._say_what_is_awaited(program)
            return
        # The probe itself took a second.
        silent = time.monotonic() - self._silent_since.setdefault(program.name, time.monotonic() - _PROBE_SECONDS)
        if silent >= _HUNG_SECONDS and send(record.pid, record.start_ticks, signal.SIGKILL, record.command):
            self.killed.add(program.name)
            self._say(f"{program.name}: it has not answered for {silent:.0f} s, so it hangs, and was killed")

    def _say_what_is_awaited(self, program: Program) -> None:
        if program.name in self._said:
            return
        self._said.add(program.name)
        limit = program.stop_seconds if self._seconds is None else min(self._seconds, program.stop_seconds)
        requests = self._requests(program)
        what = "until it ends"
        if requests:
            what = f"until {requests} request{'s have' if requests > 1 else ' has'} finished"
        self._say(f"{program.name}: waiting {what}, {limit:g} s at most")

    def _requests(self, program: Program) -> int:
        """Return the number of requests that a sidecar carries, or 0 for other programs."""
        for sidecar in self._sidecars:
            if program.live_url == f"{sidecar.admin_url}/livez":
                answer = probe(f"{sidecar.admin_url}/status", _PROBE_SECONDS)
                totals = as_json(answer[1]).get("totals") if answer is not None else None
                if isinstance(totals, dict):
                    return int(totals.get("running") or 0) + int(totals.get("waiting") or 0)
        return 0
