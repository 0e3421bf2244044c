"""`llmendpoint up --foreground`: stays until a signal, and ends the stack with it."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable

from llmendpoint_cli.stack.folders import Folders
from llmendpoint_cli.stack.lock import exclusive
from llmendpoint_cli.stack.stop import stop_stack
from llmendpoint_common.process import exit_codes


class _StopError(Exception):
    """A signal asks to end."""


def wait_for_end(folders: Folders, supervisor: subprocess.Popen[bytes], say: Callable[[str], None]) -> int:
    """Wait for SIGTERM or SIGINT, and end the stack. If the stack ends by itself, return its exit code."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    try:
        code = supervisor.wait()
    except _StopError:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        with exclusive(folders.root):
            stop_stack(folders, say)
        supervisor.wait()
        return exit_codes.OK
    # `llmendpoint down` of another terminal ends the supervisor with 0.
    return exit_codes.OK if code == 0 else exit_codes.ERROR


def _stop(*_: object) -> None:
    raise _StopError
