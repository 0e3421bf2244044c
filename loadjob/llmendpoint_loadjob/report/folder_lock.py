"""A lock on the folder of a run, which its process holds until it ends, however it ends.

So another run cannot write to the same folder, and a reader can tell a run that continues from one that was killed. If
the file system does not have locks (some network file systems), there is no such check.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from llmendpoint_common.process.errors import OutputError
from llmendpoint_common.process.folder_lock import try_lock


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
            self._descriptor = try_lock(self._path)
            if self._descriptor is None:
                raise OutputError(f"{self._path}: another run is writing to this folder")

    def release(self) -> None:
        """Release the lock."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)
