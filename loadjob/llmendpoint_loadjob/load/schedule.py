"""The one seeded schedule of a run: what is due when.

Several pods share it: each request and each user has an index, and a pod takes those with `index mod pods == pod`.
Therefore the union of what the pods send is what one pod would send.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from llmendpoint_common.contracts.loadrun import Arrivals, RunLoad, RunTrace
from llmendpoint_loadjob.dataset.prompts import Prompt
from llmendpoint_loadjob.load.arrivals import unit_arrivals
from llmendpoint_loadjob.load.curve import LoadCurve

#: Users that join together start within a time of 10 ms per user, at most 1 s and at most 5 % of the stage.
JOIN_SECONDS_PER_USER = 0.01
MAX_JOIN_SECONDS = 1.0
MAX_JOIN_SHARE = 0.05
#: The load ends this much later than the last request of a trace.
LAST_SECONDS = 0.001


class Due(NamedTuple):
    """A request of an open loop: its number in the schedule, when it is due (seconds from the start), and its stage."""

    number: int
    offset: float
    step: int


@dataclass(frozen=True)
class Slice:
    """The part of the schedule that belongs to one of several pods."""

    pod: int = 0
    pods: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.pod < self.pods:
            raise ValueError(f"the slice {self.pod}/{self.pods} does not exist; write it like 0/4, 1/4, 2/4 or 3/4")

    def has(self, index: int) -> bool:
        """Return whether a request or a user belongs to the pod."""
        return index % self.pods == self.pod

    def share_of(self, total: int) -> int:
        """Return how many of the indexes below `total` belong to the pod."""
        return len(range(self.pod, total, self.pods))


class Schedule:
    """Iterator of what is due in an open loop, with the end of the load.

    It ends with the load, or after `limit` requests that are due after the warm-up. `end` is the end of the load in
    seconds from the start: if the limit ends it, the time at which the next request would have been due. A trace
    `ends_with_last`: with its last request, which is part of the load. Other loads last until their end.
    """

    def __init__(
        self,
        times: Iterable[tuple[float, int]],
        end: float,
        *,
        warmup: float = 0.0,
        limit: int | None = None,
        ends_with_last: bool = False,
    ) -> None:
        self.end = end
        self._ends_with_last = ends_with_last
        self._due = self._iterate(iter(times), warmup, limit)

    def __iter__(self) -> Iterator[Due]:
        return self._due

    def __next__(self) -> Due:
        return next(self._due)

    def _iterate(self, times: Iterator[tuple[float, int]], warmup: float, limit: int | None) -> Iterator[Due]:
        measured, last = 0, 0.0
        for index, (offset, step) in enumerate(times):
            if offset >= self.end:
                return
            if offset >= warmup:
                if limit is not None and measured == limit:
                    self.end = offset
                    return
                measured += 1
            last = offset
            yield Due(index, offset, step)
        if self._ends_with_last:
            self.end = min(self.end, last + LAST_SECONDS)


def schedule_of(load: RunLoad, curve: LoadCurve) -> Schedule:
    """Return the schedule of a rate or of stages with rates."""
    units = unit_arrivals(load.arrivals or Arrivals.POISSON, f"{load.seed}", load.burstiness)
    return Schedule(curve.times_of(units), curve.end, warmup=load.warmup_seconds, limit=load.max_requests)


def schedule_of_trace(
    load: RunLoad, trace: RunTrace, requests: Iterable[tuple[float, Prompt]]
) -> tuple[Schedule, Iterator[Prompt]]:
    """Return the schedule of a trace, and its prompts, of which one is taken for each request of the schedule."""
    queue = deque[Prompt]()

    def times() -> Iterator[tuple[float, int]]:
        for offset, prompt in requests:
            queue.append(prompt)
            yield offset, 0

    def prompts() -> Iterator[Prompt]:
        while True:
            yield queue.popleft()

    end = math.inf if trace.duration_seconds is None else load.warmup_seconds + trace.duration_seconds
    schedule = Schedule(times(), end, warmup=load.warmup_seconds, limit=load.max_requests, ends_with_last=True)
    return schedule, prompts()


def sliced(prompts: Iterator[Prompt], part: Slice) -> Iterator[Prompt]:
    """Return the prompts of a closed loop that belong to a pod."""
    return islice(prompts, part.pod, None, part.pods)


def join_delay(seed: int, user: int, together: int, seconds: float) -> float:
    """Return the time in seconds after which a user starts that joins with others, so that not all start together."""
    if together < 2:
        return 0.0
    spread = min(JOIN_SECONDS_PER_USER * together, MAX_JOIN_SECONDS, MAX_JOIN_SHARE * seconds)
    return spread * random.Random(f"{seed}/join/{user}").random()  # noqa: S311 - has to be repeatable, not secret
