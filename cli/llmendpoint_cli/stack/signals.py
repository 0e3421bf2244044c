"""Signals that interrupt a command: SIGINT (Ctrl-C), SIGTERM, and SIGHUP (the terminal was closed)."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
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
def one_at_a_time() -> Iterator[Callable[[], None]]:
    """Let the first signal that interrupts raise KeyboardInterrupt in a block, and drop the others.

    Two signals may arrive at the same moment, and the second one would interrupt the code that handles the first one.
    The block gets a function that lets one more signal raise.
    """
    is_next = True

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal is_next
        if is_next:
            is_next = False
            signal.default_int_handler(number, frame)

    def again() -> None:
        nonlocal is_next
        is_next = True

    earlier = _handlers()
    changed = [number for number, handler in earlier.items() if handler is signal.default_int_handler]
    for number in changed:
        signal.signal(number, interrupt)
    try:
        yield again
    finally:
        for number in changed:
            signal.signal(number, earlier[number])


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Delay the signals that interrupt until the end of a block. Then the handler of the first one is called.

    An exception that a signal raises in a hook of os.register_at_fork, such as that of the module logging, is ignored,
    so the interruption would be lost.
    """
    arrived: list[int] = []
    earlier = _handlers()
    changed = [number for number, handler in earlier.items() if callable(handler)]
    for number in changed:
        signal.signal(number, lambda received, _: arrived.append(received))
    try:
        yield
    finally:
        for number in changed:
            signal.signal(number, earlier[number])
    if arrived:
        earlier[signal.Signals(arrived[0])](arrived[0], None)


def _handlers() -> dict[signal.Signals, Any]:
    """Return the handlers of the signals that interrupt. Empty in other threads, which no signal interrupts."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: signal.getsignal(number) for number in _INTERRUPTS}


def _drop(_: int, __: FrameType | None) -> None:
    """Handle a signal by doing nothing."""
