"""How tests wait: for a condition, never for a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any


def wait_until(check: Callable[[], Any], seconds: float = 20.0, every: float = 0.05) -> Any:
    """Return what `check` returns once it is true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        result = check()
        if result:
            return result
        time.sleep(every)
    raise AssertionError(f"not within {seconds:g} s")


async def eventually(check: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait until `check` holds; the event loop runs meanwhile."""
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "what was awaited did not come to pass"
        await asyncio.sleep(0.005)
