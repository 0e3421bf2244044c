"""Standard streams: they may be closed, or a reader such as `head` may be gone, which is not an error.

Text on stdout that is lost for another reason is one, such as a full disk or a closed stdout. It does not interrupt a
command, which may be starting or ending programs: the command continues, and then ends with an error.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from llmendpoint_common.process.errors import StdoutError


class _Stdout(io.FileIO):
    """The file of stdout. `failure` is the first error of a write, after which text is dropped, or None."""

    failure: OSError | None = None

    def write(self, data: object, /) -> int:
        """Write bytes. Raises BrokenPipeError, and notes other errors."""
        try:
            return super().write(data)  # type: ignore[arg-type]
        except BrokenPipeError:
            raise
        except OSError as error:
            self.failure = self.failure or error
            return memoryview(data).nbytes  # type: ignore[arg-type]


def open_streams() -> None:
    """Open standard streams that are closed (`>&-`), and note from now on if text on stdout is lost.

    Otherwise the next file or socket would get the number of a closed stream, and everything printed would be written
    into it. What is written to a closed stdout is lost.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDONLY if number == 1 else os.O_RDWR)
    if sys.stderr is None:
        sys.stderr = _null()
    standard = sys.__stdout__
    if sys.stdout is None or (standard is not None and sys.stdout is standard and standard.fileno() == 1):
        sys.stdout = _noting(sys.stdout)


def _null() -> IO[str]:
    return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123 - stays open for the whole process


def _noting(stdout: IO[str] | None) -> io.TextIOWrapper:
    """Return a file for stdout, with the settings of the present one, that notes if text is lost."""
    raw = _Stdout(1, "w", closefd=False)
    if not isinstance(stdout, io.TextIOWrapper):
        return io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8")
    stdout.flush()
    return io.TextIOWrapper(
        # With PYTHONUNBUFFERED, Python has no buffer either.
        raw if stdout.write_through else io.BufferedWriter(raw),
        encoding=stdout.encoding,
        errors=stdout.errors,
        line_buffering=stdout.line_buffering,
        write_through=stdout.write_through,
    )


@contextlib.contextmanager
def tolerated_output(files: Path | None = None) -> Iterator[None]:
    """Ignore that the reader of stdout is gone. Raises StdoutError if it cannot be written for another reason.

    `files` is the folder that has the same result in files, which the message names.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
    except OSError as error:
        _discard_output()
        raise _lost(error, files) from None
    check_output(files)


def check_output(files: Path | None = None) -> None:
    """Raise StdoutError if text on stdout has been lost since the last call. `files` is as for `tolerated_output`."""
    buffer = getattr(sys.stdout, "buffer", None)
    raw = getattr(buffer, "raw", buffer)
    if isinstance(raw, _Stdout) and raw.failure is not None:
        failure, raw.failure = raw.failure, None
        raise _lost(failure, files)


def _lost(error: OSError, files: Path | None) -> StdoutError:
    reason = "it is closed" if error.errno == errno.EBADF else error.strerror
    where = "" if files is None else f"; the files of the result are in {files}"
    return StdoutError(f"the result could not be written to stdout: {reason}{where}")


def _discard_output() -> None:
    """Redirect stdout to the null device. Python flushes stdout again at exit, and would report another error."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
