"""Runs a process on uvloop.

The first SIGTERM or SIGINT requests a stop, and the second one ends the process immediately.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop

from llmendpoint_common.process import exit_codes


def run(
    main: Callable[[asyncio.Event], Coroutine[Any, Any, int]], before_exit: Callable[[], None] | None = None
) -> int:
    """Run `main(stopping)` and return its exit code. The first SIGTERM or SIGINT sets `stopping`.

    At the second signal, `before_exit` is called, which has to be short, and the process ends.
    """
    return uvloop.run(_supervised(main, before_exit))


async def _supervised(
    main: Callable[[asyncio.Event], Coroutine[Any, Any, int]], before_exit: Callable[[], None] | None
) -> int:
    stopping = asyncio.Event()

    def on_signal() -> None:
        if stopping.is_set():
            try:
                if before_exit is not None:
                    before_exit()
            finally:
                os._exit(exit_codes.INTERRUPTED)
        stopping.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    # Images start programs with blocked signals, so that one which arrives before this is not lost.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT))
    try:
        return await main(stopping)
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
            if stopping.is_set():
                # The process is ending with its exit code, which another signal must not change.
                signal.signal(number, signal.SIG_IGN)
