"""Exit codes of all programs."""

from __future__ import annotations

OK = 0
#: The process could not do its work, for example because a port was taken.
ERROR = 1
#: A flag, an environment variable or a file from the user is wrong.
USAGE = 2
#: A load run cannot tell whether its objectives were met, for example because the client was the limit.
INVALID = 98
#: A load run missed an objective.
FAILED = 99
#: Interrupted: 128 + SIGINT, as shells report it. Also used if a second SIGTERM or SIGINT ends a process at once.
INTERRUPTED = 130
