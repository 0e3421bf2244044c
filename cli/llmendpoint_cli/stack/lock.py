"""Locks of the state folder: one command changes the stack at a time, and one supervisor runs.

They are locks on folders (flock(2)), because they need no file: a full disk cannot prevent them, and they end with the
process that holds them.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from llmendpoint_common.process.errors import StackError


def try_lock(folder: Path) -> int | None:
    """Return a descriptor that holds the lock of a folder until it is closed, or None if another process holds it.

    Raises OSError if the folder cannot be opened.
    """
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(number)
        return None
    except BaseException:
        os.close(number)
        raise
    return number


def is_locked(folder: Path) -> bool:
    """Return whether another process holds the lock of a folder. False if there is no such folder."""
    try:
        number = try_lock(folder)
    except OSError:
        return False
    if number is None:
        return True
    os.close(number)
    return False


def wait_for_lock(folder: Path, seconds: float) -> int | None:
    """Return a descriptor that holds the lock of a folder, or None if another process holds it for `seconds`."""
    deadline = time.monotonic() + seconds
    while (number := try_lock(folder)) is None and time.monotonic() < deadline:
        time.sleep(0.02)
    return number


@contextlib.contextmanager
def exclusive(folder: Path, seconds: float = 60.0) -> Iterator[None]:
    """Hold the lock of a folder. Raises StackError if another command holds it for longer than `seconds`."""
    number = wait_for_lock(folder, seconds)
    if number is None:
        raise StackError(
            f"another `llmendpoint up`, `down` or `traffic` has been using {folder} for {seconds:g} s; wait "
            "for it, or end it"
        )
    try:
        yield
    finally:
        os.close(number)
