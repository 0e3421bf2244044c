"""Run commands at the same time, each in a lane of its own: `lanes.py NAME COMMAND... [-- NAME COMMAND...]...`.

After `++`, more lanes follow, which run when the ones before have ended. After `??`, a last lane follows, whose command
is pytest without tests. It repeats failed tests: if nothing but tests failed, and at most three of them, they run once
more, when nothing else runs. Tests that pass then are named as unstable, and do not make the exit code 1.

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
_LANE, _STAGE, _REPEAT = "--", "++", "??"
#: More failures are not the work of chance.
_MOST_REPEATED = 3
_SHOWN_LINES = 60
#: Time for tests to stop their servers, or to remove what they made in a cluster, after an interrupt.
_GRACE_SECONDS = 120
#: How pytest names a failed test, before the reason, and its exit code if tests failed and nothing else did.
_FAILED = re.compile(r"(?:FAILED|ERROR) (\S+\.py(?:::.*?)?)(?: - .*)?$")
_TESTS_FAILED = 1
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
        return [line for line in self.lines if self.code and _FAILED.match(line)]

    @property
    def failed_tests(self) -> list[str]:
        """The IDs of the tests that failed, each once."""
        found = (_FAILED.match(line) for line in self.failures)
        return list(dict.fromkeys(match[1] for match in found if match))


@dataclass
class Plan:
    """The lanes of each stage, and the lane that repeats failed tests, if there is one."""

    stages: list[list[Lane]]
    repeat: Lane | None = None

    @property
    def lanes(self) -> list[Lane]:
        """The lanes of all stages."""
        return [lane for stage in self.stages for lane in stage]

    def unstable(self) -> list[str]:
        """Return the tests to repeat: all that failed. Empty if they are too many, or anything else failed."""
        failed = [lane for lane in self.lanes if lane.code != 0]
        tests = [test for lane in failed for test in lane.failed_tests]
        only_tests = all(lane.code == _TESTS_FAILED and lane.failed_tests for lane in failed)
        return tests if self.repeat and only_tests and len(tests) <= _MOST_REPEATED else []


def parse(words: Sequence[str]) -> Plan:
    """Return the lanes. Raises ValueError if a lane has no command, or a name is used twice."""
    names: set[str] = set()

    def lane(part: Sequence[str]) -> Lane:
        if len(part) < 2 or part[0] in names:
            raise ValueError(f"each lane needs a name of its own and a command: {' '.join(part) or _LANE}")
        names.add(part[0])
        return Lane(part[0], part[1:])

    first, *repeat = _split(words, _REPEAT)
    stages = [[lane(part) for part in _split(stage, _LANE)] for stage in _split(first, _STAGE)]
    if len(repeat) > 1:
        raise ValueError(f"{_REPEAT} may be there once")
    return Plan(stages, lane(repeat[0]) if repeat else None)


def _split(words: Sequence[str], separator: str) -> list[list[str]]:
    parts: list[list[str]] = [[]]
    for word in words:
        if word == separator:
            parts.append([])
        else:
            parts[-1].append(word)
    return parts


async def run(plan: Plan) -> int:
    """Run all lanes to their end. Return the exit code: 0, 1 if a lane failed, or 130 if it was interrupted."""
    loop, interrupted = asyncio.get_running_loop(), asyncio.Event()
    lanes = [*plan.lanes, *([plan.repeat] if plan.repeat else [])]

    def stop() -> None:
        interrupted.set()
        _send(lanes, signal.SIGINT)
        loop.call_later(_GRACE_SECONDS, _send, lanes, signal.SIGKILL)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    FOLDER.mkdir(parents=True, exist_ok=True)
    width = max(len(lane.name) for lane in lanes)
    for stage in plan.stages:
        if not interrupted.is_set():
            await asyncio.gather(*(_run(lane, width) for lane in stage))
    unstable = [] if interrupted.is_set() else plan.unstable()
    if plan.repeat and unstable:
        plan.repeat.command = [*plan.repeat.command, *unstable]
        await _run(plan.repeat, width)
    code = 130 if interrupted.is_set() else _code(plan)
    _report(lanes if unstable else plan.lanes, width)
    if code == 0:
        for test in unstable:
            print(f"UNSTABLE: it failed, and passed when it ran alone: {test}")
        if passed := sum(lane.passed for lane in lanes):
            print(f"{passed} passed, 0 failed", flush=True)
    return code


def _code(plan: Plan) -> int:
    """Return 0 if all lanes passed, or all failed tests passed when they were repeated."""
    if plan.repeat and plan.repeat.code is not None:
        return int(plan.repeat.code != 0)
    return int(any(lane.code for lane in plan.lanes))


def _report(lanes: Sequence[Lane], width: int) -> None:
    """Print the end of each failed lane, the time of each lane, and the failed tests."""
    for lane in lanes:
        if lane.code:
            print(f"!! {lane.name} FAILED with {lane.code}. The end of {FOLDER / lane.name}.txt:")
            print("\n".join(lane.lines[-_SHOWN_LINES:]))
    for lane in lanes:
        result = "did not run" if lane.code is None else f"{'FAILED' if lane.code else 'ok'} after {lane.seconds:.0f} s"
        print(f"{lane.name:{width}}   {result}")
    for lane in lanes:
        print("".join(f"{lane.name:{width}}   {line}\n" for line in lane.failures), end="")
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
        plan = parse(sys.argv[1:])
    except ValueError as error:
        print(f"lanes.py: {error}", file=sys.stderr)
        return 2
    return asyncio.run(run(plan))


if __name__ == "__main__":
    sys.exit(main())
