"""Waiting for a condition instead of a fixed time.

The limits only end a test that has failed. They are long, because other tests may keep both cores busy.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any


def wait_until(check: Callable[[], Any], seconds: float = 60.0, every: float = 0.05) -> Any:
    """Call `check` until its result is true, and return the result. Raises AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        result = check()
        if result:
            return result
        time.sleep(every)
    raise AssertionError(f"the condition did not hold within {seconds:g} s")


async def eventually(check: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait until `check` returns True, while the event loop runs. Raises AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, f"the condition did not hold within {seconds:g} s"
        await asyncio.sleep(0.005)
