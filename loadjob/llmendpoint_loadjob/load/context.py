"""What the parts of one run share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from llmendpoint_common.contracts.loadrun import RunDocument, Saturation, SweepResult
from llmendpoint_loadjob.dataset.prompts import Prompt
from llmendpoint_loadjob.load.health import LagRecording
from llmendpoint_loadjob.load.open_loop import Slots
from llmendpoint_loadjob.load.schedule import Slice
from llmendpoint_loadjob.load.sender import Sender, SendingClient
from llmendpoint_loadjob.load.timer import Timer
from llmendpoint_loadjob.load.window import Crew, Window
from llmendpoint_loadjob.result.timings import Sample


class Recording(LagRecording, Protocol):
    """The recorder, as far as the load fills it. `Recorder` describes the methods."""

    notice_stop: Callable[[], None]

    def begin(self, at: float, measured_from: float, load_end: float = ...) -> None:
        """Set the start of the run, and the end of the warm-up."""

    def end_load(self, at: float) -> None:
        """Note that the load has ended."""

    def begin_step(self, name: str, offered_rate: float, at: float) -> int:
        """Note the start of a step, and return its index."""

    def end_step(self, index: int, at: float) -> None:
        """Note the end of the load of a step."""

    def judge_step(self, index: int, *, is_met: bool, growth: float, is_late: bool) -> None:
        """Note how the search has judged a rate."""

    def finish(self, at: float, *, interrupted: bool = False) -> object:
        """Note the end of the run."""

    def add_idle(self, begin: float, end: float) -> None:
        """Add a time in which a user of a closed loop was ready to send, and its request was not sent."""

    def set_users(self, count: int) -> None:
        """Set the number of users of a closed loop."""

    def set_throttled(self, seconds: float) -> None:
        """Set the time for which the CPU limit has throttled the process."""

    def set_cpu(self, seconds: float) -> None:
        """Set the CPU time that the process has used until the end of the load."""

    def add_blocked(self) -> None:
        """Count a request that waits because the limit of open files allows no further connection."""

    def set_saturation(self, saturation: Saturation) -> None:
        """Set when the server stopped following the offered rate."""

    def set_sweep(self, result: SweepResult) -> None:
        """Set the result of a sweep."""

    def skip(self, scheduled: float, step: int | None = None, *, held: bool) -> None:
        """Count a request that was due and never sent."""

    def record(self, sample: Sample) -> None:
        """Add a request that has ended."""


@dataclass
class Context:
    """The parts of a run that its load uses. `stage` is what the progress shows."""

    document: RunDocument
    prompts: Iterator[Prompt]
    client: SendingClient
    recorder: Recording
    sender: Sender
    window: Window
    crew: Crew
    timer: Timer
    part: Slice
    slots: Slots
    stage: str = ""
    share_done: float = 0.0
