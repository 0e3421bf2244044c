"""Exit codes of all programs."""

from __future__ import annotations

OK = 0
#: The program failed, for example because a port is in use.
ERROR = 1
#: A flag, an environment variable or a file from the user is invalid.
USAGE = 2
#: The measurements of a load run are not valid, because the load generator was the bottleneck.
INVALID = 98
#: A load run missed an objective, or measured no request.
FAILED = 99
#: A load run was stopped before its end, or a second SIGTERM or SIGINT ended a process immediately. The value is
#: 128 + SIGINT, as shells report it.
INTERRUPTED = 130
