"""Locks of the state folder: one command changes the stack at a time, and one supervisor runs.

They are locks on folders (`llmendpoint_common.process.folder_lock`).
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from llmendpoint_common.process.errors import StackError
from llmendpoint_common.process.folder_lock import try_lock


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
