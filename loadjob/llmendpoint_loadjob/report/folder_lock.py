"""A lock on the folder of a run, which its process holds until it ends, however it ends.

It is an advisory lock on the folder itself (flock), which the kernel releases with the process. So another run cannot
write to the same folder, and a reader can tell a run that continues from one that was killed, also across containers
that share the folder. Where file systems do not have such locks (some network file systems), there is no such check.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from llmendpoint_common.process.errors import OutputError


class FolderLock:
    """The lock on a folder."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def __del__(self) -> None:
        self.release()

    def take(self) -> None:
        """Take the lock, if it is not taken yet. Raises OutputError if another run has it."""
        if self._descriptor is not None:
            return
        with suppress(OSError):
            descriptor = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                os.close(descriptor)
                if isinstance(error, BlockingIOError):
                    raise OutputError(f"{self._path}: another run is writing to this folder") from None
            else:
                self._descriptor = descriptor

    def release(self) -> None:
        """Release the lock."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def is_being_written(path: Path) -> bool:
    """Return whether a run is writing to a folder."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
    return False
