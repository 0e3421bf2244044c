"""`progress.json` in the folder of a run: its progress, for programs that watch the folder.

The load generator replaces it every second, and for the last time when all other files of the run are written. A run
whose file does not have the state `ended` continues, or was killed.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from llmendpoint_common.contracts.loadrun.result import Progress

#: The name of the file.
PROGRESS_FILE = "progress.json"


class RunState(StrEnum):
    """States of a run. It is waiting while it opens connections, or waits for the order to start."""

    WAITING = "waiting"
    RUNNING = "running"
    ENDED = "ended"


class ObjectiveProgress(msgspec.Struct, frozen=True):
    """An objective with what was measured until now, as text with a unit.

    `met` is None if the requests until now are too few to tell, or the metric could not be measured.
    """

    text: str
    measured: str
    met: bool | None = None


class RunProgress(Progress, frozen=True, rename="camel", kw_only=True):
    """The content of `progress.json`: the progress that a load pod shows, and more about the run.

    Times are in RFC 3339. `requests_per_second` is the rate of requests that were answered in the last seconds, and
    None before the load. `failure` is the reason for which result files could not be written, or the run failed. It is
    empty otherwise.
    """

    state: RunState
    started_at: str
    updated_at: str
    #: ID of the process, as its own process ID namespace numbers it.
    pid: int
    requests_per_second: float | None = None
    objectives: tuple[ObjectiveProgress, ...] = ()
    ended_at: str = ""
    failure: str = ""
