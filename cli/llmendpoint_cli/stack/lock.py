"""Locks of the state folder: one command changes the stack at a time, and one supervisor runs.

They are locks on folders (`llmendpoint_common.process.folder_lock`).
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from llmendpoint_common.process.errors import StackError
from llmendpoint_common.process.folder_lock import try_lock

_SAID_AFTER_SECONDS = 1.0
_OTHERS = "another `llmendpoint up`, `down` or `traffic`"


def wait_for_lock(folder: Path, seconds: float) -> int | None:
    """Return a descriptor that holds the lock of a folder, or None if another process holds it for `seconds`."""
    deadline = time.monotonic() + seconds
    while (number := try_lock(folder)) is None and time.monotonic() < deadline:
        time.sleep(0.02)
    return number


@contextlib.contextmanager
def exclusive(folder: Path, seconds: float = 60.0) -> Iterator[None]:
    """Hold the lock of a folder. Raises StackError if another command holds it for longer than `seconds`.

    After a second, stderr says what is awaited: a `down` of another terminal may let requests finish first.
    """
    number = wait_for_lock(folder, min(seconds, _SAID_AFTER_SECONDS))
    if number is None and seconds > _SAID_AFTER_SECONDS:
        print(f"waiting for {_OTHERS}, which is using {folder}, {seconds:g} s at most", file=sys.stderr, flush=True)
        number = wait_for_lock(folder, seconds - _SAID_AFTER_SECONDS)
    if number is None:
        raise StackError(f"{_OTHERS} has been using {folder} for {seconds:g} s; wait for it, or end it")
    try:
        yield
    finally:
        os.close(number)
