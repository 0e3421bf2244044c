"""Standard streams: they may be closed, or a reader such as `head` may be gone, which is not an error.

Text that is lost for another reason, such as a full disk, is one.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import IO

from rich.console import Console

from llmendpoint_common.process.errors import StdoutError


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


class _Output(Console):
    """A console that ends its process with exit code 1 if its reader is gone, unless this method does otherwise."""

    def on_broken_pipe(self) -> None:
        """Pass on the error, which `tolerated_output` expects."""
        raise BrokenPipeError


def output_console() -> Console:
    """Return the console for the result, on stdout. Texts are never read as markup."""
    return _Output(file=sys.stdout, markup=False, highlight=False, emoji=False)


def progress_console() -> Console:
    """Return the console for the progress, on stderr, so that stdout has the result alone."""
    return _Output(file=sys.stderr, stderr=True, markup=False, highlight=False, emoji=False)


@contextlib.contextmanager
def tolerated_output() -> Iterator[None]:
    """Ignore that the reader of stdout is gone. Raises StdoutError if it cannot be written for another reason."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
    except OSError as error:
        _discard_output()
        raise StdoutError(f"the result could not be written to stdout: {error.strerror}") from None


def _discard_output() -> None:
    """Write what is left to the null device: Python flushes stdout again when it ends, which must not fail either."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
