"""Locks on folders (flock(2)), which the kernel releases with the process that holds them, however it ends.

A lock needs no file, so a full disk cannot prevent it, and it is never left over. It is advisory, and works across the
containers of a machine that share the folder. Some network file systems do not have such locks.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


def try_lock(folder: Path) -> int | None:
    """Return a descriptor that holds the lock of a folder until it is closed, or None if another process holds it.

    Raises OSError if the folder cannot be opened, or if its file system does not have locks.
    """
    descriptor = _open(folder)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def is_locked(folder: Path) -> bool:
    """Return whether a process holds the lock of a folder. False if this cannot be determined.

    For a moment, this takes a shared lock. Two processes that test a lock at the same time do not see each other.
    """
    try:
        descriptor = _open(folder)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def _open(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
