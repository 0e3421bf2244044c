"""The closed loop: users that each wait for a response before they send their next request."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from llmendpoint_common.contracts.loadrun import RunLoad
from llmendpoint_loadjob.dataset.prompts import SYNTHETIC, Prompt
from llmendpoint_loadjob.load.backoff import pause_after
from llmendpoint_loadjob.load.curve import LoadCurve
from llmendpoint_loadjob.load.schedule import Slice, join_delay
from llmendpoint_loadjob.load.sender import Sender, Turn
from llmendpoint_loadjob.load.window import Crew, Window
from llmendpoint_loadjob.result.timings import Sample


@dataclass
class ClosedLoop:
    """The users of a pod. They join and leave as the curve says, and a user that leaves ends its request first.

    `on_idle` is called with the time from which a user could send, and the time at which it sends, or cannot any more.
    `waiting` is the number of users that wait because the server has no capacity or cannot be reached.
    """

    load: RunLoad
    curve: LoadCurve
    part: Slice
    prompts: Iterator[Prompt]
    sender: Sender
    window: Window
    on_idle: Callable[[float, float], None]
    waiting: int = 0
    _started: int = 0
    _in_flight: int = 0
    _together: dict[float, tuple[int, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        limit = self.load.max_requests
        self._limit = None if limit is None else self.part.share_of(limit)
        self._together = {begin: (number, seconds) for begin, number, seconds in self.curve.joining()}

    @property
    def is_exhausted(self) -> bool:
        """Whether the maximum of requests has been started."""
        return self._limit is not None and self._started >= self._limit

    def start(self, crew: Crew) -> None:
        """Start the users of the pod. End the load immediately if the pod's share of `maxRequests` is 0."""
        if self.is_exhausted:
            self.window.close()
        for number in range(round(self.curve.peak)):
            if self.part.has(number):
                crew.start(_User(self, number).live(self.curve.active_times(number)))

    def delay(self, user: int, joining: float) -> float:
        """Return by how many seconds a user starts later than those with which it joins."""
        together, seconds = self._together.get(joining, (1, 0.0))
        return join_delay(self.load.seed, user, together, seconds)

    def claim(self, now: float) -> bool:
        """Return whether one more request may be sent. The maximum counts requests after the warm-up."""
        if self.window.is_over or self.is_exhausted:
            return False
        if now >= self.window.measured_from:
            self._started += 1
        return True

    async def ask(self, turn: Turn) -> tuple[Sample, str | None]:
        """Send a request, as `Sender.ask`. The load ends with the response to the last one of the maximum."""
        self._in_flight += 1
        sample, text = await self.sender.ask(turn)
        self._in_flight -= 1
        if self.is_exhausted and not self._in_flight:
            self.window.close(at=sample.ended)
        return sample, text

    def step_at(self, now: float) -> int:
        """Return the index of the stage."""
        segment = self.curve.segment_at(now - self.window.begin)
        return segment.step if segment is not None else 0


class _User:
    """One user: a conversation, or a question, after the other."""

    def __init__(self, loop: ClosedLoop, number: int) -> None:
        self._loop = loop
        self._window = loop.window
        self._number = number
        # One source each: otherwise a failure would change the think times that follow.
        self._spread = random.Random(f"{loop.load.seed}/spread/{number}")  # noqa: S311 - has to be repeatable
        self._think = random.Random(f"{loop.load.seed}/think/{number}")  # noqa: S311 - has to be repeatable
        self._leave = 0.0
        self._ready = 0.0

    async def live(self, times: list[tuple[float, float]]) -> None:
        """Take part at the given times, in seconds from the start."""
        begin = self._window.begin
        for join, leave in times:
            self._leave = begin + leave
            self._ready = begin + join + self._loop.delay(self._number, join)
            if await self._window.over(self._ready):
                return
            while self._stays():
                await self._converse(next(self._loop.prompts))

    def _stays(self) -> bool:
        return self._window.clock() < self._leave and not self._window.is_over and not self._loop.is_exhausted

    async def _converse(self, prompt: Prompt) -> None:
        """Send a prompt, and its follow-ups if the load is one of sessions, until one fails."""
        history: list[tuple[str, str]] = []
        messages: list[str | None] = [None, *self._follow_ups(prompt)]
        for number, message in enumerate(messages):
            now = self._window.clock()
            if not self._loop.is_exhausted:
                self._loop.on_idle(self._ready, min(now, self._leave))
            if not self._stays() or not self._loop.claim(now):
                return
            is_last = number == len(messages) - 1
            asked = prompt if message is None else _follow_up(prompt, number, message)
            turn = Turn(asked, now, self._loop.step_at(now), number, tuple(history), is_continued=not is_last)
            sample, text = await self._loop.ask(turn)
            await self._rest(sample.ended, pause_after(sample, self._spread))
            if sample.error is not None or text is None:
                return
            history += [*asked.messages, ("assistant", text)]

    def _follow_ups(self, prompt: Prompt) -> list[str]:
        sessions = self._loop.load.sessions
        if sessions is None:
            return []
        texts = list(prompt.follow_ups)
        if prompt.category == SYNTHETIC and sessions.turns is not None:
            # Synthetic prompts have no follow-ups of their own: the next prompts continue the conversation.
            texts = [next(self._loop.prompts).messages[-1][1] for _ in range(sessions.turns - 1)]
        return texts if sessions.turns is None else texts[: sessions.turns - 1]

    async def _rest(self, ended: float, backoff: float) -> None:
        """Wait after a request that has ended: as the server says, or to think."""
        mean = self._loop.load.think_time_seconds
        thinking = self._think.expovariate(1 / mean) if mean else 0.0
        pause = max(backoff, thinking)
        self._ready = min(ended + pause, self._leave)
        if pause <= 0:
            return
        self._loop.waiting += backoff > 0
        try:
            await self._window.over(min(self._window.clock() + pause, self._leave))
        finally:
            self._loop.waiting -= backoff > 0


def _follow_up(prompt: Prompt, number: int, message: str) -> Prompt:
    """Return the prompt of a later turn. Only the last turn of its question has no follow-ups."""
    rest = () if number == len(prompt.follow_ups) else prompt.follow_ups
    return replace(prompt, messages=(("user", message),), follow_ups=rest)
