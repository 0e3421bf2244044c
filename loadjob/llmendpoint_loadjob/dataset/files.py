"""Opens files that users name. A FIFO, a device or a folder is refused instead of waited for."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from llmendpoint_common.process.errors import InputError


def open_regular(path: Path, error: Callable[[int, str], InputError]) -> BinaryIO:
    """Return an open file, which may be behind symbolic links, as in the volumes of ConfigMaps.

    If the file cannot be opened or is not a regular file, `error` is called with line 0 and the reason, and what it
    returns is raised.
    """
    try:
        # Without O_NONBLOCK, opening a FIFO waits for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as reason:
        raise error(0, f"the file cannot be read: {getattr(reason, 'strerror', None) or reason}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise error(0, "the file is not a regular file")
    return os.fdopen(descriptor, "rb")


def read_regular(path: Path, max_bytes: int, error: Callable[[int, str], InputError]) -> bytes:
    """Return the bytes of a file. A file that is larger than `max_bytes` is an error, as in `open_regular`."""
    with open_regular(path, error) as file:
        try:
            data = file.read(max_bytes + 1)
        except OSError as reason:
            raise error(0, f"the file cannot be read: {reason.strerror}") from None
    if len(data) > max_bytes:
        raise error(0, f"the file is larger than {max_bytes // 1024} KiB; split it")
    return data
