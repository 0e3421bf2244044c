"""Signals that interrupt a command: SIGINT (Ctrl-C), SIGTERM, and SIGHUP (the terminal was closed)."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

_INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def interrupt_at_hangup() -> None:
    """Let SIGHUP raise KeyboardInterrupt, as SIGINT and SIGTERM do, unless it is ignored, such as by nohup(1)."""
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, signal.default_int_handler)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Drop the signals that interrupt, so that a block that ends processes is not left halfway.

    The block has to end within a few seconds. The handlers are those of Python, which child processes do not inherit.
    """
    earlier = _handlers()
    changed = [number for number, handler in earlier.items() if handler not in (signal.SIG_IGN, None)]
    for number in changed:
        signal.signal(number, _drop)
    try:
        yield
    finally:
        for number in changed:
            signal.signal(number, earlier[number])


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Delay the signals that interrupt until the end of a block, which then raises KeyboardInterrupt.

    An exception that a signal raises in a hook of os.register_at_fork, such as that of the module logging, is ignored,
    so the interruption would be lost.
    """
    arrived: list[int] = []
    earlier = _handlers()
    changed = [number for number, handler in earlier.items() if handler is signal.default_int_handler]
    for number in changed:
        signal.signal(number, lambda received, _: arrived.append(received))
    try:
        yield
    finally:
        for number in changed:
            signal.signal(number, earlier[number])
    if arrived:
        raise KeyboardInterrupt


def _handlers() -> dict[signal.Signals, Any]:
    """Return the handlers of the signals that interrupt. Empty in other threads, which no signal interrupts."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: signal.getsignal(number) for number in _INTERRUPTS}


def _drop(_: int, __: FrameType | None) -> None:
    """Handle a signal by doing nothing."""
