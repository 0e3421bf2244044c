"""Becomes the load generator, and makes the kernel end it when the dashboard ends.

    python -m llmendpoint_dashboard.loadtests.launcher PARENT ARGUMENTS…

On Linux, a process can ask for a signal when its parent ends, however it ends (prctl(2), PR_SET_PDEATHSIG); the setting
survives execve(2). It has to be set in the child, and code between fork and exec of a process with threads is not safe.
Therefore this small program sets it. SIGINT lets the load generator write its partial result. macOS has nothing
like it: there, a run whose dashboard was killed continues until its end.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Replace this process with the load generator. Does not return."""
    parent = int(arguments[0])
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
        if os.getppid() != parent:
            sys.exit(0)
    os.execv(sys.executable, [sys.executable, "-m", "llmendpoint_loadjob", *arguments[1:]])  # noqa: S606 - no shell


if __name__ == "__main__":
    main(sys.argv[1:])
