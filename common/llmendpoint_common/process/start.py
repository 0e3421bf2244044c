"""Starts a program so that it ends quietly if it is interrupted before it has installed its signal handlers.

The imports of a program take up to two seconds on a slow machine. Python would print a traceback of some import at
SIGINT, and end without an exit code at SIGTERM. So this module imports almost nothing, and is imported first.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from types import FrameType

from llmendpoint_common.process import exit_codes

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run_program(module: str) -> int:
    """Import a module, call its `main`, and return its exit code: 130 if SIGINT or SIGTERM interrupted it."""
    # A shell starts background jobs with SIGINT ignored, which has to stay so.
    numbers = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    for number in numbers:
        signal.signal(number, _leave)
    # The kernel drops a signal to process 1 that has no handler for it, as a program in a container has none while
    # Python starts, but keeps one that is blocked. So the image starts the program with blocked signals.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    main = importlib.import_module(module).main
    for number in numbers:
        signal.signal(number, signal.default_int_handler)
    try:
        code: int = main()
        if sys.stdout is not None:
            sys.stdout.flush()
    except KeyboardInterrupt:
        return exit_codes.INTERRUPTED
    except BrokenPipeError:
        # The reader, such as `head`, has enough. Python would report the pipe again when it flushes stdout at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return exit_codes.OK
    finally:
        for number in numbers:
            # The process is ending with its exit code, which another signal must not change.
            signal.signal(number, signal.SIG_IGN)
    return code


def _leave(_: int, __: FrameType | None) -> None:
    """End immediately. Nothing has been done yet, and an exception in an import can be caught by the importing code."""
    os._exit(exit_codes.INTERRUPTED)
