"""Identity of a process: its ID together with its start time, because the kernel reuses IDs.

On Linux, the start time is in clock ticks since boot, from /proc. On macOS, it is unknown, and the command line is
compared instead.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

#: Variable that marks all processes of a stack, and those that they start. Its value is the state folder.
MARK = "LLMENDPOINT_STACK"
_PROC = Path("/proc")
_HAS_PROC = sys.platform == "linux"


def start_ticks(pid: int) -> int | None:
    """Return the start time of a process in clock ticks since boot.

    None if there is no such process, if it has ended and only waits for its parent, or if the system has no /proc.
    """
    fields = _stat(pid)
    return None if fields is None or fields[0] in ("Z", "X") else int(fields[19])


def is_running(pid: int, ticks: int | None, command: Sequence[str] = ()) -> bool:
    """Return whether the process `pid` runs, and is the one that started at `ticks`.

    Without /proc, it is the one if its command line has all words of `command`.
    """
    if pid <= 0:
        return False
    if _HAS_PROC:
        found = start_ticks(pid)
        return found is not None and (ticks is None or found == ticks)
    text = _command_line(pid)
    return bool(text) and all(word in text for word in command)


def send(pid: int, ticks: int | None, number: signal.Signals, command: Sequence[str] = ()) -> bool:
    """Send a signal to a process, if it still is the one that started at `ticks`. Return whether it was sent.

    On Linux, a file descriptor of the process makes sure that no other process gets the signal.
    """
    try:
        if not hasattr(os, "pidfd_open"):
            if not is_running(pid, ticks, command):
                return False
            os.kill(pid, number)
            return True
        handle = os.pidfd_open(pid)
        try:
            if not is_running(pid, ticks, command):
                return False
            signal.pidfd_send_signal(handle, number)
        finally:
            os.close(handle)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def wait_until_ended(pid: int, ticks: int | None, seconds: float, command: Sequence[str] = ()) -> bool:
    """Wait for the end of a process that may belong to another parent. Return whether it has ended."""
    deadline = time.monotonic() + seconds
    while is_running(pid, ticks, command):
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        _wait(pid, min(left, 0.1))
    return True


def marked(folder: Path) -> Iterator[int]:
    """Yield the IDs of the user's processes that belong to the stack of a state folder. Only on Linux.

    They are found although all files of the stack are damaged or gone.
    """
    if not _HAS_PROC:
        return
    mark = os.fsencode(f"{MARK}={folder}")
    for entry in _PROC.iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if entry.stat().st_uid == os.getuid() and mark in (entry / "environ").read_bytes().split(b"\0"):
                yield int(entry.name)


def _stat(pid: int) -> list[str] | None:
    try:
        text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The second field is the name of the program, which may contain spaces and brackets.
    return text.rpartition(")")[2].split()


def _wait(pid: int, seconds: float) -> None:
    if not hasattr(os, "pidfd_open"):
        time.sleep(seconds)
        return
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        time.sleep(0.005)
        return
    try:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        # A process that has ended is readable before its parent has collected it.
        if poll.poll(seconds * 1000):
            time.sleep(0.002)
    finally:
        os.close(handle)


def _command_line(pid: int) -> str:
    command = ["/bin/ps", "-ww", "-o", "command=", "-p", str(pid)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603 - the path is fixed
    return done.stdout.strip()
