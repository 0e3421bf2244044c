"""The progress of a run: one live line on a terminal, otherwise a plain line every 10 seconds if it has changed.

A line is given in parts, the most important one first.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.text import Text

from llmendpoint_common.contracts.loadrun import Progress
from llmendpoint_common.process.units import format_duration
from llmendpoint_common.results.figures import number
from llmendpoint_loadjob.report.words import count_of

_LIVE_SECONDS = 0.2
PLAIN_SECONDS = 10.0


class Line:
    """Shows a progress again and again: on a terminal in place, otherwise on a new line.

    New lines are at least 10 seconds apart, and none is the same as the one before it.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._live = _live(console)
        self._shown_at = clock()
        self._shown = ""

    def __enter__(self) -> Callable[[Iterable[str]], None]:
        if self._live is not None:
            self._live.start()
        return self.show

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, parts: Iterable[str]) -> None:
        """Show a line."""
        if self._live is not None:
            self._live.update(Text(fitting(parts, self._console.width - 1), no_wrap=True), refresh=True)
            return
        periods, line = int((self._clock() - self._shown_at) / PLAIN_SECONDS), ", ".join(parts)
        if periods and line != self._shown:
            self._shown_at += periods * PLAIN_SECONDS
            self._shown = line
            self._console.print(Text(line), soft_wrap=True)


def _live(console: Console) -> Live | None:
    """Return a line that is drawn in place, or None if the console cannot move its cursor."""
    if not console.is_terminal or console.is_dumb_terminal:
        return None
    return Live(console=console, transient=True, auto_refresh=False)


async def show_progress(console: Console, progress: Callable[[], Progress]) -> None:
    """Show the progress of a run until the task is cancelled."""
    with Line(console) as show:
        while True:
            show(parts_of(progress()))
            await asyncio.sleep(_LIVE_SECONDS)


def fitting(parts: Iterable[str], width: int) -> str:
    """Return as many parts as fit into `width` characters.

    Of a part that does not fit, the text before its first comma is shown, or nothing. Only the first part is cut.
    """
    line = ""
    for part in parts:
        longer = [f"{line}, {text}" if line else text for text in (part, part.partition(", ")[0])]
        fits = next((text for text in longer if len(text) <= width), None)
        if fits is not None:
            line = fits
        elif not line:
            line = f"{part[: width - 1]}…"
    return line


def parts_of(now: Progress) -> Iterator[str]:
    """Yield the parts of the line about a run in this process."""
    yield f"{now.percent:3d} %"
    if now.awaiting:
        yield now.awaiting
    if now.stage:
        yield now.stage
    # Before the first request, what is awaited is enough: zeros would say nothing more.
    is_begun = now.requests or now.in_flight or not now.awaiting
    if is_begun:
        yield count_of(now.requests, "request")
    if now.errors:
        yield count_of(now.errors, "error")
    if is_begun:
        yield f"{now.in_flight} in flight"
    if now.error:
        yield now.error
    if now.ttft_p95_seconds is not None:
        yield f"TTFT p95 {format_duration(now.ttft_p95_seconds)}"
    if now.offered_rate is not None and now.completed_rate is not None:
        yield f"{number(now.completed_rate)} of {number(now.offered_rate)} requests/s"
    if now.output_tokens:
        yield count_of(now.output_tokens, "token")
