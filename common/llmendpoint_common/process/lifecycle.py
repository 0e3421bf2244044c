"""Runs a process on uvloop.

The first SIGTERM or SIGINT requests a stop, and the second one ends the process immediately. SIGHUP (the terminal was
closed) requests a stop too, unless it is ignored, such as by nohup(1).
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
    """Run `main(stopping)` and return its exit code. SIGHUP, and the first SIGTERM or SIGINT, set `stopping`.

    At the second SIGTERM or SIGINT, `before_exit` is called, which has to be short, and the process ends.
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
    has_hangup = signal.getsignal(signal.SIGHUP) is signal.SIG_DFL
    if has_hangup:
        # The shell and the kernel may both send it, so the second one does not end the process.
        loop.add_signal_handler(signal.SIGHUP, stopping.set)
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
        if has_hangup:
            loop.remove_signal_handler(signal.SIGHUP)
            if stopping.is_set():
                signal.signal(signal.SIGHUP, signal.SIG_IGN)
