"""Run commands at the same time, each in a lane of its own: `lanes.py NAME COMMAND... [-- NAME COMMAND...]...`.

After `++`, more lanes follow, which run when the ones before have ended.

Each line of output is printed with the name of its lane, and written to `build/lanes/NAME.txt` without it. All lanes
run to their end, so that one failure does not hide another. Then the end of the output of each failed lane is printed
again, the names of the failed tests follow, and the exit code is 1. The last line has the number of tests that passed
in all lanes that end with pytest.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

FOLDER = Path(__file__).parent.parent / "build" / "lanes"
_LANE, _STAGE = "--", "++"
_SHOWN_LINES = 60
#: Time for tests to stop their servers after an interrupt.
_GRACE_SECONDS = 30
#: The last line of pytest. It has no "=" with --quiet.
_PASSED = re.compile(r"^=* ?(?:\d+ \w+, )*(\d+) passed\b.* in [\d.]+s")


@dataclass
class Lane:
    """A command, its process and exit code, and the lines that it has written."""

    name: str
    command: Sequence[str]
    process: asyncio.subprocess.Process | None = None
    lines: list[str] = field(default_factory=list)
    code: int | None = None
    seconds: float = 0.0

    @property
    def passed(self) -> int:
        """The number of tests that passed, if the command was pytest or a script that ends with it. Otherwise 0."""
        last = next((line for line in reversed(self.lines) if line), "")
        found = _PASSED.match(last)
        return int(found[1]) if found else 0

    @property
    def failures(self) -> list[str]:
        """The lines in which pytest names what failed. Empty if the command did not fail."""
        return [line for line in self.lines if self.code and line.startswith(("FAILED ", "ERROR "))]


def parse(words: Sequence[str]) -> list[list[Lane]]:
    """Return the lanes of each stage. Raises ValueError if a lane has no command, or a name is used twice."""
    stages: list[list[Lane]] = []
    names: set[str] = set()
    for stage in _split(words, _STAGE):
        stages.append([])
        for part in _split(stage, _LANE):
            if len(part) < 2 or part[0] in names:
                raise ValueError(f"each lane needs a name of its own and a command: {' '.join(part) or _LANE}")
            names.add(part[0])
            stages[-1].append(Lane(part[0], part[1:]))
    return stages


def _split(words: Sequence[str], separator: str) -> list[list[str]]:
    parts: list[list[str]] = [[]]
    for word in words:
        if word == separator:
            parts.append([])
        else:
            parts[-1].append(word)
    return parts


async def run(stages: Sequence[Sequence[Lane]]) -> int:
    """Run all lanes to their end. Return the exit code: 0, 1 if a lane failed, or 130 if it was interrupted."""
    loop, interrupted = asyncio.get_running_loop(), asyncio.Event()
    lanes = [lane for stage in stages for lane in stage]

    def stop() -> None:
        interrupted.set()
        _send(lanes, signal.SIGINT)
        loop.call_later(_GRACE_SECONDS, _send, lanes, signal.SIGKILL)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    FOLDER.mkdir(parents=True, exist_ok=True)
    width = max(len(lane.name) for lane in lanes)
    for stage in stages:
        if not interrupted.is_set():
            await asyncio.gather(*(_run(lane, width) for lane in stage))
    _report(lanes, width)
    if interrupted.is_set():
        return 130
    return int(any(lane.code for lane in lanes))


def _report(lanes: Sequence[Lane], width: int) -> None:
    """Print the end of each failed lane, the time of each lane, the failed tests, and how many tests passed."""
    for lane in lanes:
        if lane.code:
            print(f"!! {lane.name} FAILED with {lane.code}. The end of {FOLDER / lane.name}.txt:")
            print("\n".join(lane.lines[-_SHOWN_LINES:]))
    for lane in lanes:
        result = "did not run" if lane.code is None else f"{'FAILED' if lane.code else 'ok'} after {lane.seconds:.0f} s"
        print(f"{lane.name:{width}}   {result}")
    for lane in lanes:
        print("".join(f"{lane.name:{width}}   {line}\n" for line in lane.failures), end="")
    passed = sum(lane.passed for lane in lanes)
    if passed and not any(lane.code != 0 for lane in lanes):
        print(f"{passed} passed, 0 failed")
    sys.stdout.flush()


def _send(lanes: Sequence[Lane], number: signal.Signals) -> None:
    """Send a signal to what runs in the lanes. Each is a process group, which has nothing else in it."""
    for lane in lanes:
        if lane.process is not None and lane.process.returncode is None:
            os.killpg(lane.process.pid, number)


async def _run(lane: Lane, width: int) -> None:
    """Run a lane and print its lines."""
    started = time.monotonic()
    lane.process = await asyncio.create_subprocess_exec(
        *lane.command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        start_new_session=True,
        limit=1 << 24,
    )
    with (FOLDER / f"{lane.name}.txt").open("wb") as file:
        await _copy(lane, width, file)
    lane.code = await lane.process.wait()
    lane.seconds = time.monotonic() - started


async def _copy(lane: Lane, width: int, file: BinaryIO) -> None:
    assert lane.process is not None
    assert lane.process.stdout is not None
    async for line in lane.process.stdout:
        file.write(line)
        file.flush()
        lane.lines.append(line.decode(errors="replace").rstrip("\n"))
        print(f"{lane.name:{width}} | {lane.lines[-1]}", flush=True)


def main() -> int:
    """Run the lanes of the command line. Return the exit code."""
    try:
        stages = parse(sys.argv[1:])
    except ValueError as error:
        print(f"lanes.py: {error}", file=sys.stderr)
        return 2
    return asyncio.run(run(stages))


if __name__ == "__main__":
    sys.exit(main())
