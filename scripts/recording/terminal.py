"""A session in a pseudo-terminal, as an asciicast v2 (https://docs.asciinema.org/manual/asciicast/v2/)."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

COLUMNS, ROWS = 96, 30
PROMPT = "\x1b[1;32m$\x1b[0m "
_KEY_SECONDS = 0.02
_PAUSE_SECONDS = 0.4
#: Times without output are multiplied by this factor, and last at most so many seconds.
_SPEED = 0.35
_LONGEST_SILENCE_SECONDS = 0.3


class Event(NamedTuple):
    """Output of the terminal, at a time in seconds since the start."""

    seconds: float
    text: str


def record(commands: Sequence[str], folder: Path, environment: Mapping[str, str]) -> list[Event]:
    """Type commands one after the other, and return what the terminal shows. Raises CalledProcessError if one fails."""
    events: list[Event] = []
    now = 0.0
    for command in commands:
        typed = [Event(now + _PAUSE_SECONDS + _KEY_SECONDS * at, key) for at, key in enumerate(command)]
        events += [Event(now, PROMPT), *typed]
        now = typed[-1].seconds + 0.3
        events.append(Event(now, "\r\n"))
        for event in _run(command, folder, environment):
            now += event.seconds
            events.append(Event(now, event.text))
        now += 1.0
    return [*events, Event(now, PROMPT), Event(now + 3.0, "")]


def _run(command: str, folder: Path, environment: Mapping[str, str]) -> Iterable[Event]:
    """Yield the output of a command, each with the seconds since the output before it."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    settings = {**environment, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS), "LINES": str(ROWS)}
    with subprocess.Popen(
        ["bash", "-c", command], cwd=folder, env=settings, stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        last, said = time.monotonic(), ""
        while True:
            is_over = process.poll() is not None
            if select.select([ours], [], [], 0.05)[0]:
                try:
                    text = os.read(ours, 65536).decode(errors="replace")
                except OSError:  # Linux: all programs have closed the terminal
                    break
                said += text
                silence, last = time.monotonic() - last, time.monotonic()
                yield Event(min(silence * _SPEED, _LONGEST_SILENCE_SECONDS), text)
            elif is_over:
                break
        os.close(ours)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, said)


def write_cast(events: Iterable[Event], path: Path) -> None:
    """Write an asciicast v2, which `asciinema play` can show."""
    header = {"version": 2, "width": COLUMNS, "height": ROWS}
    lines = [header, *([round(event.seconds, 3), "o", event.text] for event in events)]
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
