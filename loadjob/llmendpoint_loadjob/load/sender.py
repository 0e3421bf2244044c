"""Sends one request after the other to the client, and passes each one on when it has ended."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from llmendpoint_common.results.histogram import Histogram
from llmendpoint_loadjob.dataset.prompts import Prompt, matches
from llmendpoint_loadjob.load.window import Window
from llmendpoint_loadjob.result.timings import ErrorClass, Sample

History = Sequence[tuple[str, str]]
#: Requests that are looked back on for the completed rate of the progress, in seconds.
RECENT_SECONDS = 10.0


class SendingClient(Protocol):
    """The client, as far as the load uses it. `Client` describes the methods."""

    in_flight: int

    async def send(
        self, prompt: Prompt, sample: Sample, history: History = (), *, keep_text: bool = False
    ) -> str | None:
        """Send one request, and fill in its sample."""

    async def open(self, count: int) -> list[float]:
        """Open so many connections in advance, and return the seconds that each one took."""

    def abort(self) -> None:
        """End all streams immediately."""

    def close(self) -> None:
        """Close the idle connections."""


@dataclass(frozen=True)
class Turn:
    """What is asked, when it was due, in which stage, and after which messages of the same conversation."""

    prompt: Prompt
    due: float
    step: int = 0
    number: int = 0
    history: History = ()
    #: Whether the response is needed for the next turn.
    is_continued: bool = False
    #: Seconds for which the maximum of requests in flight has kept the request back.
    held: float = 0.0


@dataclass
class Counters:
    """What the progress shows. Warm-up requests are in it."""

    finished: int = 0
    errors: int = 0
    tokens: int = 0
    ttft: Histogram = field(default_factory=Histogram)
    by_class: Counter[str] = field(default_factory=Counter)
    details: dict[str, str] = field(default_factory=dict)
    #: Requests that ended well, by second of the run.
    recent: Counter[int] = field(default_factory=Counter)

    def note(self, sample: Sample, begin: float) -> None:
        """Count a request that has ended."""
        self.finished += 1
        self.tokens += sample.output_tokens
        if sample.ttft is not None:
            self.ttft.record(sample.ttft)
        if sample.error is not None:
            self.errors += 1
            self.by_class[sample.error.value] += 1
            self.details.setdefault(sample.error.value, sample.detail)
            return
        second = int(sample.ended - begin)
        self.recent[second] += 1
        self.recent.pop(second - int(RECENT_SECONDS) - 1, None)

    def completed_rate(self, elapsed: float) -> float:
        """Return the requests per second that ended well in the last seconds."""
        seconds = min(RECENT_SECONDS, elapsed)
        count = sum(number for second, number in self.recent.items() if second >= elapsed - seconds)
        return count / seconds if seconds > 0 else 0.0

    @property
    def most_frequent_error(self) -> str:
        """The most frequent class of errors with its number and an example, or an empty text."""
        if not self.by_class:
            return ""
        name, count = self.by_class.most_common(1)[0]
        detail = self.details[name]
        return f"{count} {name}: {detail}" if detail else f"{count} {name}"


class Sender:
    """Sends requests. Each one ends in `on_end`, also those that are cut off at the end of the drain.

    `is_dropping` is set when the run is stopped: the requests that are in flight then do not count.
    """

    def __init__(self, client: SendingClient, window: Window, on_end: Callable[[Sample], None]) -> None:
        self.is_dropping = False
        self.counters = Counters()
        self._client = client
        self._window = window
        self._on_end = on_end

    async def ask(self, turn: Turn) -> tuple[Sample, str | None]:
        """Send a request, and return its sample, and its response if it is needed for the next turn."""
        prompt = turn.prompt
        sample = self._sample(turn)
        # `expect` is about the last message, so there is nothing to match while messages follow.
        is_matched = prompt.expect is not None and not prompt.follow_ups
        keep_text = turn.is_continued or is_matched
        text = await self._client.send(prompt, sample, turn.history, keep_text=keep_text)
        if is_matched and sample.error is None and text is not None:
            sample.matched = matches(prompt, text)
        self.end(sample)
        return sample, text

    def end(self, sample: Sample) -> None:
        """Pass on a request that has ended."""
        if self.is_dropping:
            return
        self.counters.note(sample, self._window.begin)
        self._on_end(sample)

    def never_sent(self, turn: Turn, detail: str) -> Sample:
        """Pass on a request that was due and could not be sent before the end of the drain."""
        sample = self._sample(turn)
        sample.sent = sample.ended = self._window.clock()
        sample.error = ErrorClass.UNFINISHED
        sample.detail = detail
        self.end(sample)
        return sample

    @staticmethod
    def _sample(turn: Turn) -> Sample:
        prompt = turn.prompt
        return Sample(
            os.urandom(16).hex(), prompt.id, prompt.category, turn.due,
            turn=turn.number, step=turn.step, held=turn.held, is_cut=prompt.is_cut, wanted_input=prompt.input_tokens,
            wanted_output=None if prompt.input_tokens is None else prompt.max_tokens,
        )  # fmt: skip
