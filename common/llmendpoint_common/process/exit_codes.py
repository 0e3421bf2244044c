"""Exit codes of every llmendpoint process."""

from __future__ import annotations

OK = 0
#: The process could not do its work: a taken port, an unreachable API server.
ERROR = 1
#: A flag, a variable or a file that the user gave is wrong.
USAGE = 2
#: A load run could not tell whether its objectives were met: the client was the limit.
INVALID = 98
#: A load run missed an objective.
FAILED = 99
#: Interrupted; also a second SIGTERM or SIGINT, which ends a process at once (128 + SIGINT, as shells report it).
INTERRUPTED = 130
