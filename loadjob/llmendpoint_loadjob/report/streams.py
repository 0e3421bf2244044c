"""Standard streams that cannot fail a run: they may be closed, or a reader such as `head` may be gone."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import IO

from rich.console import Console


def open_streams() -> None:
    """Open standard streams that are closed (`>&-`) on the null device.

    Otherwise the next file or socket would get their number, and everything printed would be written into it.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stdout is None:
        sys.stdout = _null()
    if sys.stderr is None:
        sys.stderr = _null()


def _null() -> IO[str]:
    return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123 - stays open for the whole process


def output_console() -> Console:
    """Return the console for the result, on stdout. Texts are never read as markup."""
    return Console(file=sys.stdout, markup=False, highlight=False, emoji=False)


def progress_console() -> Console:
    """Return the console for the progress, on stderr, so that stdout has the result alone."""
    return Console(file=sys.stderr, stderr=True, markup=False, highlight=False, emoji=False)


@contextlib.contextmanager
def tolerated_output() -> Iterator[None]:
    """Ignore that the reader of stdout is gone or that its disk is full: results have been written to files before."""
    try:
        yield
        sys.stdout.flush()
    except OSError:
        # Python flushes stdout again when it ends, which must not fail either.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
