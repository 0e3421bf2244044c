"""The limit of open files: it is raised, and compared with the load before the load starts.

Without this check a process at its limit can neither open a connection nor report it, and busies itself with the
attempt.
"""

from __future__ import annotations

import resource
from pathlib import Path

from llmendpoint_common.process.errors import FileLimitError
from llmendpoint_common.results.words import plural

#: Files for the report, the status server, name resolution and their like.
RESERVED_FILES = 32
#: Files that the event loop opens: without them, it cannot even report why it does not start.
LOOP_FILES = 16


def available_connections() -> int:
    """Raise the soft limit of open files to the hard limit, and return how many connections can be opened.

    The number is negative by as many files as are missing without any connection.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        soft = _raise(soft, hard)
    return soft - _open_files() - RESERVED_FILES


def check_connections(needed: int, available: int) -> None:
    """Raise FileLimitError if a load needs more connections at the same time than can be opened."""
    if needed > available:
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        reduce = "reduce the concurrency, or " if available > 0 else ""
        raise FileLimitError(
            f"the load needs at least {plural(needed, 'connection')} at the same time, and the limit of open files "
            f"({limit}) allows {max(0, available)}: {reduce}raise the limit with "
            f"`ulimit -n {limit + needed - available}`"
        )


def _raise(soft: int, hard: int) -> int:
    # macOS reports an infinite hard limit, and refuses more than kern.maxfilesperproc, which is at least 10,240.
    for wanted in (hard, 65_536, 10_240) if hard != resource.RLIM_INFINITY else (1_048_576, 65_536, 10_240):
        if hard != resource.RLIM_INFINITY and wanted > hard:
            continue
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):
            continue
        return max(wanted, soft)
    return soft


def _open_files() -> int:
    for folder in (Path("/proc/self/fd"), Path("/dev/fd")):
        try:
            return sum(1 for _ in folder.iterdir())
        except OSError:
            continue
    return 0
