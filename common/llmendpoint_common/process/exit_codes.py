"""Exit codes of all programs."""

from __future__ import annotations

import signal

OK = 0
#: The program failed, for example because a port is in use.
ERROR = 1
#: A flag, an environment variable or a file from the user is invalid.
USAGE = 2
#: A load run cannot tell: it measured too little, or the load generator was the bottleneck.
INVALID = 98
#: A load run missed an objective, is worse than its baseline, or saturated the server.
FAILED = 99
#: A load run was stopped before its end, or a second SIGTERM or SIGINT ended a process immediately. The value is
#: 128 + SIGINT, as shells report it.
INTERRUPTED = 130


def exit_text(code: int) -> str:
    """Return the exit code of a child process in words: `exit code 1`, or `signal SIGKILL` if it is negative."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"
