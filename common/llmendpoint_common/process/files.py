"""Replaces files as a whole, so that a reader never sees a part of one."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def replace_file(path: Path, content: bytes, *, part: Path, mode: int = 0o666, is_durable: bool = True) -> None:
    """Write `part`, and rename it to `path`, which must be in the same file system. Raises OSError.

    If several processes write the file, each needs a `part` of its own. `mode` has the permissions, from which the
    umask is subtracted. With `is_durable`, the content is on the disk before the file is renamed (fsync(2)).
    """
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            if is_durable:
                os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise
